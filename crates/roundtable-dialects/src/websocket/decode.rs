//! Client frames: an incremental decoder that works inside a lent buffer and owns memory only for what is incomplete.

use super::{Error, FIN, Inflater, MAX_CONTROL_PAYLOAD, Opcode, RSV1, close};
use std::ops::ControlFlow;

/// Two bytes, a 64-bit length and the mask.
const MAX_HEADER: usize = 14;

/// Whether to go on after an item, as the sink answers.
type Flow = ControlFlow<()>;

/// Who takes what a decoder hands out. Every closure that takes items is one; it reads everything.
pub trait Sink {
    /// Whether the next message is wanted. One that is not is neither inflated nor checked, and handed out as
    /// [`Incoming::Unread`].
    fn wants(&mut self) -> bool {
        true
    }

    /// So many bytes came out of a compressed message.
    fn inflated(&mut self, _bytes: usize) {}

    /// The next item; with `Break` decoding stops after it.
    fn take(&mut self, item: Incoming<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(Incoming<'_>) -> ControlFlow<()>> Sink for F {
    fn take(&mut self, item: Incoming<'_>) -> ControlFlow<()> {
        self(item)
    }
}

/// One message or control frame from the client. Borrows from the buffer that was fed, or from where its parts were put
/// together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A frame of a message that is not whole yet.
    Part,
    /// A whole message that nobody wanted.
    Unread,
    /// To be answered with [`Frame::pong`](super::Frame::pong) and this payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// The answer to a ping, or a sign of life without one. At most 125 bytes.
    Pong(&'a [u8]),
    /// The last thing that a client says. To be answered with the same code, then the connection ends.
    Close {
        /// A code that [`close::is_allowed`] takes, or none.
        code: Option<u16>,
        /// At most 123 bytes, mostly empty.
        reason: &'a str,
    },
}

/// The receiving half of one connection.
///
/// Everything RFC 6455 demands of a server is checked: masks, reserved bits and opcodes, fragmentation, control frames,
/// UTF-8 (as soon as the bytes are there, also within a message; compressed text when it is complete), close codes, and
/// the size limit (as soon as the header is there; the inflated size while inflating).
///
/// Takes 40 bytes; more only while a frame or a fragmented message is incomplete, and then no more than has arrived
/// (rounded up as vectors do).
#[derive(Debug)]
pub struct Decoder {
    /// Only while something is incomplete.
    partial: Option<Box<Partial>>,
    max_message: usize,
    /// The start of a header that the last buffer cut through.
    stash: [u8; MAX_HEADER],
    stashed: u8,
    deflate: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Partial {
    message: Option<Message>,
    frame: Option<OpenFrame>,
    /// What has arrived of an open control frame.
    control: Vec<u8>,
}

/// A data message that has begun and not ended.
#[derive(Debug)]
struct Message {
    text: bool,
    compressed: bool,
    data: Vec<u8>,
    /// How much of `data` is known to be UTF-8.
    checked: usize,
}

/// A frame whose payload is still arriving.
#[derive(Debug)]
struct OpenFrame {
    /// Its mask is turned so that it fits the next byte.
    header: Header,
    left: usize,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    opcode: Opcode,
    fin: bool,
    compressed: bool,
    mask: [u8; 4],
    payload: usize,
}

impl Decoder {
    /// A decoder for a fresh connection.
    ///
    /// `max_message` limits a message in bytes, after inflation. `deflate` says whether permessage-deflate (without
    /// client context takeover) was agreed on.
    #[must_use]
    pub const fn new(max_message: usize, deflate: bool) -> Self {
        Self { partial: None, max_message, stash: [0; MAX_HEADER], stashed: 0, deflate, closed: false }
    }

    /// Changes the size limit for frames that begin from now on.
    pub const fn set_max_message(&mut self, max_message: usize) {
        self.max_message = max_message;
    }

    /// Whether the client sent a close frame or broke the rules. Whatever it sends after that is discarded.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the beginning of a frame or a message has come and its end has not.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.stashed > 0 || self.partial.is_some()
    }

    /// Bytes of heap memory held for an incomplete frame or message; 0 between messages.
    #[must_use]
    pub fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let data = partial.message.as_ref().map_or(0, |message| message.data.capacity());
            size_of::<Partial>() + data + partial.control.capacity()
        })
    }

    /// Decodes the next bytes of the connection, cut anywhere, and hands out what became complete, in order.
    ///
    /// `input` is unmasked in place; its contents are not meaningful afterwards. `inflater` is needed only while the
    /// call lasts. When `sink` answers `Break`, decoding stops after that item, and the bytes of `input` from the
    /// returned position on are untouched and have to be fed again. Otherwise all of `input` is used and its length
    /// returned.
    ///
    /// # Errors
    ///
    /// The rule that the client broke, with the code for the close frame. Items before it have been handed out.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        inflater: &mut Inflater,
        sink: &mut impl Sink,
    ) -> Result<usize, Error> {
        let total = input.len();
        let mut rest = input;
        while !rest.is_empty() && !self.closed {
            match self.step(rest, inflater, sink) {
                Ok((used, flow)) => {
                    rest = rest.split_at_mut_checked(used).map(|(_, rest)| rest).unwrap_or_default();
                    if flow.is_break() && !self.closed {
                        return Ok(total - rest.len());
                    }
                }
                Err(error) => {
                    self.closed = true;
                    self.partial = None;
                    return Err(error);
                }
            }
        }
        Ok(total)
    }

    /// Takes the next frame, or as much of it as there is. Gives back how many bytes that took.
    fn step(
        &mut self,
        input: &mut [u8],
        inflater: &mut Inflater,
        sink: &mut impl Sink,
    ) -> Result<(usize, Flow), Error> {
        if let Some(frame) = self.partial.as_mut().and_then(|partial| partial.frame.take()) {
            return self.proceed(frame, input, inflater, sink);
        }
        let Some((header, size)) = self.header(input)? else { return Ok((input.len(), Flow::Continue(()))) };
        self.admit(&header)?;
        let body = input.get_mut(size..).unwrap_or_default();
        if let Some((payload, _)) = body.split_at_mut_checked(header.payload) {
            unmask(payload, header.mask);
            let flow = self.whole(&header, payload, inflater, sink)?;
            return Ok((size + header.payload, flow));
        }
        if !header.opcode.is_control() && header.opcode != Opcode::Continuation {
            self.begin(&header);
        }
        let (_, flow) = self.proceed(OpenFrame { header, left: header.payload }, body, inflater, sink)?;
        Ok((input.len(), flow))
    }

    /// Reads a header that may have begun in an earlier buffer. Gives back how many bytes of `input` belong to it.
    fn header(&mut self, input: &[u8]) -> Result<Option<(Header, usize)>, Error> {
        let before = usize::from(self.stashed);
        if before == 0
            && let Some(found) = Header::parse(input, self.deflate)?
        {
            return Ok(Some(found));
        }
        let mut filled = self.stashed;
        for (slot, byte) in self.stash.iter_mut().skip(before).zip(input) {
            *slot = *byte;
            filled += 1;
        }
        let gathered = self.stash.get(..usize::from(filled)).unwrap_or_default();
        if let Some((header, size)) = Header::parse(gathered, self.deflate)? {
            self.stashed = 0;
            return Ok(Some((header, size - before)));
        }
        self.stashed = filled;
        Ok(None)
    }

    /// Checks a frame against what came before it and against the size limit.
    fn admit(&self, header: &Header) -> Result<(), Error> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let (compressed, before) = match (header.opcode, message) {
            (Opcode::Continuation, Some(message)) => (message.compressed, message.data.len()),
            (Opcode::Continuation, None) => return Err(Error::protocol("continuation of no message")),
            (_, Some(_)) => return Err(Error::protocol("new message inside a fragmented one")),
            (_, None) => (header.compressed, 0),
        };
        // What does not compress gets a little longer by deflate's own headers.
        let slack = if compressed { self.max_message / 16 + 64 } else { 0 };
        if header.payload > self.max_message.saturating_add(slack).saturating_sub(before) {
            return Err(Error::TOO_BIG);
        }
        Ok(())
    }

    /// Handles a frame that lies in the buffer from its first to its last byte.
    fn whole(
        &mut self,
        header: &Header,
        payload: &[u8],
        inflater: &mut Inflater,
        sink: &mut impl Sink,
    ) -> Result<Flow, Error> {
        match header.opcode {
            Opcode::Continuation => {}
            Opcode::Text | Opcode::Binary if header.fin => {
                let text = header.opcode == Opcode::Text;
                return deliver(text, header.compressed.then_some(inflater), payload, self.max_message, sink);
            }
            Opcode::Text | Opcode::Binary => self.begin(header),
            control => return self.control(control, payload, sink),
        }
        self.append(payload, 0, header.fin)?;
        if header.fin { self.end(inflater, sink) } else { Ok(sink.take(Incoming::Part)) }
    }

    /// Takes bytes of a frame that does not fit into one buffer.
    fn proceed(
        &mut self,
        mut frame: OpenFrame,
        input: &mut [u8],
        inflater: &mut Inflater,
        sink: &mut impl Sink,
    ) -> Result<(usize, Flow), Error> {
        let used = frame.left.min(input.len());
        let bytes = input.get_mut(..used).unwrap_or_default();
        unmask(bytes, frame.header.mask);
        frame.header.mask.rotate_left(used % 4);
        frame.left -= used;
        let Header { opcode, fin, .. } = frame.header;
        if opcode.is_control() {
            let control = &mut self.partial.get_or_insert_default().control;
            control.extend_from_slice(bytes);
            if frame.left == 0 {
                let payload = std::mem::take(control);
                self.release();
                return Ok((used, self.control(opcode, &payload, sink)?));
            }
        } else {
            self.append(bytes, frame.left, fin)?;
            if frame.left == 0 {
                let flow = if fin { self.end(inflater, sink)? } else { sink.take(Incoming::Part) };
                return Ok((used, flow));
            }
        }
        self.partial.get_or_insert_default().frame = Some(frame);
        Ok((used, Flow::Continue(())))
    }

    fn begin(&mut self, header: &Header) {
        self.partial.get_or_insert_default().message = Some(Message {
            text: header.opcode == Opcode::Text,
            compressed: header.compressed,
            data: Vec::new(),
            checked: 0,
        });
    }

    /// Adds payload to the message under way. `left` more bytes of the same frame follow; `fin`: it is the last frame.
    fn append(&mut self, bytes: &[u8], left: usize, fin: bool) -> Result<(), Error> {
        let Some(message) = self.partial.as_mut().and_then(|partial| partial.message.as_mut()) else {
            return Ok(());
        };
        let data = &mut message.data;
        if data.capacity() - data.len() < bytes.len() {
            // Double like a vector, but not past a known end. An announced length alone buys no memory.
            let known = if fin { bytes.len() + left } else { usize::MAX };
            data.reserve_exact(data.len().max(bytes.len()).min(known));
        }
        data.extend_from_slice(bytes);
        if message.text && !message.compressed {
            let fresh = data.get(message.checked..).unwrap_or_default();
            match simdutf8::compat::from_utf8(fresh) {
                Ok(_) => message.checked = data.len(),
                // A character that is cut may be completed by what follows.
                Err(cut) if cut.error_len().is_none() => message.checked += cut.valid_up_to(),
                Err(_) => return Err(Error::NOT_UTF8),
            }
        }
        Ok(())
    }

    /// Hands out the message whose last frame is complete.
    fn end(&mut self, inflater: &mut Inflater, sink: &mut impl Sink) -> Result<Flow, Error> {
        let Some(message) = self.partial.take().and_then(|partial| partial.message) else {
            return Ok(Flow::Continue(()));
        };
        deliver(message.text, message.compressed.then_some(inflater), &message.data, self.max_message, sink)
    }

    /// Frees what is held if nothing is incomplete any more.
    fn release(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.message.is_none()) {
            self.partial = None;
        }
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8], sink: &mut impl Sink) -> Result<Flow, Error> {
        Ok(match opcode {
            Opcode::Ping => sink.take(Incoming::Ping(payload)),
            Opcode::Pong => sink.take(Incoming::Pong(payload)),
            _ => {
                let item = parse_close(payload)?;
                self.closed = true;
                self.partial = None;
                sink.take(item)
            }
        })
    }
}

