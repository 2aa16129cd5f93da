//! Packets towards clients, each as one whole Engine.IO text packet (`42["hello"]`).
//!
//! Arguments are JSON texts and are trusted to be. A packet with attachments contains a [`placeholder`] for
//! each, and its attachments must be sent right after it, in the order of their numbers.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::MAIN;
use super::packet::Kind;
use crate::engineio::Sid;

/// Who an event goes to and what it is called.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// `/` or `/name`.
    pub namespace: &'a str,
    /// The event's name.
    pub name: &'a str,
    /// Asks the client for an acknowledgement with this id.
    pub ack: Option<u64>,
}

impl<'a> Address<'a> {
    /// An event without acknowledgement.
    pub fn new(namespace: &'a str, name: &'a str) -> Self {
        Self { namespace, name, ack: None }
    }
}

/// `42/namespace,ID["name",…]` in one allocation; with `attachments`, `45N-…`.
pub fn event<'a, I>(to: Address<'_>, args: I, attachments: usize) -> String
where
    I: IntoIterator<Item = &'a str, IntoIter: Clone>,
{
    let args = args.into_iter();
    let size = args.clone().map(|arg| arg.len() + 1).sum::<usize>();
    let mut packet = event_head(to, attachments, size);
    for arg in args {
        packet.push(',');
        packet.push_str(arg);
    }
    packet.push(']');
    packet
}

/// `42/namespace,ID["name",argument]` with one argument that is serialized in place. Fails only if the
/// argument's `Serialize` does.
pub fn event_of<T: Serialize + ?Sized>(to: Address<'_>, argument: &T) -> Result<String, serde_json::Error> {
    let mut packet = event_head(to, 0, 256);
    packet.push(',');
    close_with(packet, argument)
}

/// `43/namespace,ID[…]`; with `attachments`, `46N-…`.
pub fn ack<'a, I>(namespace: &str, id: u64, args: I, attachments: usize) -> String
where
    I: IntoIterator<Item = &'a str, IntoIter: Clone>,
{
    let args = args.into_iter();
    let size = args.clone().map(|arg| arg.len() + 1).sum::<usize>();
    let mut packet = ack_head(namespace, id, attachments, size);
    for (index, arg) in args.enumerate() {
        if index > 0 {
            packet.push(',');
        }
        packet.push_str(arg);
    }
    packet.push(']');
    packet
}

/// `43/namespace,ID[argument]` with one argument that is serialized in place. Fails only if the argument's
/// `Serialize` does.
pub fn ack_of<T: Serialize + ?Sized>(
    namespace: &str,
    id: u64,
    argument: &T,
) -> Result<String, serde_json::Error> {
    close_with(ack_head(namespace, id, 0, 256), argument)
}

