//! Polling payloads: several packets in one HTTP body, separated by U+001E.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::packet::{InvalidPacket, Packet};

/// Record separator between packets; JSON never contains it unescaped.
const SEPARATOR: u8 = 0x1e;

/// The packets of a request body, first to last. The body's size is checked while it is read; an empty body
/// is one empty, hence invalid, packet. Whoever gets an error stops there: the session is over.
pub fn decode(body: &str) -> impl Iterator<Item = Result<Packet<'_>, InvalidPacket>> {
    body.split(char::from(SEPARATOR)).map(Packet::from_payload)
}

/// A packet that waits to be polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing<'a> {
    /// A whole text packet with its type character: `4…`, `2`.
    Text(&'a [u8]),
    /// Bytes of a binary message; they leave as `b` and base64.
    Binary(&'a [u8]),
}

impl Outgoing<'_> {
    fn encoded_len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => 1 + bytes.len().div_ceil(3) * 4,
        }
    }
}

/// Encodes as many packets from the front as fit into `limit` bytes, but at least one, and says how many
/// that were; the caller takes them off its queue. Content type: `text/plain; charset=UTF-8`.
pub fn encode<'a>(packets: impl Iterator<Item = Outgoing<'a>> + Clone, limit: usize) -> (Vec<u8>, usize) {
    let (mut size, mut taken) = (0, 0);
    for packet in packets.clone() {
        let next = if taken == 0 { packet.encoded_len() } else { size + 1 + packet.encoded_len() };
        if taken > 0 && next > limit {
            break;
        }
        size = next;
        taken += 1;
    }
    (write(packets.take(taken), size), taken)
}

/// Encodes all packets and a close packet after them: the last answer a polling client gets
/// ([`PollAnswer::Last`](super::PollAnswer::Last)).
pub fn encode_last<'a>(packets: impl Iterator<Item = Outgoing<'a>> + Clone) -> Vec<u8> {
    let all = packets.chain(std::iter::once(Outgoing::Text(b"1")));
    let size = all.clone().map(|packet| packet.encoded_len() + 1).sum::<usize>() - 1;
    write(all, size)
}

fn write<'a>(packets: impl Iterator<Item = Outgoing<'a>>, size: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size);
    let mut base64 = String::new();
    for (index, packet) in packets.enumerate() {
        if index > 0 {
            body.push(SEPARATOR);
        }
        match packet {
            Outgoing::Text(text) => body.extend_from_slice(text),
            Outgoing::Binary(bytes) => {
                base64.clear();
                STANDARD.encode_string(bytes, &mut base64);
                body.push(b'b');
                body.extend_from_slice(base64.as_bytes());
            }
        }
    }
    debug_assert_eq!(body.len(), size);
    body
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::super::packet::Message;
    use super::*;

    fn text(packets: &[Outgoing<'_>], limit: usize) -> (String, usize) {
        let (body, taken) = encode(packets.iter().copied(), limit);
        (String::from_utf8(body).unwrap(), taken)
    }

    #[test]
    fn packets_are_joined_in_order() {
        let packets = [Outgoing::Text(b"4hello"), Outgoing::Binary(&[1, 2, 3, 4]), Outgoing::Text(b"2")];
        assert_eq!(text(&packets, 1000), ("4hello\u{1e}bAQIDBA==\u{1e}2".to_owned(), 3));
    }

    #[test]
    fn the_limit_counts_separators_and_never_stops_the_first() {
        let packets = [Outgoing::Text(b"4aaaa"), Outgoing::Text(b"4bbb"), Outgoing::Binary(&[0])];
        assert_eq!(text(&packets, 1), ("4aaaa".to_owned(), 1));
        assert_eq!(text(&packets, 9).1, 1);
        assert_eq!(text(&packets, 10), ("4aaaa\u{1e}4bbb".to_owned(), 2));
        assert_eq!(text(&packets, 15).1, 2);
        assert_eq!(text(&packets, 16).1, 3);
        assert_eq!(text(&[], 10), (String::new(), 0));
    }

    #[test]
    fn the_last_answer_ends_with_a_close_packet() {
        assert_eq!(encode_last(std::iter::empty()), b"1");
        let packets = [Outgoing::Text(b"44/x,{}"), Outgoing::Binary(&[255])];
        assert_eq!(encode_last(packets.into_iter()), b"44/x,{}\x1eb/w==\x1e1");
    }

    #[test]
    fn empty_packets_are_invalid_wherever_they_are() {
        for body in ["", "4a\u{1e}", "\u{1e}4a", "4a\u{1e}\u{1e}4b"] {
            assert!(decode(body).any(|packet| packet == Err(InvalidPacket)), "{body:?}");
        }
    }

    fn message() -> impl Strategy<Value = Result<String, Vec<u8>>> {
        prop_oneof!["[^\u{1e}]{0,40}".prop_map(Ok), prop::collection::vec(any::<u8>(), 0..40).prop_map(Err)]
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_panic(body in ".{0,200}") {
            prop_assert!(decode(&body).count() >= 1);
        }

        #[test]
        fn what_was_encoded_comes_back_whatever_the_limit(
            messages in prop::collection::vec(message(), 1..12),
            limit in 1_usize..120,
        ) {
            let wire: Vec<Result<String, &Vec<u8>>> =
                messages.iter().map(|m| m.as_ref().map(|text| format!("4{text}"))).collect();
            let queue: Vec<Outgoing<'_>> = wire
                .iter()
                .map(|m| match m {
                    Ok(text) => Outgoing::Text(text.as_bytes()),
                    Err(bytes) => Outgoing::Binary(bytes),
                })
                .collect();
            let mut back = Vec::new();
            let mut rest = &queue[..];
            while !rest.is_empty() {
                let (body, taken) = encode(rest.iter().copied(), limit);
                prop_assert!(taken >= 1 && (taken == 1 || body.len() <= limit));
                rest = &rest[taken..];
                for packet in decode(std::str::from_utf8(&body).unwrap()) {
                    back.push(match packet.unwrap() {
                        Packet::Message(Message::Text(text)) => Ok(text.to_owned()),
                        Packet::Message(Message::Binary(Cow::Owned(bytes))) => Err(bytes),
                        other => panic!("unexpected {other:?}"),
                    });
                }
            }
            prop_assert_eq!(back, messages);
        }
    }
}
