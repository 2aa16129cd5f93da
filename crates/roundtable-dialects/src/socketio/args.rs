//! Arguments of an event or an acknowledgement: slices of the packet's JSON, and its attachments.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::Violation;

/// Names that client libraries emit to themselves; the reference server hangs up on them too.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Arguments after the event's name, or those of an acknowledgement.
///
/// Each is checked JSON, borrowed from the packet and not yet read; dialects deserialize the ones they need.
/// In a packet with attachments, the object `{"_placeholder":true,"num":n}` stands where attachment `n`
/// belongs; in any other packet that object is plain data. How deep the JSON is nested shows only when it is
/// read (`serde_json` stops at 128).
#[derive(Debug, Clone, Default)]
pub struct Args<'a> {
    values: SmallVec<[&'a RawValue; 4]>,
    attachments: &'a [Bytes],
}

impl<'a> Args<'a> {
    /// Reads a JSON array. Allocates only from the fifth element on.
    pub(super) fn read(json: &'a str, attachments: &'a [Bytes]) -> Result<Self, Violation> {
        let Slices(values) = serde_json::from_str(json).map_err(|_| Violation::Payload)?;
        Ok(Self { values, attachments })
    }

    /// Takes the event's name off the front.
    pub(super) fn take_name(&mut self) -> Result<Cow<'a, str>, Violation> {
        if self.values.is_empty() {
            return Err(Violation::Payload);
        }
        let name = string(self.values.remove(0)).ok_or(Violation::EventName)?;
        if RESERVED.contains(&name.as_ref()) { Err(Violation::EventName) } else { Ok(name) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All of them, with placeholders where attachments belong.
    pub fn raw(&self) -> &[&'a RawValue] {
        &self.values
    }

    /// JSON text of an argument, with placeholders where attachments belong.
    pub fn get(&self, index: usize) -> Option<&'a str> {
        self.values.get(index).map(|value| value.get())
    }

    /// JSON texts of all arguments, first to last.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + Clone {
        self.values.iter().map(|value| value.get())
    }

    /// Reads an argument; an absent one reads as `null`, as JavaScript's missing arguments do.
    pub fn parse<T: Deserialize<'a>>(&self, index: usize) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.get(index).unwrap_or("null"))
    }

    /// Attachments in the order of their numbers.
    pub fn attachments(&self) -> &'a [Bytes] {
        self.attachments
    }

    /// The attachment that an argument is, as a whole; `None` if it is JSON.
    pub fn bytes(&self, index: usize) -> Option<&'a Bytes> {
        if self.attachments.is_empty() {
            return None;
        }
        let value: Value = serde_json::from_str(self.get(index)?).ok()?;
        self.attachments.get(placeholder(&value)?)
    }

    /// Reads an argument with every attachment in it, at any depth, replaced by its padded base64 text.
    pub fn with_base64(&self, index: usize) -> Result<Value, serde_json::Error> {
        let mut value = self.parse(index)?;
        if !self.attachments.is_empty() {
            let attachments = self.attachments;
            each_placeholder(&mut value, &mut |number| {
                attachments.get(number).map(|bytes| Value::String(STANDARD.encode(bytes)))
            });
        }
        Ok(value)
    }
}

/// Checks that every placeholder in the JSON names one of `count` attachments.
pub(super) fn check_placeholders(json: &str, count: usize) -> Result<(), Violation> {
    let mut value: Value = serde_json::from_str(json).map_err(|_| Violation::Payload)?;
    let mut fine = true;
    each_placeholder(&mut value, &mut |number| {
        fine &= number < count;
        None
    });
    if fine { Ok(()) } else { Err(Violation::Placeholder) }
}

/// The number in a placeholder object; one that is no index counts as too large for any packet.
fn placeholder(value: &Value) -> Option<usize> {
    let object = value.as_object()?;
    if object.get("_placeholder") != Some(&Value::Bool(true)) {
        return None;
    }
    let number = object.get("num").and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
    Some(number.unwrap_or(usize::MAX))
}

/// Visits all placeholders and puts in their place what `replace` gives.
fn each_placeholder(value: &mut Value, replace: &mut impl FnMut(usize) -> Option<Value>) {
    if let Some(number) = placeholder(value) {
        if let Some(new) = replace(number) {
            *value = new;
        }
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_placeholder(item, replace)),
        Value::Object(fields) => fields.values_mut().for_each(|field| each_placeholder(field, replace)),
        _ => {}
    }
}

/// A JSON string, borrowed unless it contains escapes.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(raw.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

