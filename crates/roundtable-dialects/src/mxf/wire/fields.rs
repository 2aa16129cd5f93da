//! Reading a payload field by field, so that each refusal names the field that is wrong.

use std::borrow::Cow;

use crate::members::Members;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::json::Json;
use roundtable_core::limits::MAX_NAME_CHARS;
use serde_json::Value;
use serde_json::value::RawValue;

/// Longest string of a payload in characters, where nothing else is said (MXF notes §5).
pub const MAX_STRING_CHARS: usize = 256;

/// The fields of one object, unread. A field that is `null` counts as absent; of two with one name the last counts.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Where the object stands in the payload, with a final dot: `updates.`; empty for the payload itself.
    prefix: &'static str,
    members: Members<'a>,
}

impl<'a> Fields<'a> {
    /// The payload of an event. Fails when it is missing or no object.
    pub fn payload(raw: Option<&'a RawValue>) -> Result<Self, Error> {
        let members = raw.and_then(|raw| Members::of(raw.get()));
        let members = members.ok_or_else(|| Error::invalid("payload", "must be an object"))?;
        Ok(Self { prefix: "", members })
    }

    /// The object in a field that must be there; `prefix` is its name and a dot.
    pub fn object(&self, name: &'static str, prefix: &'static str) -> Result<Fields<'a>, Error> {
        let raw = self.required(name)?;
        let members = Members::of(raw.get()).ok_or_else(|| self.wrong(name, "must be an object"))?;
        Ok(Fields { prefix, members })
    }

    /// The JSON text of a field, unless it is absent or `null`.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.members.given(name)
    }

    /// The JSON text of a field that must be there.
    pub fn required(&self, name: &'static str) -> Result<&'a RawValue, Error> {
        self.raw(name).ok_or_else(|| self.wrong(name, "is required"))
    }

    /// The refusal of a field: its name as the client knows it, and what it breaks.
    pub fn wrong(&self, name: &str, rule: &str) -> Error {
        let field = format!("{}{name}", self.prefix);
        Error::new(ErrorKind::InvalidField, format!("{field} {rule}")).field(field)
    }

    /// A string of 1 to `most` characters.
    pub fn text(&self, name: &'static str, most: usize) -> Result<Option<Cow<'a, str>>, Error> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let text = self.string(name, raw)?;
        if text.is_empty() || text.chars().count() > most {
            return Err(self.wrong(name, &format!("must have 1 to {most} characters")));
        }
        Ok(Some(text))
    }

    /// A string of any length, as the SDK sends them; what is no string counts as absent.
    pub fn loose(&self, name: &str) -> Option<String> {
        self.raw(name).and_then(string).map(Cow::into_owned)
    }

    /// A string of 1 to 256 characters, owned.
    pub fn words(&self, name: &'static str) -> Result<Option<String>, Error> {
        Ok(self.text(name, MAX_STRING_CHARS)?.map(Cow::into_owned))
    }

    /// A shown name: 1 to 200 characters.
    pub fn name(&self, name: &'static str) -> Result<Option<String>, Error> {
        Ok(self.text(name, MAX_NAME_CHARS)?.map(Cow::into_owned))
    }

    /// An identifier that must be there; `make` checks its form.
    pub fn id<T>(&self, name: &'static str, make: impl Fn(&str) -> Result<T, Error>) -> Result<T, Error> {
        let raw = self.required(name)?;
        let text = self.string(name, raw)?;
        make(&text).map_err(|_| self.wrong(name, "must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -"))
    }

    /// An identifier that may be absent.
    pub fn id_if_any<T>(
        &self,
        name: &'static str,
        make: impl Fn(&str) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if self.raw(name).is_none() { Ok(None) } else { self.id(name, make).map(Some) }
    }

    /// A list of strings of 1 to 256 characters each.
    pub fn strings(&self, name: &'static str) -> Result<Option<Vec<String>>, Error> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let list: Vec<String> =
            serde_json::from_str(raw.get()).map_err(|_| self.wrong(name, "must be an array of strings"))?;
        let fits = |s: &String| !s.is_empty() && s.chars().count() <= MAX_STRING_CHARS;
        if !list.iter().all(fits) {
            return Err(self.wrong(name, "must have entries of 1 to 256 characters"));
        }
        Ok(Some(list))
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &'static str) -> Result<Option<bool>, Error> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let flag = serde_json::from_str(raw.get()).map_err(|_| self.wrong(name, "must be true or false"))?;
        Ok(Some(flag))
    }

    /// One of some words.
    pub fn one_of<T: Copy>(&self, name: &'static str, words: &[(&str, T)]) -> Result<Option<T>, Error> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let text = string(raw).unwrap_or_default();
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let rule = || {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("must be one of {}", all.join(", "))
        };
        found.map(Some).ok_or_else(|| self.wrong(name, &rule()))
    }

    /// An object, carried unchanged.
    pub fn json_object(&self, name: &'static str) -> Result<Option<Json>, Error> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        if !raw.get().starts_with('{') {
            return Err(self.wrong(name, "must be an object"));
        }
        self.carried(name, raw).map(Some)
    }

    /// Any JSON value, carried unchanged. Fails when it is nested more deeply than 128 levels (protocol notes §3).
    pub fn carried(&self, name: &str, raw: &RawValue) -> Result<Json, Error> {
        serde_json::from_str::<Value>(raw.get()).map_err(|error| self.wrong(name, unreadable(&error)))?;
        Ok(Json::from(raw))
    }

    /// A string, or why it is none.
    fn string(&self, name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, Error> {
        string(raw).ok_or_else(|| self.no_string(name, raw, "must be a string"))
    }

    /// The refusal of what is no string: it breaks `rule`, or is one that cannot be read.
    pub fn no_string(&self, name: &str, raw: &RawValue, rule: &str) -> Error {
        self.wrong(name, if raw.get().starts_with('"') { HALF_CHARACTER } else { rule })
    }
}

/// What a text breaks that holds half of a character: one `\\ud83d` without its other half.
const HALF_CHARACTER: &str = "must not hold half of a surrogate pair";

/// Why JSON that is well formed cannot be read.
fn unreadable(error: &serde_json::Error) -> &'static str {
    let said = error.to_string();
    if said.contains("recursion limit") {
        "must not be nested more deeply than 128 levels"
    } else if said.contains("out of range") {
        "must not hold numbers out of range"
    } else {
        HALF_CHARACTER
    }
}

