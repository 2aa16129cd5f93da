//! Server frames: encoded once into shared bytes, then written to every receiver as they are.

use super::{FIN, MAX_CONTROL_PAYLOAD, Opcode, RSV1};
use bytes::{Buf, Bytes};
use std::{fmt, io};

/// Room for the longest header of an unmasked frame: two bytes and a 64-bit length.
const MAX_HEADER: usize = 10;

/// Longest reason of a close frame in bytes: a control payload less the code.
const MAX_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

/// One whole server frame (header and unmasked payload), always the only frame of its message.
///
/// Cloning shares the bytes. The payload can be borrowed on its own, for transports that carry it without WebSocket
/// framing.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    wire: Bytes,
}

impl Frame {
    /// A text message.
    #[must_use]
    pub fn text(payload: &str) -> Self {
        Self::build(Opcode::Text, 0, payload.as_bytes())
    }

    /// A binary message.
    #[must_use]
    pub fn binary(payload: &[u8]) -> Self {
        Self::build(Opcode::Binary, 0, payload)
    }

    /// A ping. A payload longer than [`MAX_CONTROL_PAYLOAD`] is cut.
    #[must_use]
    pub fn ping(payload: &[u8]) -> Self {
        Self::build(Opcode::Ping, 0, payload.get(..MAX_CONTROL_PAYLOAD).unwrap_or(payload))
    }

    /// The answer to a ping with this payload. A payload longer than [`MAX_CONTROL_PAYLOAD`] is cut.
    #[must_use]
    pub fn pong(payload: &[u8]) -> Self {
        Self::build(Opcode::Pong, 0, payload.get(..MAX_CONTROL_PAYLOAD).unwrap_or(payload))
    }

    /// A close frame. A reason longer than 123 bytes is cut between two characters; without a code there is no reason.
    ///
    /// `code` should satisfy [`close::is_allowed`](super::close::is_allowed); to answer a client's close frame, hand its
    /// code back.
    #[must_use]
    pub fn close(code: Option<u16>, reason: &str) -> Self {
        let Some(code) = code else { return Self::build(Opcode::Close, 0, &[]) };
        let reason = reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or_default();
        let mut payload = Vec::with_capacity(2 + reason.len());
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
        Self::build(Opcode::Close, 0, &payload)
    }

    /// A data frame whose payload is already deflated (RFC 7692 section 7.2.1).
    pub(super) fn deflated(opcode: Opcode, payload: &[u8]) -> Self {
        Self::build(opcode, RSV1, payload)
    }

    fn build(opcode: Opcode, reserved: u8, payload: &[u8]) -> Self {
        let (header, start) = header(FIN | reserved | opcode.bits(), payload.len());
        let header = header.get(start..).unwrap_or_default();
        let mut wire = Vec::with_capacity(header.len() + payload.len());
        wire.extend_from_slice(header);
        wire.extend_from_slice(payload);
        Self { wire: wire.into() }
    }

    /// The bytes that go to the socket.
    #[must_use]
    pub const fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// The payload without the header. Deflated if [`is_compressed`](Self::is_compressed).
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.wire.get(self.header_len()..).unwrap_or_default()
    }

    /// The payload without the header, sharing this frame's bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        let mut payload = self.wire.clone();
        payload.advance(self.header_len().min(payload.len()));
        payload
    }

    /// Text, binary, close, ping or pong.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        self.wire.first().and_then(|first| Opcode::from_bits(first & 0x0F)).unwrap_or(Opcode::Binary)
    }

    /// Whether the payload is deflated.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.wire.first().is_some_and(|first| first & RSV1 != 0)
    }

    /// Bytes before the payload: 2, 4 or 10. The header says so itself, so nothing else needs to remember it.
    fn header_len(&self) -> usize {
        match self.wire.get(1) {
            Some(126) => 4,
            Some(127) => 10,
            _ => 2,
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("opcode", &self.opcode())
            .field("compressed", &self.is_compressed())
            .field("payload", &self.payload().len())
            .finish()
    }
}

/// Collects a payload behind room for the header, so that a serializer writes straight into the frame's own bytes.
///
/// Writing never fails.
#[derive(Debug, Clone)]
pub struct FrameWriter {
    buffer: Vec<u8>,
}

impl FrameWriter {
    /// A writer that takes `payload` bytes before it has to grow.
    #[must_use]
    pub fn with_capacity(payload: usize) -> Self {
        let mut buffer = Vec::with_capacity(MAX_HEADER + payload);
        buffer.extend_from_slice(&[0; MAX_HEADER]);
        Self { buffer }
    }

