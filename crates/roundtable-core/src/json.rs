//! JSON that is carried, not read: a checked text whose meaning belongs to the clients.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind};

/// A valid JSON text, cheap to clone. Rules never look inside; the dialects splice it into their frames unchanged.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

impl Json {
    /// Checks `text`. Fails with [`ErrorKind::InvalidField`] when it is not one JSON value.
    pub fn parse(text: &str) -> Result<Self, Error> {
        serde_json::from_str::<&RawValue>(text)
            .map(Self::from)
            .map_err(|e| Error::new(ErrorKind::InvalidField, format!("not JSON: {e}")))
    }

    /// The JSON text of any serializable value; `null` for the few that have none.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        serde_json::to_string(value).map_or_else(|_| Self("null".into()), |text| Self(text.into()))
    }

    /// An object without members.
    pub fn empty_object() -> Self {
        Self("{}".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the value into a type of the caller's.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_str(&self.0).ok()
    }

    /// The members of `patch` laid over those of `self`; a side that is not an object counts as empty.
    pub fn merged(&self, patch: &Json) -> Self {
        type Object = serde_json::Map<String, serde_json::Value>;
        let mut whole: Object = self.read().unwrap_or_default();
        whole.extend(patch.read::<Object>().unwrap_or_default());
        Self::of(&whole)
    }
}

/// Whether valid JSON has more than `most` arrays and objects in one another.
pub fn deeper_than(json: &str, most: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self(raw.get().into())
    }
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Self {
        Self::of(value)
    }
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::empty_object()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self::from(&*raw))
    }
}

#[cfg(test)]
mod tests {
    use super::{Json, deeper_than};

    #[test]
    fn carries_text_unchanged_and_refuses_what_is_not_json() {
        let text = r#"{"b":1.0,"a":[true,null]}"#;
        assert_eq!(Json::parse(text).unwrap().as_str(), text);
        assert!(Json::parse("{").is_err());
    }

    #[test]
    fn depth_counts_what_stands_in_one_another_and_no_texts() {
        for (text, depth) in [("1", 0), ("[]", 1), (r#"{"a":[{}],"b":[[]]}"#, 3), (r#"["[[\"[[", "{"]"#, 1)] {
            assert!(!deeper_than(text, depth), "{text}");
            assert!(depth == 0 || deeper_than(text, depth - 1), "{text}");
        }
    }

    #[test]
    fn merging_overwrites_members_and_keeps_the_rest() {
        let merged = Json::parse(r#"{"a":1,"b":2}"#).unwrap().merged(&Json::parse(r#"{"b":3}"#).unwrap());
        assert_eq!(merged.as_str(), r#"{"a":1,"b":3}"#);
    }
}