/// A JSON string, borrowed unless it has escapes.
pub fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(raw.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

#[cfg(test)]
mod tests {
    use roundtable_core::ids::RoomId;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_payload_must_be_an_object() {
        for bad in ["null", "[]", "3", "\"x\""] {
            let raw = raw(bad);
            let error = Fields::payload(Some(&raw)).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("payload"), "{bad}");
        }
        assert!(Fields::payload(None).is_err());
    }

    #[test]
    fn refusals_name_the_field_where_it_stands() {
        let raw = raw(r#"{"channelId":"a b","tags":["x",1],"updates":{"status":"gone"},"n":5,"none":null}"#);
        let fields = Fields::payload(Some(&raw)).unwrap();
        let field = |error: Error| error.field.unwrap().into_owned();
        assert_eq!(field(fields.id("channelId", RoomId::new).unwrap_err()), "channelId");
        assert_eq!(field(fields.strings("tags").unwrap_err()), "tags");
        assert_eq!(field(fields.words("n").unwrap_err()), "n");
        assert_eq!(field(fields.required("none").unwrap_err()), "none");
        let updates = fields.object("updates", "updates.").unwrap();
        assert_eq!(field(updates.one_of("status", &[("online", 1)]).unwrap_err()), "updates.status");
        assert_eq!(fields.words("none").unwrap(), None);
    }

    #[test]
    fn strings_are_counted_in_characters() {
        let raw = raw(&format!(r#"{{"a":"{}","b":"{}","e":""}}"#, "ä".repeat(256), "ä".repeat(257)));
        let fields = Fields::payload(Some(&raw)).unwrap();
        assert_eq!(fields.words("a").unwrap().unwrap().chars().count(), 256);
        assert!(fields.words("b").is_err());
        assert!(fields.words("e").is_err());
    }

    #[test]
    fn what_cannot_be_read_is_refused_for_its_own_reason() {
        let raw =
            raw(r#"{"metadata":{"n":1e999},"half":{"t":"\ud83d"},"name":"\ud83d","channelId":"\udc00"}"#);
        let fields = Fields::payload(Some(&raw)).unwrap();
        let said = |error: Error| error.message;
        assert_eq!(
            said(fields.json_object("metadata").unwrap_err()),
            "metadata must not hold numbers out of range"
        );
        let half = "must not hold half of a surrogate pair";
        assert_eq!(said(fields.json_object("half").unwrap_err()), format!("half {half}"));
        assert_eq!(said(fields.words("name").unwrap_err()), format!("name {half}"));
        assert_eq!(said(fields.id("channelId", RoomId::new).unwrap_err()), format!("channelId {half}"));
    }

    #[test]
    fn deep_json_is_refused_and_not_followed() {
        let deep = format!(r#"{{"metadata":{{"a":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let raw = raw(&deep);
        let fields = Fields::payload(Some(&raw)).unwrap();
        assert_eq!(fields.json_object("metadata").unwrap_err().field.unwrap(), "metadata");
    }
}
