//! QueryNode in its second version: see the crate `second-version`.

use plugin_api::BoxError;
use querynode::{QueryNode, QueryNodeConfig};
use second_version::Second;

fn new(config: QueryNodeConfig) -> Result<Second<QueryNode>, BoxError> {
    QueryNode::new(config).map(Second::new)
}

plugin_api::export!(new, schema = schemars::schema_for!(QueryNodeConfig));
