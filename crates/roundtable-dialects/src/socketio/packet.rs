//! Socket.IO packets as text: type, attachments, namespace, acknowledgement id, JSON.

use super::{MAIN, MAX_ATTACHMENTS, MAX_NAMESPACE, Violation};

/// JavaScript's largest safe integer: acknowledgement ids above it would come back changed.
const MAX_ACK_ID: u64 = (1 << 53) - 1;

/// Type of a packet; the number is what stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 0: a client asks for a namespace, a server grants it.
    Connect = 0,
    /// 1: leaves a namespace.
    Disconnect = 1,
    /// 2.
    Event = 2,
    /// 3.
    Ack = 3,
    /// 4: a server refuses a namespace.
    ConnectError = 4,
    /// 5: an event with attachments.
    BinaryEvent = 5,
    /// 6: an acknowledgement with attachments.
    BinaryAck = 6,
}

/// A packet's parts, borrowed from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: Kind,
    /// Attachments that follow: 1 to [`MAX_ATTACHMENTS`] for the binary kinds, else 0.
    pub attachments: usize,
    /// Begins with `/`.
    pub namespace: &'a str,
    /// Asks for an acknowledgement or names the one that was asked for.
    pub ack: Option<u64>,
    /// The JSON text, not looked into; may be empty.
    pub data: &'a str,
}

impl<'a> Packet<'a> {
    /// Takes a packet apart (protocol, "Packet encoding") without reading its JSON or allocating.
    pub fn parse(text: &'a str) -> Result<Self, Violation> {
        let (kind, rest) = kind(text)?;
        let (attachments, rest) = match kind {
            Kind::BinaryEvent | Kind::BinaryAck => attachments(rest)?,
            _ => (0, rest),
        };
        let (namespace, rest) = namespace(rest)?;
        // A CONNECT has no id: what follows is its payload, also when that is a number.
        let (ack, data) = if kind == Kind::Connect { (None, rest) } else { ack_id(rest)? };
        let id_fits = match kind {
            Kind::Event | Kind::BinaryEvent => true,
            Kind::Ack | Kind::BinaryAck => ack.is_some(),
            Kind::Connect | Kind::Disconnect | Kind::ConnectError => ack.is_none(),
        };
        if !id_fits {
            return Err(Violation::AckId);
        }
        let first = data.as_bytes().first();
        let data_fits = match kind {
            // JSON of any kind: what is not for the namespace is for its session to refuse.
            Kind::Connect => true,
            Kind::Disconnect => first.is_none(),
            Kind::ConnectError => matches!(first, Some(b'{' | b'"')),
            _ => first == Some(&b'['),
        };
        if !data_fits {
            return Err(Violation::Payload);
        }
        Ok(Self { kind, attachments, namespace, ack, data })
    }
}

fn kind(text: &str) -> Result<(Kind, &str), Violation> {
    let kind = match text.as_bytes().first() {
        Some(b'0') => Kind::Connect,
        Some(b'1') => Kind::Disconnect,
        Some(b'2') => Kind::Event,
        Some(b'3') => Kind::Ack,
        Some(b'4') => Kind::ConnectError,
        Some(b'5') => Kind::BinaryEvent,
        Some(b'6') => Kind::BinaryAck,
        _ => return Err(Violation::PacketType),
    };
    text.get(1..).map(|rest| (kind, rest)).ok_or(Violation::PacketType)
}

fn attachments(text: &str) -> Result<(usize, &str), Violation> {
    let (digits, rest) = leading_digits(text);
    let count = digits.parse().map_err(|_| Violation::Attachments)?;
    let rest = rest.strip_prefix('-').ok_or(Violation::Attachments)?;
    if (1..=MAX_ATTACHMENTS).contains(&count) { Ok((count, rest)) } else { Err(Violation::Attachments) }
}

fn namespace(text: &str) -> Result<(&str, &str), Violation> {
    if !text.starts_with('/') {
        return Ok((MAIN, text));
    }
    // Without a comma the name goes on to the end: clients write `40/chat` as well as `40/chat,`.
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    // The name is echoed in answers as it is, outside of any JSON.
    if name.len() > MAX_NAMESPACE || name.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Violation::Namespace);
    }
    Ok((name, rest))
}

