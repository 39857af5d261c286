//! QueryCoord in its second version: see the crate `second-version`.

use plugin_api::BoxError;
use querycoord::{QueryCoord, QueryCoordConfig};
use second_version::Second;

fn new(config: QueryCoordConfig) -> Result<Second<QueryCoord>, BoxError> {
    QueryCoord::new(config).map(Second::new)
}

plugin_api::export!(new, schema = schemars::schema_for!(QueryCoordConfig));