impl Header {
    /// Reads a header from the start of `bytes` and checks all that does not depend on other frames. Gives back its
    /// length in bytes; `None`: there is more to come.
    fn parse(bytes: &[u8], deflate: bool) -> Result<Option<(Self, usize)>, Error> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let fin = first & FIN != 0;
        let compressed = first & RSV1 != 0;
        let Some(opcode) = Opcode::from_bits(first & 0x0F) else {
            return Err(Error::protocol("reserved opcode"));
        };
        if first & 0x30 != 0 || (compressed && !(deflate && matches!(opcode, Opcode::Text | Opcode::Binary)))
        {
            return Err(Error::protocol("reserved bit set"));
        }
        if second & 0x80 == 0 {
            return Err(Error::protocol("frame is not masked"));
        }
        let short = second & 0x7F;
        if opcode.is_control() && !fin {
            return Err(Error::protocol("fragmented control frame"));
        }
        if opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD {
            return Err(Error::protocol("control frame too long"));
        }
        let (payload, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            length => (u64::from(length), rest),
        };
        if payload >> 63 != 0 {
            return Err(Error::protocol("frame length out of range"));
        }
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let payload = usize::try_from(payload).map_err(|_| Error::TOO_BIG)?;
        Ok(Some((Self { opcode, fin, compressed, mask: *mask, payload }, bytes.len() - rest.len())))
    }
}

