//! The members of an object, unread: nobody builds a tree of a whole message to find out what it is.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

/// The members of one object, each as JSON text. Of two with one name the last counts.
#[derive(Debug, Default)]
pub struct Members<'a>(SmallVec<[(Cow<'a, str>, &'a RawValue); 8]>);

impl<'a> Members<'a> {
    /// Those of a JSON text; `None` unless it is an object.
    pub fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The text of a member.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| *raw)
    }

    /// The text of a member, unless it is `null`.
    pub fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|raw| raw.get() != "null")
    }

    /// A member that is a string.
    pub fn string(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }
}

/// A key, borrowed where JSON allows it.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = SmallVec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::Members;

    #[test]
    fn members_are_found_and_not_read() {
        let text = r#"{"a":1,"b\u0062":"x","a":[{"deep":true}],"n":null}"#;
        let members = Members::of(text).unwrap();
        assert_eq!(members.get("a").map(|raw| raw.get()), Some(r#"[{"deep":true}]"#), "the last counts");
        assert_eq!(members.string("bb").as_deref(), Some("x"));
        assert!(members.get("n").is_some() && members.given("n").is_none() && members.get("c").is_none());
        for none in ["[]", "1", "null", "{\"a\":}", "{} {}", "{\"a\":1"] {
            assert!(Members::of(none).is_none(), "{none}");
        }
    }
}
