//! The smallest legal plugin: it serves nothing, under whatever role its configuration gives it.

use plugin_api::{BoxError, Component, Context, Services, async_trait};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Smallest;

impl Smallest {
    fn new(_: Config) -> Result<Self, BoxError> {
        Ok(Self)
    }
}

#[async_trait]
impl Component for Smallest {
    async fn start(&self, _: Context) -> Result<Services, BoxError> {
        Ok(Services::new())
    }
}

plugin_api::export!(Smallest::new);
