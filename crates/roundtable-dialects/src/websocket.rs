//! RFC 6455 and RFC 7692 as a codec without I/O: handshake, decoder for client frames, encoder for server frames.
//!
//! The parts fit together like this:
//!
//! 1. [`handshake::check`] looks at an upgrade request and says which headers the 101 answer needs.
//! 2. One [`Decoder`] per connection turns the bytes of a lent read buffer into [`Incoming`] items that borrow from that
//!    buffer. Between messages it owns no memory besides itself.
//! 3. A [`Frame`] is one finished server frame in shared bytes; all receivers write the same bytes. A [`Deflater`] makes
//!    the compressed form of a frame.
//!
//! [`Inflater`] and [`Deflater`] are large and keep nothing from one message to the next (both directions negotiate "no
//! context takeover"), so a shard owns one of each and lends it to its connections.
//!
//! Nothing here fails by panicking: [`Decoder::feed`], [`handshake::check`], [`handshake::negotiate`] and
//! [`Inflater::inflate`] take arbitrary bytes and are meant to be fuzzed as they are.

pub mod decode;
pub mod deflate;
pub mod encode;
pub mod handshake;

pub use decode::{Decoder, Incoming, Sink};
pub use deflate::{DEFLATE_THRESHOLD, Deflater, Inflater};
pub use encode::{Frame, FrameWriter};

/// Largest payload of a ping, pong or close frame in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// Status codes of close frames (RFC 6455 section 7.4.1 and the IANA registry) that this server sends or expects.
pub mod close {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The endpoint goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the framing rules.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of data that the endpoint cannot take.
    pub const UNSUPPORTED: u16 = 1003;
    /// The data does not fit its type: text that is not UTF-8, or a broken deflate stream.
    pub const INVALID_DATA: u16 = 1007;
    /// Refused for a reason that has no code of its own.
    pub const POLICY: u16 = 1008;
    /// The message is larger than the endpoint takes.
    pub const TOO_BIG: u16 = 1009;
    /// The server met an unexpected condition.
    pub const INTERNAL: u16 = 1011;
    /// The server restarts.
    pub const RESTART: u16 = 1012;
    /// The server is overloaded, or the client reads too slowly.
    pub const TRY_AGAIN: u16 = 1013;

    /// Whether a peer may put `code` into a close frame: 1000 to 1003, 1007 to 1014 and 3000 to 4999. The others are
    /// unassigned or stand for situations without a close frame (1005, 1006, 1015).
    #[must_use]
    pub const fn is_allowed(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What a frame is (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A further fragment of the message under way.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The end of the connection.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    /// The four bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// The opcode of four wire bits; `None` for the reserved ones and for values above 15.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Close, ping and pong: short, never fragmented, allowed between the fragments of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Why a connection has to be closed: the code and the reason for the close frame. The reason fits into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (close code {code})")]
pub struct Error {
    /// [`close::PROTOCOL_ERROR`], [`close::INVALID_DATA`] or [`close::TOO_BIG`].
    pub code: u16,
    /// One English phrase for the person who debugs the client.
    pub reason: &'static str,
}

impl Error {
    const fn protocol(reason: &'static str) -> Self {
        Self { code: close::PROTOCOL_ERROR, reason }
    }

    const fn data(reason: &'static str) -> Self {
        Self { code: close::INVALID_DATA, reason }
    }

    const TOO_BIG: Self = Self { code: close::TOO_BIG, reason: "Message too large" };
    const NOT_UTF8: Self = Self::data("text is not valid UTF-8");
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

#[cfg(test)]
mod tests {
    use super::{Opcode, close};

    #[test]
    fn opcodes_survive_the_wire_and_reserved_ones_are_refused() {
        for bits in 0..=255u8 {
            match Opcode::from_bits(bits) {
                Some(opcode) => assert_eq!(opcode.bits(), bits),
                None => assert!(matches!(bits, 0x3..=0x7 | 0xB..=0xFF), "{bits:#x} should be known"),
            }
        }
        assert!(Opcode::Ping.is_control() && !Opcode::Continuation.is_control());
    }

    #[test]
    fn close_codes_at_the_edges() {
        for code in [1000, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999] {
            assert!(close::is_allowed(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!close::is_allowed(code), "{code}");
        }
    }
}
