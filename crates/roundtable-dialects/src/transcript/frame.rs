//! Frames in readable form: `["name",{…}] #1 +00ff` is a Socket.IO event with an acknowledgement id and an attachment.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::session::Message;

/// What a Socket.IO client sends.
#[derive(Debug)]
pub enum Packet {
    /// An event.
    Event {
        /// Its name.
        name: String,
        /// The arguments after the name.
        args: Vec<Box<RawValue>>,
        /// The id of the acknowledgement that is waited for.
        ack: Option<u64>,
        /// Binary attachments.
        attachments: Vec<Bytes>,
    },
    /// `ack 1 […]`: the answer to a question of the server's.
    Answer {
        /// The question's number.
        number: u64,
        /// The arguments.
        args: Vec<Box<RawValue>>,
        /// Binary attachments.
        attachments: Vec<Bytes>,
    },
}

/// Reads what a Socket.IO client sends.
pub fn packet(text: &str) -> Result<Packet, String> {
    if let Some(rest) = text.strip_prefix("ack ") {
        let (number, rest) = super::line::word(rest);
        let number = number.parse().map_err(|_| format!("`{number}` is no number of a question"))?;
        let (args, ack, attachments) = parts(rest)?;
        return match ack {
            None => Ok(Packet::Answer { number, args, attachments }),
            Some(_) => Err("an answer asks for no acknowledgement".into()),
        };
    }
    let (mut args, ack, attachments) = parts(text)?;
    if args.is_empty() {
        return Err("an event has a name".into());
    }
    let name = args.remove(0);
    let name = serde_json::from_str(name.get()).map_err(|_| "an event's name is a string".to_owned())?;
    Ok(Packet::Event { name, args, ack, attachments })
}

type Parts = (Vec<Box<RawValue>>, Option<u64>, Vec<Bytes>);

/// An array of arguments, then `#id` and `+hex` in any order.
fn parts(text: &str) -> Result<Parts, String> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Vec<Box<RawValue>>>();
    let args = match stream.next() {
        Some(args) => args.map_err(|error| format!("not an array: {error}"))?,
        None => return Err("an event is an array".into()),
    };
    let (mut ack, mut attachments) = (None, Vec::new());
    for word in text.get(stream.byte_offset()..).unwrap_or("").split_whitespace() {
        match (word.strip_prefix('#'), word.strip_prefix('+')) {
            (Some(id), _) => {
                ack = Some(id.parse().map_err(|_| format!("`{word}` is no acknowledgement id"))?)
            }
            (_, Some(hex)) => attachments.push(bytes_of(hex)?),
            _ => return Err(format!("`{word}` follows an event")),
        }
    }
    Ok((args, ack, attachments))
}

/// Bytes from hex digits.
pub fn bytes_of(hex: &str) -> Result<Bytes, String> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    hex.as_bytes()
        .chunks(2)
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .map(Bytes::from)
        .ok_or_else(|| format!("`{hex}` is not hex"))
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A message towards a client.
pub fn shown(message: &Message) -> String {
    let event = |name: &str, args: &str, bytes: &[Bytes], ack: Option<u64>| {
        let name = serde_json::Value::from(name);
        let mut text = if args.is_empty() { format!("[{name}]") } else { format!("[{name},{args}]") };
        if let Some(number) = ack {
            let _ = write!(text, " #{number}");
        }
        text + &attached(bytes)
    };
    match message {
        Message::Text(text) => text.clone(),
        Message::Binary(bytes) => format!("binary {}", hex(bytes)),
        Message::Event(name, args) => event(name, args, &[], None),
        Message::BinaryEvent(name, args, bytes) => event(name, args, bytes, None),
        Message::Question(name, args, bytes, number) => event(name, args, bytes, Some(*number)),
        Message::Ack(id, args) => format!("ack {id} [{args}]"),
        Message::BinaryAck(id, args, bytes) => format!("ack {id} [{args}]{}", attached(bytes)),
    }
}

fn attached(bytes: &[Bytes]) -> String {
    bytes.iter().fold(String::new(), |mut text, bytes| {
        let _ = write!(text, " +{}", hex(bytes));
        text
    })
}

/// A refused CONNECT.
pub fn refusal(message: &str, data: Option<&str>) -> String {
    let message = serde_json::Value::from(message);
    match data {
        Some(data) => format!("connect_error {{\"message\":{message},\"data\":{data}}}"),
        None => format!("connect_error {{\"message\":{message}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Packet, packet, shown};
    use crate::session::Message;
    use bytes::Bytes;

    #[test]
    fn events_answers_and_attachments_are_read() {
        let Packet::Event { name, args, ack, attachments } =
            packet("[\"a:b\",{\"x\":1},2] #7 +00ff").unwrap()
        else {
            panic!("an event");
        };
        assert_eq!((name.as_str(), args[0].get(), args[1].get(), ack), ("a:b", "{\"x\":1}", "2", Some(7)));
        assert_eq!(attachments, [Bytes::from_static(&[0, 255])]);
        assert!(matches!(packet("ack 3 [1]").unwrap(), Packet::Answer { number: 3, .. }));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for bad in
            ["", "{}", "[]", "[1]", "[\"a\"] then", "[\"a\"] #x", "[\"a\"] +0", "ack x []", "ack 1 [] #2"]
        {
            assert!(packet(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_read_as_they_are_written() {
        assert_eq!(shown(&Message::Event("a", "{}".into())), "[\"a\",{}]");
        assert_eq!(shown(&Message::Event("a", String::new())), "[\"a\"]");
        assert_eq!(shown(&Message::Ack(4, "1,2".into())), "ack 4 [1,2]");
        let bytes = vec![Bytes::from_static(&[1])];
        assert_eq!(shown(&Message::Question("q", "1".into(), bytes, 9)), "[\"q\",1] #9 +01");
    }
}
