//! RootCoord in its second version: see the crate `second-version`.

use plugin_api::BoxError;
use rootcoord::{RootCoord, RootCoordConfig};
use second_version::Second;

fn new(config: RootCoordConfig) -> Result<Second<RootCoord>, BoxError> {
    RootCoord::new(config).map(Second::new)
}

plugin_api::export!(new, schema = schemars::schema_for!(RootCoordConfig));
