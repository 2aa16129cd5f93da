//! Engine.IO packets as a client may send them: one type character and a payload.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The ping packet. Only the server pings.
pub const PING: &str = "2";
/// The answer to the probe of an upgrade; always a frame of the new WebSocket.
pub const PROBE_ANSWER: &str = "3probe";

/// Content of a message packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text, without the type character `4`.
    Text(&'a str),
    /// Bytes: borrowed from a WebSocket frame, owned when they came as base64.
    Binary(Cow<'a, [u8]>),
}

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `1`: the client ends the session.
    Close,
    /// `2` with its payload; a client sends it only as the probe of an upgrade.
    Ping(&'a str),
    /// `3`: answer to the server's ping. Some libraries echo a payload, it means nothing.
    Pong,
    /// `4…`, a binary frame, or `b` and base64.
    Message(Message<'a>),
    /// `5`: the WebSocket takes over.
    Upgrade,
    /// `6`: nothing.
    Noop,
}

/// The packet is not one a client may send (Engine.IO protocol v4, "Packet encoding").
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid Engine.IO packet")]
pub struct InvalidPacket;

impl<'a> Packet<'a> {
    /// Reads a WebSocket text frame.
    pub fn from_frame(text: &'a str) -> Result<Self, InvalidPacket> {
        if let Some(message) = text.strip_prefix('4') {
            return Ok(Self::Message(Message::Text(message)));
        }
        match text {
            "1" => Ok(Self::Close),
            "5" => Ok(Self::Upgrade),
            "6" => Ok(Self::Noop),
            _ if text.starts_with('3') => Ok(Self::Pong),
            _ => text.strip_prefix('2').map(Self::Ping).ok_or(InvalidPacket),
        }
    }

    /// Reads one packet of a polling payload, where bytes come as `b` and padded base64.
    pub fn from_payload(text: &'a str) -> Result<Self, InvalidPacket> {
        let Some(encoded) = text.strip_prefix('b') else {
            return Self::from_frame(text);
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidPacket)?;
        Ok(Self::Message(Message::Binary(Cow::Owned(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_a_client_may_send_is_read() {
        assert_eq!(Packet::from_frame("1"), Ok(Packet::Close));
        assert_eq!(Packet::from_frame("2probe"), Ok(Packet::Ping("probe")));
        assert_eq!(Packet::from_frame("3"), Ok(Packet::Pong));
        assert_eq!(Packet::from_frame("3x"), Ok(Packet::Pong));
        assert_eq!(Packet::from_frame("4"), Ok(Packet::Message(Message::Text(""))));
        assert_eq!(Packet::from_frame("4ä\n"), Ok(Packet::Message(Message::Text("ä\n"))));
        assert_eq!(Packet::from_frame("5"), Ok(Packet::Upgrade));
        assert_eq!(Packet::from_frame("6"), Ok(Packet::Noop));
    }

    #[test]
    fn base64_belongs_to_polling_only() {
        let binary = Packet::Message(Message::Binary(Cow::Owned(vec![1, 2, 3, 4])));
        assert_eq!(Packet::from_payload("bAQIDBA=="), Ok(binary));
        assert_eq!(Packet::from_frame("bAQIDBA=="), Err(InvalidPacket));
        for bad in ["bAQIDBA=", "bAQIDBA", "b*", "bAQ ID"] {
            assert_eq!(Packet::from_payload(bad), Err(InvalidPacket), "{bad}");
        }
    }

    #[test]
    fn everything_else_is_invalid() {
        for bad in ["", "abc", "0", "0{}", "1x", "5x", "6x", "7", "ä", "\u{1e}"] {
            assert_eq!(Packet::from_payload(bad), Err(InvalidPacket), "{bad:?}");
        }
    }
}