struct Slices<'a>(SmallVec<[&'a RawValue; 4]>);

impl<'de> Deserialize<'de> for Slices<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Slices<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut values = SmallVec::new();
                while let Some(value) = sequence.next_element()? {
                    values.push(value);
                }
                Ok(Slices(values))
            }
        }

        deserializer.deserialize_seq(Collect)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read<'a>(json: &'a str, attachments: &'a [Bytes]) -> Args<'a> {
        Args::read(json, attachments).unwrap()
    }

    #[test]
    fn arguments_are_slices_of_the_text() {
        let text = r#"[ "a" , {"b" : [1, 2]},null , 1e3 ]"#;
        let args = read(text, &[]);
        assert_eq!(args.iter().collect::<Vec<_>>(), [r#""a""#, r#"{"b" : [1, 2]}"#, "null", "1e3"]);
        assert!(!args.values.spilled());
        assert!(text.as_bytes().as_ptr_range().contains(&args.get(1).unwrap().as_ptr()));
        assert_eq!(args.parse::<Option<u32>>(7).unwrap(), None);
        assert_eq!(args.parse::<f64>(3).unwrap(), 1000.0);
    }

    #[test]
    fn names_are_borrowed_strings_and_reserved_ones_refused() {
        let name = |json| read(json, &[]).take_name();
        assert!(matches!(name(r#"["message:send",1]"#), Ok(Cow::Borrowed("message:send"))));
        assert!(matches!(name(r#"["\u0061\n"]"#), Ok(Cow::Owned(name)) if name == "a\n"));
        assert_eq!(name("[]"), Err(Violation::Payload));
        for json in ["[1]", "[null]", r#"[["a"]]"#, r#"["connect"]"#, r#"["disconne\u0063t"]"#] {
            assert_eq!(name(json), Err(Violation::EventName), "{json}");
        }
    }

    #[test]
    fn broken_json_is_an_illegal_payload() {
        for json in ["", "{}", "[", "[1,]", "[1]x", "[\"a]", "[\"\\x\"]", "[nul]"] {
            assert!(matches!(Args::read(json, &[]), Err(Violation::Payload)), "{json}");
        }
        let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        let args = read(&deep, &[]);
        assert!(args.parse::<Value>(0).is_err(), "depth is the reader's error, not a crash");
    }

    #[test]
    fn attachments_are_found_whole_and_nested() {
        let attachments = [Bytes::from_static(&[1, 2, 3]), Bytes::from_static(b"x")];
        let json =
            r#"[{"_placeholder":true,"num":1},{"file":{"data":{"num":0,"_placeholder":true}}},{"num":1}]"#;
        let args = read(json, &attachments);
        assert_eq!(args.bytes(0), Some(&attachments[1]));
        assert_eq!(args.bytes(1), None);
        assert_eq!(args.bytes(2), None);
        assert_eq!(args.with_base64(0).unwrap(), json!("eA=="));
        assert_eq!(args.with_base64(1).unwrap(), json!({"file": {"data": "AQID"}}));
        assert_eq!(args.with_base64(9).unwrap(), Value::Null);
    }

    #[test]
    fn without_attachments_a_placeholder_is_data() {
        let args = read(r#"[{"_placeholder":true,"num":0}]"#, &[]);
        assert_eq!(args.bytes(0), None);
        assert_eq!(args.with_base64(0).unwrap(), json!({"_placeholder": true, "num": 0}));
    }

    #[test]
    fn placeholders_must_name_an_attachment() {
        assert_eq!(check_placeholders(r#"["a",{"_placeholder":true,"num":1}]"#, 2), Ok(()));
        assert_eq!(check_placeholders(r#"["a",{"_placeholder":false,"num":9}]"#, 1), Ok(()));
        for bad in ["2", "-1", "0.5", "\"0\"", "null"] {
            let json = format!(r#"["a",[{{"x":{{"_placeholder":true,"num":{bad}}}}}]]"#);
            assert_eq!(check_placeholders(&json, 2), Err(Violation::Placeholder), "{bad}");
        }
        assert_eq!(check_placeholders(r#"[{"_placeholder":true}]"#, 1), Err(Violation::Placeholder));
    }

    proptest! {
        #[test]
        fn no_json_makes_the_reader_panic(json in "\\[?[\\[\\]{}\",:0-9a-z\\\\ä ]{0,40}") {
            if let Ok(mut args) = Args::read(&json, &[]) {
                let _ = args.take_name();
            }
            let _ = check_placeholders(&json, 1);
        }
    }
}