/// `40/namespace,{"sid":"…"}`: the namespace is granted.
pub fn connected(namespace: &str, sid: &Sid) -> String {
    let mut packet = head(Kind::Connect, 0, namespace, 32);
    packet.push_str(r#"{"sid":""#);
    packet.push_str(sid.as_str());
    packet.push_str("\"}");
    packet
}

/// `44/namespace,{"message":"…","data":…}`: the namespace is refused. `data` is JSON.
pub fn connect_error(namespace: &str, message: &str, data: Option<&str>) -> String {
    let mut packet = head(Kind::ConnectError, 0, namespace, message.len() + data.map_or(0, str::len) + 24);
    packet.push_str(r#"{"message":"#);
    push_string(&mut packet, message);
    if let Some(data) = data {
        packet.push_str(r#","data":"#);
        packet.push_str(data);
    }
    packet.push('}');
    packet
}

/// `41/namespace,`: the server ends the namespace. A JavaScript client does not reconnect by itself after it.
pub fn disconnect(namespace: &str) -> String {
    head(Kind::Disconnect, 0, namespace, 0)
}

/// The JSON that stands for an attachment: `{"_placeholder":true,"num":number}`.
pub fn placeholder(number: usize) -> String {
    format!(r#"{{"_placeholder":true,"num":{number}}}"#)
}

fn event_head(to: Address<'_>, attachments: usize, size: usize) -> String {
    let kind = if attachments == 0 { Kind::Event } else { Kind::BinaryEvent };
    let mut packet = head(kind, attachments, to.namespace, size + to.name.len() + 24);
    if let Some(id) = to.ack {
        push_number(&mut packet, id);
    }
    packet.push('[');
    push_string(&mut packet, to.name);
    packet
}

fn ack_head(namespace: &str, id: u64, attachments: usize, size: usize) -> String {
    let kind = if attachments == 0 { Kind::Ack } else { Kind::BinaryAck };
    let mut packet = head(kind, attachments, namespace, size + 24);
    push_number(&mut packet, id);
    packet.push('[');
    packet
}

/// Type, attachments and namespace, with room for `size` more bytes.
fn head(kind: Kind, attachments: usize, namespace: &str, size: usize) -> String {
    let mut packet = String::with_capacity(namespace.len() + size + 8);
    packet.push('4');
    packet.push(char::from(b'0' + kind as u8));
    if matches!(kind, Kind::BinaryEvent | Kind::BinaryAck) {
        push_number(&mut packet, attachments as u64);
        packet.push('-');
    }
    if namespace != MAIN {
        packet.push_str(namespace);
        packet.push(',');
    }
    packet
}

fn push_number(packet: &mut String, number: u64) {
    // Writing to a String cannot fail.
    let _ = write!(packet, "{number}");
}

fn push_string(packet: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        // `Display` of a JSON value cannot fail.
        let _ = write!(packet, "{}", Value::from(text));
        return;
    }
    packet.push('"');
    packet.push_str(text);
    packet.push('"');
}

fn close_with<T: Serialize + ?Sized>(packet: String, argument: &T) -> Result<String, serde_json::Error> {
    let mut bytes = packet.into_bytes();
    serde_json::to_writer(&mut bytes, argument)?;
    bytes.push(b']');
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::packet::Packet;
    use super::super::{Args, MAX_ATTACHMENTS};
    use super::*;

    #[test]
    fn events_and_acks_have_the_documented_form() {
        let to = Address::new("/", "hello");
        assert_eq!(event(to, [], 0), r#"42["hello"]"#);
        assert_eq!(event(to, ["1", "{}"], 0), r#"42["hello",1,{}]"#);
        let to = Address { namespace: "/admin", name: "say \"hi\"", ack: Some(13) };
        assert_eq!(event(to, ["null"], 0), r#"42/admin,13["say \"hi\"",null]"#);
        assert_eq!(event_of(to, &json!({"a": 1})).unwrap(), r#"42/admin,13["say \"hi\"",{"a":1}]"#);
        assert_eq!(ack("/", 456, ["1", "\"2\""], 0), r#"43456[1,"2"]"#);
        assert_eq!(ack("/x", 0, [], 0), "43/x,0[]");
        assert_eq!(ack_of("/x", 7, "ä").unwrap(), r#"43/x,7["ä"]"#);
    }

    #[test]
    fn attachments_are_announced() {
        let (zero, one) = (placeholder(0), placeholder(1));
        let text = event(Address::new("/", "baz"), [zero.as_str(), one.as_str()], 2);
        assert_eq!(text, r#"452-["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        assert_eq!(ack("/admin", 15, [zero.as_str()], 1), r#"461-/admin,15[{"_placeholder":true,"num":0}]"#);
    }

    #[test]
    fn answers_to_connect_and_the_disconnect_packet() {
        let sid = Sid::from_random([0; 15]);
        assert_eq!(connected("/", &sid), r#"40{"sid":"AAAAAAAAAAAAAAAAAAAA"}"#);
        assert_eq!(connected("/custom", &sid), r#"40/custom,{"sid":"AAAAAAAAAAAAAAAAAAAA"}"#);
        assert_eq!(
            connect_error("/random", "Invalid namespace", None),
            r#"44/random,{"message":"Invalid namespace"}"#
        );
        assert_eq!(
            connect_error("/", "a\nb", Some(r#"{"code":1}"#)),
            r#"44{"message":"a\nb","data":{"code":1}}"#
        );
        assert_eq!(disconnect("/"), "41");
        assert_eq!(disconnect("/admin"), "41/admin,");
    }

    #[test]
    fn one_allocation_is_enough() {
        let arg = "1".repeat(1000);
        for text in [event(Address::new("/dev", "name"), [arg.as_str()], 0), ack("/", 9, [arg.as_str()], 0)] {
            assert!(text.capacity() - text.len() < 40, "grown to {}", text.capacity());
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(
            namespace in "/[a-z/_-]{0,12}",
            name in "[^\u{0}]{1,12}",
            numbers in prop::collection::vec(any::<i64>(), 0..7),
            id in prop::option::of(0_u64..1 << 53),
            attachments in 0..=MAX_ATTACHMENTS,
        ) {
            let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let args = texts.iter().map(String::as_str);
            let text = event(Address { namespace: &namespace, name: &name, ack: id }, args.clone(), attachments);
            let packet = Packet::parse(text.strip_prefix('4').unwrap()).unwrap();
            prop_assert_eq!(packet.attachments, attachments);
            prop_assert_eq!((packet.namespace, packet.ack), (namespace.as_str(), id));
            let mut back = Args::read(packet.data, &[]).unwrap();
            if let Ok(read) = back.take_name() {
                prop_assert_eq!(read, name);
            }
            prop_assert!(back.iter().eq(args.clone()));

            let text = ack(&namespace, id.unwrap_or(0), args.clone(), attachments);
            let packet = Packet::parse(text.strip_prefix('4').unwrap()).unwrap();
            prop_assert_eq!((packet.namespace, packet.ack), (namespace.as_str(), Some(id.unwrap_or(0))));
            prop_assert!(Args::read(packet.data, &[]).unwrap().iter().eq(args));
        }
    }
}