/// Hands out a whole message, if it is wanted: inflated to at most `max_message` bytes if an inflater comes with it, checked if it is text.
fn deliver(
    text: bool,
    inflater: Option<&mut Inflater>,
    payload: &[u8],
    max_message: usize,
    sink: &mut impl Sink,
) -> Result<Flow, Error> {
    if !sink.wants() {
        return Ok(sink.take(Incoming::Unread));
    }
    let Some(inflater) = inflater else { return hand_out(text, payload, sink) };
    let flow = inflater.inflate(payload, max_message).and_then(|message| {
        sink.inflated(message.len());
        hand_out(text, message, sink)
    });
    inflater.trim();
    flow
}

fn hand_out(text: bool, message: &[u8], sink: &mut impl Sink) -> Result<Flow, Error> {
    let item = if text {
        Incoming::Text(simdutf8::basic::from_utf8(message).map_err(|_| Error::NOT_UTF8)?)
    } else {
        Incoming::Binary(message)
    };
    Ok(sink.take(item))
}

/// Reads the payload of a close frame (RFC 6455 section 5.5.1).
fn parse_close(payload: &[u8]) -> Result<Incoming<'_>, Error> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(Incoming::Close { code: None, reason: "" })
        } else {
            Err(Error::protocol("half a close code"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !close::is_allowed(code) {
        return Err(Error::protocol("close code not allowed"));
    }
    let reason =
        simdutf8::basic::from_utf8(reason).map_err(|_| Error::data("close reason is not valid UTF-8"))?;
    Ok(Incoming::Close { code: Some(code), reason })
}

/// Applies a mask whose first byte belongs to the first byte of `payload` (RFC 6455 section 5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Incoming, Sink, unmask};
    use crate::websocket::{Deflater, Error, Frame, Inflater, Opcode, close};
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
    use std::ops::ControlFlow;

    const LIMIT: usize = 100_000;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Option<u16>, String),
        Part,
        Unread,
    }

    impl From<Incoming<'_>> for Seen {
        fn from(item: Incoming<'_>) -> Self {
            match item {
                Incoming::Text(text) => Self::Text(text.to_owned()),
                Incoming::Binary(bytes) => Self::Binary(bytes.to_vec()),
                Incoming::Ping(bytes) => Self::Ping(bytes.to_vec()),
                Incoming::Pong(bytes) => Self::Pong(bytes.to_vec()),
                Incoming::Close { code, reason } => Self::Close(code, reason.to_owned()),
                Incoming::Part => Self::Part,
                Incoming::Unread => Self::Unread,
            }
        }
    }

    fn text(text: &str) -> Seen {
        Seen::Text(text.to_owned())
    }

    /// A client frame: first byte as given, shortest length form, masked.
    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let mut wire = vec![first];
        match payload.len() {
            short @ 0..126 => wire.push(0x80 | short as u8),
            medium @ 126..65536 => {
                wire.push(0x80 | 126);
                wire.extend((medium as u16).to_be_bytes());
            }
            long => {
                wire.push(0x80 | 127);
                wire.extend((long as u64).to_be_bytes());
            }
        }
        wire.extend(mask);
        wire.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        wire
    }

    fn deflated(payload: &[u8]) -> Vec<u8> {
        let mut padded = payload.to_vec();
        padded.resize(payload.len().max(2048), b' ');
        let frame = Deflater::new().shrink(&Frame::binary(&padded), 15).expect("compressible");
        frame.payload().to_vec()
    }

    fn feed_parts(decoder: &mut Decoder, parts: &[&[u8]]) -> (Vec<Seen>, Option<Error>) {
        let mut inflater = Inflater::new();
        let mut seen = Vec::new();
        let mut sink = |item: Incoming<'_>| {
            seen.extend(Some(Seen::from(item)).filter(|seen| *seen != Seen::Part));
            ControlFlow::Continue(())
        };
        for part in parts {
            let mut lent = part.to_vec();
            match decoder.feed(&mut lent, &mut inflater, &mut sink) {
                Ok(used) => assert_eq!(used, part.len()),
                Err(error) => return (seen, Some(error)),
            }
        }
        (seen, None)
    }

    /// What comes out with and without deflate agreed on; the bytes come in one piece, and one by one.
    fn decode_with(deflate: bool, wire: &[u8]) -> (Vec<Seen>, Option<Error>) {
        let whole = feed_parts(&mut Decoder::new(LIMIT, deflate), &[wire]);
        let bytes: Vec<_> = wire.chunks(1).collect();
        let single = feed_parts(&mut Decoder::new(LIMIT, deflate), &bytes);
        assert_eq!(whole, single, "in one piece and byte by byte");
        whole
    }

    fn decode(wire: &[u8]) -> (Vec<Seen>, Option<Error>) {
        decode_with(false, wire)
    }

    fn error_code(wire: &[u8]) -> Option<u16> {
        decode(wire).1.map(|error| error.code)
    }

    #[test]
    fn the_masked_examples_of_the_rfc() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(decode(&hello), (vec![text("Hello")], None));
        let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(decode(&pong), (vec![Seen::Pong(b"Hello".to_vec())], None));
    }

    #[test]
    fn every_length_form_and_alignment_is_unmasked() {
        let bytes: Vec<u8> = (0..70_000u32).map(|at| (at * 7) as u8).collect();
        for len in (0..40).chain([124, 125, 126, 127, 128, 1000, 65_535, 65_536, 70_000]) {
            let wire = client(0x82, &bytes[..len]);
            let mut decoder = Decoder::new(LIMIT, false);
            assert_eq!(
                feed_parts(&mut decoder, &[&wire]),
                (vec![Seen::Binary(bytes[..len].to_vec())], None),
                "{len}"
            );
        }
        for start in 0..9 {
            let mut part = bytes[start..start + 37].to_vec();
            unmask(&mut part, [1, 2, 3, 4]);
            for (at, byte) in part.iter().enumerate() {
                assert_eq!(*byte, bytes[start + at] ^ [1, 2, 3, 4][at % 4]);
            }
        }
    }

    #[test]
    fn lengths_in_a_longer_form_than_needed_are_understood() {
        let mut wire = vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, b'x'];
        assert_eq!(decode(&wire), (vec![Seen::Binary(b"x".to_vec())], None));
        wire = vec![0x82, 0xFE, 0, 1, 0, 0, 0, 0, b'x'];
        assert_eq!(decode(&wire), (vec![Seen::Binary(b"x".to_vec())], None));
    }

    #[test]
    fn headers_that_break_the_protocol() {
        assert_eq!(error_code(&[0x81, 0x05, b'H']), Some(1002), "not masked");
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
            assert_eq!(error_code(&client(0x80 | opcode, b"")), Some(1002), "opcode {opcode:#x}");
        }
        for reserved in [0x10, 0x20, 0x40, 0x70] {
            assert_eq!(error_code(&client(0x81 | reserved, b"x")), Some(1002), "reserved {reserved:#x}");
        }
        for opcode in [0x8, 0x9, 0xA] {
            assert_eq!(error_code(&client(opcode, b"")), Some(1002), "fragmented control {opcode:#x}");
            assert_eq!(error_code(&client(0x80 | opcode, &[0; 126])), Some(1002), "long control {opcode:#x}");
        }
        assert_eq!(error_code(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]), Some(1002), "63 bits at most");
        assert_eq!(error_code(&client(0x89, &[b'x'; 125])), None);
    }

    #[test]
    fn a_bad_header_is_refused_before_it_is_complete() {
        assert_eq!(error_code(&[0x83, 0x80]), Some(1002));
        assert_eq!(error_code(&[0x81, 0x7F]), Some(1002));
    }

    #[test]
    fn fragments_are_joined_around_control_frames() {
        let wire = [
            client(0x01, b"one "),
            client(0x89, b"ping"),
            client(0x00, b""),
            client(0x00, b"two "),
            client(0x8A, b""),
            client(0x80, b"three"),
            client(0x82, b"next"),
        ]
        .concat();
        let expected = vec![
            Seen::Ping(b"ping".to_vec()),
            Seen::Pong(Vec::new()),
            text("one two three"),
            Seen::Binary(b"next".to_vec()),
        ];
        assert_eq!(decode(&wire), (expected, None));
    }

    #[test]
    fn fragments_out_of_place() {
        assert_eq!(error_code(&client(0x80, b"x")), Some(1002), "nothing to continue");
        assert_eq!(error_code(&client(0x00, b"x")), Some(1002), "nothing to continue");
        assert_eq!(error_code(&[client(0x01, b"a"), client(0x81, b"b")].concat()), Some(1002));
        assert_eq!(error_code(&[client(0x01, b"a"), client(0x02, b"b")].concat()), Some(1002));
        let ended = [client(0x01, b"a"), client(0x80, b"b"), client(0x80, b"c")].concat();
        assert_eq!(decode(&ended).0, [text("ab")], "what came before the error is handed out");
        assert_eq!(error_code(&ended), Some(1002));
    }

    #[test]
    fn characters_may_be_cut_by_fragments_but_not_by_the_end() {
        let bytes = "κόσμε 🎲".as_bytes();
        for cut in 0..=bytes.len() {
            let wire = [client(0x01, &bytes[..cut]), client(0x80, &bytes[cut..])].concat();
            assert_eq!(decode(&wire), (vec![text("κόσμε 🎲")], None), "cut at {cut}");
        }
        assert_eq!(error_code(&client(0x81, &bytes[..bytes.len() - 1])), Some(1007));
        assert_eq!(error_code(&[client(0x01, &bytes[..3]), client(0x80, b"")].concat()), Some(1007));
        assert_eq!(error_code(&client(0x81, b"\xED\xA0\x80")), Some(1007), "surrogate");
        assert_eq!(error_code(&client(0x82, b"\xFF\xFE")), None, "binary may hold anything");
    }

    #[test]
    fn invalid_text_fails_before_its_frame_or_message_ends() {
        assert_eq!(error_code(&client(0x01, b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xF4\x90\x80\x80")), Some(1007));
        let mut begun = client(0x81, b"good \xF4\x90 and much more");
        begun.truncate(6 + 7);
        assert_eq!(error_code(&begun), Some(1007));
        begun.truncate(6 + 6);
        assert_eq!(error_code(&begun), None, "F4 may still become a character");
    }

    #[test]
    fn close_frames() {
        assert_eq!(decode(&client(0x88, b"")).0, [Seen::Close(None, String::new())]);
        let reason = "x".repeat(123);
        let long = [&1000u16.to_be_bytes()[..], reason.as_bytes()].concat();
        assert_eq!(decode(&client(0x88, &long)).0, [Seen::Close(Some(1000), reason)]);
        assert_eq!(decode(&client(0x88, &4401u16.to_be_bytes())).0, [Seen::Close(Some(4401), String::new())]);
        assert_eq!(error_code(&client(0x88, &[3])), Some(1002), "half a code");
        assert_eq!(error_code(&client(0x88, &1005u16.to_be_bytes())), Some(1002));
        assert_eq!(error_code(&client(0x88, &0u16.to_be_bytes())), Some(1002));
        assert_eq!(error_code(&client(0x88, b"\x03\xE8\xFF")), Some(1007), "reason is not UTF-8");
    }

    #[test]
    fn nothing_counts_after_a_close_frame_or_an_error() {
        let after = [client(0x88, b"\x03\xE8"), client(0x81, b"late"), vec![0xFF; 9]].concat();
        assert_eq!(decode(&after), (vec![Seen::Close(Some(1000), String::new())], None));

        let mut decoder = Decoder::new(LIMIT, false);
        assert!(feed_parts(&mut decoder, &[&client(0x83, b"")]).1.is_some());
        assert!(decoder.is_closed());
        assert_eq!(feed_parts(&mut decoder, &[&client(0x81, b"late")]), (vec![], None));
    }

    #[test]
    fn a_close_frame_ends_a_message_under_way() {
        let mut decoder = Decoder::new(LIMIT, false);
        let (seen, error) = feed_parts(&mut decoder, &[&client(0x01, b"unfinished"), &client(0x88, b"")]);
        assert_eq!((seen, error), (vec![Seen::Close(None, String::new())], None));
        assert_eq!(decoder.held(), 0);
    }

    #[test]
    fn the_size_limit_is_exact_and_known_from_the_header() {
        let limit =
            |wire: &[u8]| feed_parts(&mut Decoder::new(1000, true), &[wire]).1.map(|error| error.code);
        assert_eq!(limit(&client(0x82, &[0; 1000])), None);
        assert_eq!(limit(&client(0x82, &[0; 1001])), Some(close::TOO_BIG));
        assert_eq!(limit(&client(0x82, &[0; 1001])[..8]), Some(close::TOO_BIG), "header alone");
        assert_eq!(
            limit(&[0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4]),
            Some(close::TOO_BIG)
        );
        assert_eq!(limit(&[client(0x02, &[0; 999]), client(0x00, b""), client(0x80, b"x")].concat()), None);
        assert_eq!(
            limit(&[client(0x02, &[0; 999]), client(0x00, b"x"), client(0x80, b"x")].concat()),
            Some(1009)
        );
        assert_eq!(
            limit(&[client(0x82, &[0; 1000]), client(0x82, &[0; 1000])].concat()),
            None,
            "each on its own"
        );
        assert_eq!(limit(&client(0xC2, &[0; 2000])), Some(close::TOO_BIG), "deflated but too long anyway");
    }

    #[test]
    fn the_size_limit_can_be_raised_after_authentication() {
        let mut decoder = Decoder::new(10, false);
        assert_eq!(feed_parts(&mut decoder, &[&client(0x81, b"0123456789")]).1, None);
        decoder.set_max_message(11);
        assert_eq!(feed_parts(&mut decoder, &[&client(0x81, b"0123456789A")]).1, None);
        assert_eq!(
            feed_parts(&mut decoder, &[&client(0x81, b"0123456789AB")]).1.map(|error| error.code),
            Some(1009)
        );
    }

    #[test]
    fn deflated_messages() {
        let packed = deflated(b"{\"hello\":1}");
        let plain = format!("{:<2048}", "{\"hello\":1}");
        let (first, rest) = packed.split_at(5);
        let fragmented =
            [client(0x41, first), client(0x89, b""), client(0x00, b""), client(0x80, rest)].concat();
        for wire in [client(0xC1, &packed), fragmented] {
            let (seen, error) = decode_with(true, &wire);
            assert_eq!(error, None);
            assert_eq!(seen.last(), Some(&text(&plain)));
            assert_eq!(decode(&wire).1.map(|error| error.code), Some(1002), "only if agreed on");
        }
        assert_eq!(
            decode_with(true, &client(0x81, b"plain")),
            (vec![text("plain")], None),
            "it is never a must"
        );
    }

    #[test]
    fn the_compression_bit_belongs_to_the_first_frame_of_a_message() {
        let packed = deflated(b"x");
        let again = [client(0x41, &packed[..3]), client(0xC0, &packed[3..])].concat();
        assert_eq!(decode_with(true, &again).1.map(|error| error.code), Some(1002));
        for opcode in [0xC8, 0xC9, 0xCA] {
            assert_eq!(decode_with(true, &client(opcode, b"")).1.map(|error| error.code), Some(1002));
        }
    }

    #[test]
    fn deflated_messages_are_checked_after_inflation() {
        let mut latin = vec![b'x'; 2000];
        latin.push(0xE9);
        latin.resize(3000, b'x');
        assert_eq!(decode_with(true, &client(0xC1, &deflated(&latin))).1.map(|error| error.code), Some(1007));
        assert_eq!(decode_with(true, &client(0xC1, b"\xFF\xFF\xFF")).1.map(|error| error.code), Some(1007));
        let bomb = deflated(&vec![0; LIMIT + 1]);
        assert!(bomb.len() < 2000);
        assert_eq!(decode_with(true, &client(0xC2, &bomb)).1.map(|error| error.code), Some(1009));
        assert_eq!(decode_with(true, &client(0xC2, &deflated(&vec![0; LIMIT]))).1, None);
    }

    #[test]
    fn nothing_is_held_between_messages() {
        assert!(size_of::<Decoder>() <= 40, "{}", size_of::<Decoder>());
        let mut decoder = Decoder::new(LIMIT, true);
        for wire in [
            client(0x81, b"some text"),
            client(0x82, &[7; 70_000]),
            client(0xC2, &deflated(b"packed")),
            client(0x89, &[1; 125]),
            [client(0x01, b"a"), client(0x89, b"p"), client(0x80, b"b")].concat(),
        ] {
            let half = wire.len() / 2;
            let _ = feed_parts(&mut decoder, &[&wire[..half]]);
            assert!(decoder.held() > 0);
            let _ = feed_parts(&mut decoder, &[&wire[half..]]);
            assert_eq!(decoder.held(), 0);
        }
        let _ = feed_parts(&mut decoder, &[&[0x82]]);
        assert_eq!(decoder.held(), 0, "the start of a header fits inside");
    }

    #[test]
    fn an_announced_length_buys_no_memory() {
        let mut decoder = Decoder::new(1 << 30, false);
        let wire = client(0x82, &vec![7; 1 << 20]);
        assert_eq!(feed_parts(&mut decoder, &[&wire[..1000]]), (vec![], None));
        assert!(decoder.held() < 3000, "{}", decoder.held());
        let (seen, _) = feed_parts(&mut decoder, &wire[1000..].chunks(4096).collect::<Vec<_>>());
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn whole_messages_are_lent_and_not_copied() {
        let mut wire = client(0x81, b"first");
        wire.extend(client(0x82, b"second"));
        let range = wire.as_ptr_range();
        let mut count = 0;
        let mut sink = |item: Incoming<'_>| {
            let at = match item {
                Incoming::Text(text) => text.as_ptr(),
                Incoming::Binary(bytes) => bytes.as_ptr(),
                other => panic!("{other:?}"),
            };
            assert!(range.contains(&at));
            count += 1;
            ControlFlow::Continue(())
        };
        Decoder::new(LIMIT, false).feed(&mut wire, &mut Inflater::new(), &mut sink).unwrap();
        assert_eq!(count, 2);
    }

    #[test]
    fn a_sink_can_stop_and_get_the_rest_later() {
        let wire =
            [client(0x81, b"one"), client(0x01, b"tw"), client(0x80, b"o"), client(0x81, b"three")].concat();
        let mut decoder = Decoder::new(LIMIT, false);
        let (mut lent, mut inflater, mut seen) = (wire.clone(), Inflater::new(), Vec::new());
        let mut at = 0;
        while at < wire.len() {
            let mut sink = |item: Incoming<'_>| {
                seen.push(Seen::from(item));
                ControlFlow::Break(())
            };
            let used = decoder.feed(&mut lent[at..], &mut inflater, &mut sink).unwrap();
            assert!(used > 0);
            at += used;
            assert_eq!(lent[at..], wire[at..], "what is left is as it was");
        }
        assert_eq!(seen, [text("one"), Seen::Part, text("two"), text("three")]);
    }

    /// Wants every second message.
    struct Choosy(usize, Vec<Seen>);

    impl Sink for Choosy {
        fn wants(&mut self) -> bool {
            self.0 += 1;
            self.0 % 2 == 1
        }

        fn take(&mut self, item: Incoming<'_>) -> ControlFlow<()> {
            self.1.push(Seen::from(item));
            ControlFlow::Continue(())
        }
    }

    #[test]
    fn what_is_not_wanted_is_neither_inflated_nor_checked() {
        let bomb = [vec![0xC1], client(0x81, &zeros())[1..].to_vec()].concat();
        let torn = client(0xC1, &[0xFF; 64]);
        let wire = [
            client(0x81, b"one"),
            bomb,
            client(0x81, b"two"),
            torn,
            client(0x89, b"ping"),
            client(0x81, b"three"),
            client(0x81, &[0xFF]),
            client(0x88, b""),
        ]
        .concat();
        let mut sink = Choosy(0, Vec::new());
        let fed = Decoder::new(LIMIT, true).feed(&mut wire.clone(), &mut Inflater::new(), &mut sink);
        assert_eq!(fed, Ok(wire.len()));
        let unread = || Seen::Unread;
        let (ping, close) = (Seen::Ping(b"ping".to_vec()), Seen::Close(None, String::new()));
        assert_eq!(
            sink.1,
            [text("one"), unread(), text("two"), unread(), ping, text("three"), unread(), close]
        );
    }

    /// Far more than the limit, deflated into a little.
    fn zeros() -> Vec<u8> {
        deflated(&vec![0; 4 * LIMIT])
    }

    /// A message or control frame, and the frames that carry it.
    fn script() -> impl Strategy<Value = (Vec<u8>, Vec<Seen>)> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        let short = || proptest::collection::vec(any::<u8>(), 0..=125);
        let item = prop_oneof![
            (".{0,200}", any::<usize>(), any::<bool>()).prop_map(|(message, cut, packed)| {
                let sent = if packed { format!("{message:2048}") } else { message };
                let payload = if packed { deflated(sent.as_bytes()) } else { sent.clone().into_bytes() };
                (fragments(Opcode::Text, &payload, cut, packed), Seen::Text(sent))
            }),
            (bytes(), any::<usize>()).prop_map(|(message, cut)| {
                (fragments(Opcode::Binary, &message, cut, false), Seen::Binary(message))
            }),
            Just((client(0x82, &[9; 66_000]), Seen::Binary(vec![9; 66_000]))),
            short().prop_map(|payload| (client(0x89, &payload), Seen::Ping(payload))),
            short().prop_map(|payload| (client(0x8A, &payload), Seen::Pong(payload))),
        ];
        proptest::collection::vec(item, 0..8).prop_map(|items| {
            let (wires, seen): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            (wires.concat(), seen)
        })
    }

    fn fragments(opcode: Opcode, payload: &[u8], cut: usize, packed: bool) -> Vec<u8> {
        let first = opcode.bits() | if packed { 0x40 } else { 0 };
        let (head, tail) = payload.split_at(cut % (payload.len() + 1));
        match cut % 3 {
            0 => client(0x80 | first, payload),
            1 => [client(first, head), client(0x80, tail)].concat(),
            _ => [client(first, head), client(0x00, b""), client(0x00, tail), client(0x80, b"")].concat(),
        }
    }

    fn split_at_all<'a>(wire: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut start = 0;
        for cut in cuts {
            parts.push(&wire[start..cut]);
            start = cut;
        }
        parts.push(&wire[start..]);
        parts
    }

    proptest! {
        #[test]
        fn cuts_in_the_byte_stream_change_nothing((wire, expected) in script(), cuts in proptest::collection::vec(any::<usize>(), 0..20)) {
            let mut decoder = Decoder::new(LIMIT, true);
            let got = feed_parts(&mut decoder, &split_at_all(&wire, &cuts));
            assert_eq!(got, (expected, None));
            assert_eq!(decoder.held(), 0);
        }

        #[test]
        fn any_bytes_are_survived_and_mean_the_same_in_any_parts(wire in proptest::collection::vec(any::<u8>(), 0..400), cuts in proptest::collection::vec(any::<usize>(), 0..8), deflate: bool) {
            let whole = feed_parts(&mut Decoder::new(100, deflate), &[&wire]);
            let parts = feed_parts(&mut Decoder::new(100, deflate), &split_at_all(&wire, &cuts));
            assert_eq!(whole.0, parts.0);
            assert_eq!(whole.1.map(|error| error.code), parts.1.map(|error| error.code));
        }

        #[test]
        fn damaged_frames_are_survived((mut wire, _) in script(), damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6), cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
            for (at, byte) in damage {
                let at = at % (wire.len() + 1);
                if let Some(slot) = wire.get_mut(at) {
                    *slot = byte;
                }
            }
            let mut decoder = Decoder::new(1000, true);
            let _ = feed_parts(&mut decoder, &split_at_all(&wire, &cuts));
            assert!(decoder.held() < 5000);
        }
    }
}