    /// Bytes of payload so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() - MAX_HEADER
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes to the payload.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The frame as a text message. What was written must be UTF-8; serializers and [`fmt::Write`] see to that.
    #[must_use]
    pub fn into_text(self) -> Frame {
        debug_assert!(
            self.buffer.get(MAX_HEADER..).is_some_and(|payload| simdutf8::basic::from_utf8(payload).is_ok()),
            "a text frame holds UTF-8"
        );
        self.finish(Opcode::Text)
    }

    /// The frame as a binary message.
    #[must_use]
    pub fn into_binary(self) -> Frame {
        self.finish(Opcode::Binary)
    }

    fn finish(mut self, opcode: Opcode) -> Frame {
        let (header, start) = header(FIN | opcode.bits(), self.len());
        if let Some(room) = self.buffer.first_chunk_mut::<MAX_HEADER>() {
            *room = header;
        }
        let mut wire = Bytes::from(self.buffer);
        wire.advance(start);
        Frame { wire }
    }
}

impl io::Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.push(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Write for FrameWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// The header of an unmasked frame, at the end of the array, and where in the array it starts.
fn header(first: u8, payload: usize) -> ([u8; MAX_HEADER], usize) {
    if let (Ok(short), true) = (u8::try_from(payload), payload < 126) {
        ([0, 0, 0, 0, 0, 0, 0, 0, first, short], 8)
    } else if let Ok(medium) = u16::try_from(payload) {
        let [high, low] = medium.to_be_bytes();
        ([0, 0, 0, 0, 0, 0, first, 126, high, low], 6)
    } else {
        let [a, b, c, d, e, f, g, h] = (payload as u64).to_be_bytes();
        ([first, 127, a, b, c, d, e, f, g, h], 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, FrameWriter, MAX_REASON};
    use crate::websocket::Opcode;
    use std::fmt::Write;

    #[test]
    fn the_length_takes_the_shortest_form() {
        for (payload, header) in [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65535, vec![0x82, 126, 255, 255]),
            (65536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let bytes = vec![7; payload];
            let frame = Frame::binary(&bytes);
            assert_eq!(frame.wire()[..header.len()], header);
            assert_eq!(frame.wire().len(), header.len() + payload);
            assert_eq!(frame.payload(), bytes);
            assert_eq!(frame.payload_bytes(), bytes);
            assert_eq!(frame.opcode(), Opcode::Binary);
            let mut writer = FrameWriter::with_capacity(0);
            writer.push(&bytes);
            assert_eq!(writer.len(), payload);
            assert_eq!(writer.into_binary(), frame);
        }
    }

    #[test]
    fn the_frames_of_the_rfc() {
        assert_eq!(Frame::text("Hello").wire().as_ref(), b"\x81\x05Hello");
        assert_eq!(Frame::ping(b"Hello").wire().as_ref(), b"\x89\x05Hello");
        assert_eq!(Frame::pong(b"").wire().as_ref(), b"\x8a\x00");
        assert_eq!(Frame::close(None, "unheard").wire().as_ref(), b"\x88\x00");
        assert_eq!(Frame::close(Some(1000), "bye").wire().as_ref(), b"\x88\x05\x03\xe8bye");
    }

    #[test]
    fn a_serializer_writes_into_the_frame() {
        let mut writer = FrameWriter::with_capacity(16);
        assert!(writer.is_empty());
        serde_json::to_writer(&mut writer, &[1, 2]).unwrap();
        writer.write_str(" é").unwrap();
        assert_eq!(writer.into_text(), Frame::text("[1,2] é"));
    }

    #[test]
    fn control_payloads_never_pass_the_limit() {
        assert_eq!(Frame::ping(&[1; 126]).payload().len(), 125);
        assert_eq!(Frame::pong(&[1; 400]).payload().len(), 125);
        assert_eq!(Frame::pong(&[1; 125]).payload().len(), 125);
        let reason = "é".repeat(80);
        let frame = Frame::close(Some(1008), &reason);
        assert_eq!(std::str::from_utf8(&frame.payload()[2..]).unwrap(), "é".repeat(61));
        assert_eq!(Frame::close(Some(1008), &"x".repeat(MAX_REASON)).payload().len(), 125);
    }

    #[test]
    fn clones_and_payloads_share_the_bytes() {
        let frame = Frame::text(&"x".repeat(300));
        assert_eq!(frame.clone().wire().as_ptr(), frame.wire().as_ptr());
        assert_eq!(frame.payload_bytes().as_ptr(), frame.payload().as_ptr());
        assert_eq!(format!("{frame:?}"), "Frame { opcode: Text, compressed: false, payload: 300 }");
        assert!(size_of::<Frame>() <= 32);
    }
}
