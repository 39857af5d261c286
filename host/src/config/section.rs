//! What every section of the configuration can do.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A part's own `…Config`.
pub(super) trait Section: Default + Serialize + DeserializeOwned {
    /// Values that have the right type and yet cannot be used: (key, why).
    fn mistakes(&self) -> Vec<(&'static str, String)>;
}
