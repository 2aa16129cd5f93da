//! Socket.IO v5 for a server: packets, arguments, encoders, and the namespaces of one connection.
//!
//! Nothing here does I/O or reads a clock; times are milliseconds since any fixed start. Text goes in without
//! the Engine.IO type character (as [`engineio::Message::Text`](crate::engineio::Message) brings it) and
//! comes out of [`encode`] with it, as a whole Engine.IO text packet `4…`, ready to be framed or queued.
//! Attachments travel as Engine.IO binary messages right after the packet they belong to; nothing may come
//! between them.
//!
//! How a server drives a connection:
//!
//! - [`Namespaces::on_text`] and [`Namespaces::on_binary`] give a [`Step`] for every message. [`Step::Close`]
//!   means: close the engine, nothing else of that connection counts.
//! - [`Step::Connect`] is answered whenever its check is done, with [`Namespaces::accept`] or
//!   [`Namespaces::refuse`], which give the packet to send.
//! - [`Step::Complete`] holds an event or acknowledgement that had attachments: [`Assembled::read`].
//! - [`Namespaces::on_tick`] once [`Namespaces::next_deadline`] has passed.
//!
//! Source: Socket.IO protocol, revision 5.

mod args;
pub mod encode;
mod namespaces;
mod packet;

pub use args::Args;
pub use namespaces::{Ack, Assembled, Attempt, Event, Namespaces, Slot, Step};
pub use packet::{Kind, Packet};

use crate::websocket::close;

/// The main namespace; its name is left out on the wire.
pub const MAIN: &str = "/";
/// What a client that asks for a namespace nobody serves is told (a CONNECT_ERROR's `message`).
pub const INVALID_NAMESPACE: &str = "Invalid namespace";
/// Bytes of a namespace's name: names are paths like `/dev/aiwm/chat`, and every packet repeats them.
pub const MAX_NAMESPACE: usize = 256;
/// Namespaces of one connection; more than any client library opens for one application.
pub const MAX_NAMESPACES: usize = 16;
/// Attachments of a packet from a client: enough for a message with pictures, and a bound for what is held
/// before the last one comes. Towards clients 10 is the limit, as newer JavaScript clients refuse more.
pub const MAX_ATTACHMENTS: usize = 16;

/// What all connections of a listener share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Milliseconds from the opening until the first namespace must have been accepted, and for which somebody known may be in
    /// none.
    pub connect_timeout: u64,
    /// Bytes of a packet, attachments included, while nobody has shown who it is.
    pub max_before_connect: usize,
    /// Bytes of a packet, attachments included.
    pub max_packet: usize,
}

impl Default for Config {
    /// 45 s as in every Socket.IO server; 16 KiB hold any credentials; 1 MiB as for all dialects.
    fn default() -> Self {
        Self { connect_timeout: 45_000, max_before_connect: 16 << 10, max_packet: 1 << 20 }
    }
}

/// What a client did that ends its connection: the protocol leaves no other answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not one of the types 0 to 6, or one only servers send.
    #[error("unknown packet type")]
    PacketType,
    /// The number of attachments is missing, zero, or above [`MAX_ATTACHMENTS`].
    #[error("illegal number of attachments")]
    Attachments,
    /// A placeholder names an attachment that is not announced.
    #[error("illegal placeholder")]
    Placeholder,
    /// The name is too long or contains control characters.
    #[error("illegal namespace")]
    Namespace,
    /// Not a number up to 2^53 - 1, or missing from an acknowledgement, or where none belongs.
    #[error("illegal acknowledgement id")]
    AckId,
    /// Not the JSON this type of packet carries.
    #[error("illegal payload")]
    Payload,
    /// No string, or a name that client libraries keep for themselves.
    #[error("illegal event name")]
    EventName,
    /// For a namespace that the client is not connected to.
    #[error("not connected to this namespace")]
    NotConnected,
    /// A CONNECT for a namespace that the client is connected to.
    #[error("already connected to this namespace")]
    AlreadyConnected,
    /// More than [`MAX_NAMESPACES`].
    #[error("too many namespaces")]
    TooManyNamespaces,
    /// Text while attachments were announced.
    #[error("text where an attachment was announced")]
    UnexpectedText,
    /// Bytes that no packet announced.
    #[error("attachment without a packet")]
    UnexpectedBinary,
    /// Above [`Config::max_packet`] or [`Config::max_before_connect`].
    #[error("packet too large")]
    TooLarge,
    /// No namespace was accepted in time.
    #[error("no namespace connected in time")]
    ConnectTimeout,
}

impl Violation {
    /// The code of the close frame that ends a WebSocket for it, as on plain ones.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::TooLarge => close::TOO_BIG,
            Self::Payload | Self::EventName | Self::Placeholder => close::INVALID_DATA,
            Self::ConnectTimeout => close::NORMAL,
            Self::PacketType
            | Self::Attachments
            | Self::Namespace
            | Self::AckId
            | Self::NotConnected
            | Self::AlreadyConnected
            | Self::TooManyNamespaces
            | Self::UnexpectedText
            | Self::UnexpectedBinary => close::PROTOCOL_ERROR,
        }
    }
}
