//! Free labels of a session.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels in the order of their names; a JSON object on the wire.
///
/// Kept in one piece: a table has them for each of very many sessions, and a map would take half a kilobyte for a single one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Labels(Box<[(String, String)]>);

impl Labels {
    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// As the contract has them.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.0.iter().cloned().collect()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().collect())
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Labels;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Labels, A::Error> {
                // A name that comes twice has its last value, as in any map.
                let mut map = BTreeMap::new();
                while let Some((name, value)) = object.next_entry()? {
                    map.insert(name, value);
                }
                Ok(map.into())
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_an_object_in_json() {
        let text = r#"{"zone":"a","disk":"no","zone":"b"}"#;
        let labels: Labels = serde_json::from_str(text).expect("labels");
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("disk", "no"), ("zone", "b")]);
        assert_eq!(serde_json::to_string(&labels).expect("JSON"), r#"{"disk":"no","zone":"b"}"#);
        assert_eq!(Labels::from(labels.to_map()), labels);
        serde_json::from_str::<Labels>("[]").expect_err("no object");
    }
}
