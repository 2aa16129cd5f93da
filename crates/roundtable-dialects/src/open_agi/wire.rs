//! The frames: what clients send, decoded, and the shapes that the server sends (Open-A.G.I notes §2, §3).

use roundtable_core::feeds::Feed;
use roundtable_core::time::Time;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::errors::Fault;
use crate::iso::iso;
use crate::members::Members;
use crate::session::Message;

/// Longest list of channels that is read: four names fit in a hundred bytes.
const MAX_CHANNELS_BYTES: usize = 16 << 10;

/// What a client subscribes to. Channels are plural, the types of their frames singular.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// Nodes that come and go.
    Network,
    /// Proposals and decisions.
    Consensus,
    /// What the security rules noticed.
    Security,
    /// Measured values and alerts.
    Monitoring,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Network, Self::Consensus, Self::Security, Self::Monitoring];

    /// As clients name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network_events",
            Self::Consensus => "consensus_events",
            Self::Security => "security_events",
            Self::Monitoring => "monitoring_events",
        }
    }

    /// The `type` of its frames.
    pub const fn frame_type(self) -> &'static str {
        match self {
            Self::Network => "network_event",
            Self::Consensus => "consensus_event",
            Self::Security => "security_event",
            Self::Monitoring => "monitoring_event",
        }
    }

    /// Where its events come from.
    pub const fn feed(self) -> Feed {
        match self {
            Self::Network => Feed::Network,
            Self::Consensus => Feed::Consensus,
            Self::Security => Feed::Security,
            Self::Monitoring => Feed::Monitoring,
        }
    }

    fn parse(name: &str) -> Result<Self, Fault> {
        let known = Self::ALL.into_iter().find(|channel| channel.name() == name);
        known.ok_or_else(|| Fault::unknown_channel(name))
    }
}

/// A frame of a client.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientFrame {
    /// Begin with these channels, at least one.
    Subscribe(Vec<Channel>),
    /// End with these, at least one.
    Unsubscribe(Vec<Channel>),
    /// Is anybody there?
    Ping,
    /// A sign of life.
    Pong,
}

/// Reads a text frame.
pub fn decode(text: &str) -> Result<ClientFrame, Fault> {
    let frame = Members::of(text).ok_or_else(Fault::not_json)?;
    match frame.string("type") {
        Some(name) => match name.as_str() {
            "subscribe" => channels(&frame).map(ClientFrame::Subscribe),
            "unsubscribe" => channels(&frame).map(ClientFrame::Unsubscribe),
            "ping" => Ok(ClientFrame::Ping),
            "pong" => Ok(ClientFrame::Pong),
            other => Err(Fault::unknown_type(other)),
        },
        None => Err(Fault::unknown_type(frame.get("type").map_or("null", RawValue::get))),
    }
}

/// `channel`, or all of `channels`, or none of them.
fn channels(frame: &Members<'_>) -> Result<Vec<Channel>, Fault> {
    let raw = match (frame.string("channel"), frame.get("channel"), frame.get("channels")) {
        (Some(name), ..) => return Channel::parse(&name).map(|channel| vec![channel]),
        (None, Some(_), _) => return Err(Fault::field("channel", "must be a string")),
        (None, None, None) => return Err(Fault::field("channel", "is required")),
        (None, None, Some(raw)) if raw.get().len() > MAX_CHANNELS_BYTES => {
            return Err(Fault::field("channels", "must be a shorter list"));
        }
        (None, None, Some(raw)) => raw,
    };
    let names = serde_json::from_str::<Vec<Value>>(raw.get()).ok().filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| Fault::field("channels", "must be a list of at least one channel"))?;
    let names = names.iter().map(|name| {
        name.as_str().ok_or_else(|| Fault::field("channels", "must hold strings")).and_then(Channel::parse)
    });
    names.collect()
}

#[derive(Serialize)]
struct Frame<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    data: Value,
    timestamp: String,
}

impl<'a> Frame<'a> {
    fn new(r#type: &'a str, data: Value, at: Time) -> Self {
        Self { r#type, event: None, channel: None, code: None, message: None, data, timestamp: iso(at) }
    }

    fn message(&self) -> Message {
        Message::Text(serde_json::to_string(self).unwrap_or_default())
    }
}

/// An event of a channel.
pub fn event(channel: Channel, name: &str, data: Value, at: Time) -> Message {
    Frame { event: Some(name), ..Frame::new(channel.frame_type(), data, at) }.message()
}

/// `subscribed` or `unsubscribed`, with the channel that was asked for and all that are subscribed now. A client that named
/// several reads the whole list.
pub fn subscription(name: &str, channel: Channel, now_on: &[Channel], at: Time) -> Message {
    let all: Vec<&str> = now_on.iter().map(|channel| channel.name()).collect();
    let data = json!({"channel": channel.name(), "channels": all});
    Frame { channel: Some(channel.name()), ..Frame::new(name, data, at) }.message()
}

/// The answer to a ping, which has nothing but its type.
pub fn pong() -> Message {
    Message::Text(r#"{"type":"pong"}"#.into())
}

/// An error.
pub fn error(fault: &Fault, at: Time) -> Message {
    let frame = Frame::new("error", fault.data(), at);
    Frame { code: Some(fault.code), message: Some(&fault.message), ..frame }.message()
}

#[cfg(test)]
mod tests {
    use super::{Channel, ClientFrame, decode};

    fn fails(text: &str) -> String {
        decode(text).unwrap_err().message
    }

    #[test]
    fn control_frames_are_read() {
        assert_eq!(
            decode(r#"{"type":"subscribe","channel":"network_events","x":1}"#),
            Ok(ClientFrame::Subscribe(vec![Channel::Network]))
        );
        assert_eq!(
            decode(r#"{"type":"unsubscribe","channels":["security_events","consensus_events"]}"#),
            Ok(ClientFrame::Unsubscribe(vec![Channel::Security, Channel::Consensus]))
        );
        assert_eq!(decode(r#"{"type":"ping"}"#), Ok(ClientFrame::Ping));
        assert_eq!(decode(r#"{"type":"pong"}"#), Ok(ClientFrame::Pong));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(fails("hello"), "Invalid JSON");
        assert_eq!(fails("[1]"), "Invalid JSON");
        assert_eq!(fails("{}"), "Unknown message type: null");
        assert_eq!(fails(r#"{"type":7}"#), "Unknown message type: 7");
        assert_eq!(fails(r#"{"type":"shout"}"#), "Unknown message type: shout");
        assert_eq!(fails(r#"{"type":"subscribe"}"#), "channel is required");
        assert_eq!(fails(r#"{"type":"subscribe","channel":["network_events"]}"#), "channel must be a string");
        assert_eq!(fails(r#"{"type":"subscribe","channel":"weather"}"#), "Unknown channel: weather");
        assert_eq!(
            fails(r#"{"type":"subscribe","channels":[]}"#),
            "channels must be a list of at least one channel"
        );
        assert_eq!(fails(r#"{"type":"subscribe","channels":["network_events","x"]}"#), "Unknown channel: x");
    }
}