fn ack_id(text: &str) -> Result<(Option<u64>, &str), Violation> {
    let (digits, rest) = leading_digits(text);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse() {
        Ok(id) if id <= MAX_ACK_ID => Ok((Some(id), rest)),
        _ => Err(Violation::AckId),
    }
}

fn leading_digits(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(digits).unwrap_or(("", text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(kind: Kind, namespace: &'static str, ack: Option<u64>, data: &'static str) -> Packet<'static> {
        Packet { kind, attachments: 0, namespace, ack, data }
    }

    #[test]
    fn packets_are_taken_apart() {
        let cases = [
            ("0", packet(Kind::Connect, "/", None, "")),
            (r#"0{"token":"1"}"#, packet(Kind::Connect, "/", None, r#"{"token":"1"}"#)),
            ("05", packet(Kind::Connect, "/", None, "5")),
            ("0/custom", packet(Kind::Connect, "/custom", None, "")),
            ("0/custom,{}", packet(Kind::Connect, "/custom", None, "{}")),
            ("1", packet(Kind::Disconnect, "/", None, "")),
            ("1/admin,", packet(Kind::Disconnect, "/admin", None, "")),
            (r#"2["a"]"#, packet(Kind::Event, "/", None, r#"["a"]"#)),
            (r#"2/a/b,12["a/b,c"]"#, packet(Kind::Event, "/a/b", Some(12), r#"["a/b,c"]"#)),
            ("30[]", packet(Kind::Ack, "/", Some(0), "[]")),
            ("3/x,9007199254740991[]", packet(Kind::Ack, "/x", Some(9_007_199_254_740_991), "[]")),
            (r#"4{"message":"no"}"#, packet(Kind::ConnectError, "/", None, r#"{"message":"no"}"#)),
            ("52-[1]", Packet { attachments: 2, ..packet(Kind::BinaryEvent, "/", None, "[1]") }),
            ("616-/n,3[]", Packet { attachments: 16, ..packet(Kind::BinaryAck, "/n", Some(3), "[]") }),
        ];
        for (text, expected) in cases {
            assert_eq!(Packet::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_part_is_checked() {
        let cases = [
            ("", Violation::PacketType),
            ("abc", Violation::PacketType),
            ("7", Violation::PacketType),
            ("5[1]", Violation::Attachments),
            ("5-[1]", Violation::Attachments),
            ("50-[1]", Violation::Attachments),
            ("517-[1]", Violation::Attachments),
            ("5+1-[1]", Violation::Attachments),
            ("599999999999999999999999-[1]", Violation::Attachments),
            ("0/a\u{1e}b,", Violation::Namespace),
            ("2/a\n,[1]", Violation::Namespace),
            ("29007199254740992[\"a\"]", Violation::AckId),
            ("299999999999999999999[\"a\"]", Violation::AckId),
            ("3[]", Violation::AckId),
            ("61-[]", Violation::AckId),
            ("11", Violation::AckId),
            ("2", Violation::Payload),
            ("2{}", Violation::Payload),
            (r#"2abc["a"]"#, Violation::Payload),
            ("2/ns", Violation::Payload),
            ("1{}", Violation::Payload),
            ("31{}", Violation::Payload),
            ("4", Violation::Payload),
        ];
        for (text, expected) in cases {
            assert_eq!(Packet::parse(text), Err(expected), "{text:?}");
        }
        let long = format!("0/{},", "x".repeat(MAX_NAMESPACE - 1));
        assert!(Packet::parse(&long).is_ok());
        let long = format!("0/{},", "x".repeat(MAX_NAMESPACE));
        assert_eq!(Packet::parse(&long), Err(Violation::Namespace));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-7]?([0-9]{0,2}-)?(/[a-zä?]*,?)?[0-9]{0,20}.{0,20}") {
            let _ = Packet::parse(&text);
        }

        #[test]
        fn the_parts_are_slices_of_the_text(text in r#"[0-6](1-)?(/[a-z]{0,5},)?[0-9]{0,4}(\[1\]|\{\})?"#) {
            if let Ok(packet) = Packet::parse(&text) {
                prop_assert!(text.ends_with(packet.data));
                prop_assert!(packet.namespace == MAIN || text.contains(packet.namespace));
            }
        }
    }
}
