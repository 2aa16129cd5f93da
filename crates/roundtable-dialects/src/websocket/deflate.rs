//! The compression of RFC 7692 without context takeover: every message is inflated and deflated from scratch.
//!
//! Because nothing is kept between messages, one [`Inflater`] and one [`Deflater`] per shard serve all its connections.

use super::{Error, Frame};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Payloads shorter than this many bytes are not worth compressing: they fit into one network packet anyway.
pub const DEFLATE_THRESHOLD: usize = 1024;

/// Speed over size: levels above 3 win a few percent on JSON for a multiple of the time.
const LEVEL: u32 = 3;

/// What the sender of a message cut off its deflate stream: the body of an empty stored block (RFC 7692 section 7.2.1).
const SYNC_TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// [`SYNC_TAIL`] and then an empty last block. A stream that does not end here was cut short or is broken.
const CLOSING_TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x03, 0x00];

/// Output buffers up to this many bytes are kept for the next message; larger ones are given back.
const KEPT_OUTPUT: usize = 64 * 1024;

/// Smallest step in bytes by which the output of an inflated message grows.
const OUTPUT_STEP: usize = 4096;

const BROKEN: Error = Error::data("broken deflate stream");

/// Inflates received messages. Holds a 32 KiB window and an output buffer: one per shard, not per connection.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    output: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// An inflater for messages of any window size.
    #[must_use]
    pub fn new() -> Self {
        Self { stream: Decompress::new(false), output: Vec::new() }
    }

    /// Inflates the whole payload of one message, which must not become longer than `limit` bytes. The result is valid
    /// until the next call.
    ///
    /// # Errors
    ///
    /// `TOO_BIG` as soon as the output passes `limit` (memory never grows past it), `INVALID_DATA` if the payload is not
    /// a complete deflate stream.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<&[u8], Error> {
        self.output.clear();
        if payload.is_empty() {
            // Not a stream at all, but some senders mean an empty message by it, and it can mean nothing else.
            return Ok(&self.output);
        }
        self.stream.reset(false);
        match self.run(payload, limit)? {
            None if self.run(CLOSING_TAIL, limit)? == Some(&[]) => Ok(&self.output),
            // The sender closed the stream itself (RFC 7692 section 7.2.3.5); all that may follow is the header of the
            // empty block whose body it cut off.
            Some([] | [0x00]) => Ok(&self.output),
            _ => Err(BROKEN),
        }
    }

    /// Inflates `input` behind what is there. `None`: all used and the stream goes on; otherwise what follows its end.
    fn run<'a>(&mut self, mut input: &'a [u8], limit: usize) -> Result<Option<&'a [u8]>, Error> {
        loop {
            if self.output.len() == self.output.capacity() {
                let wanted = input.len().saturating_mul(4).max(self.output.len()).max(OUTPUT_STEP);
                self.output.reserve_exact(wanted.min((limit - self.output.len()).saturating_add(1)));
            }
            let used = self.stream.total_in();
            let status = self.stream.decompress_vec(input, &mut self.output, FlushDecompress::Sync);
            let status = status.map_err(|_| BROKEN)?;
            if self.output.len() > limit {
                return Err(Error::TOO_BIG);
            }
            let used = usize::try_from(self.stream.total_in() - used).unwrap_or(usize::MAX);
            input = input.get(used..).unwrap_or_default();
            if status == Status::StreamEnd {
                return Ok(Some(input));
            }
            if self.output.len() < self.output.capacity() {
                return if input.is_empty() { Ok(None) } else { Err(BROKEN) };
            }
        }
    }

    /// Gives the output buffer back if the last message made it large.
    pub(super) fn trim(&mut self) {
        if self.output.capacity() > KEPT_OUTPUT {
            self.output = Vec::new();
        }
    }
}

/// Deflates messages to send: one compressor per window size in use (about 200 KiB each), so one per shard.
#[derive(Debug, Default)]
pub struct Deflater {
    /// For the windows 2^9 to 2^15.
    streams: [Option<Compress>; 7],
    output: Vec<u8>,
}

impl Deflater {
    /// A deflater that makes each compressor when it is first needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The compressed form of a data frame for receivers whose window is at least `window_bits` (9 to 15, see
    /// [`Negotiated::server_max_window_bits`](super::handshake::Negotiated::server_max_window_bits)).
    ///
    /// `None` where the plain frame should go out: control frames, frames already compressed, payloads below
    /// [`DEFLATE_THRESHOLD`], payloads that do not get shorter, and window sizes outside the range.
    #[must_use]
    pub fn shrink(&mut self, frame: &Frame, window_bits: u8) -> Option<Frame> {
        let payload = frame.payload();
        if payload.len() < DEFLATE_THRESHOLD || frame.is_compressed() || frame.opcode().is_control() {
            return None;
        }
        let slot = self.streams.get_mut(usize::from(window_bits.checked_sub(9)?))?;
        let stream = slot.get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::new(LEVEL), false, window_bits)
        });
        stream.reset();
        self.output.clear();
        self.output.reserve(payload.len());
        let status = stream.compress_vec(payload, &mut self.output, FlushCompress::Sync).ok()?;
        let finished = status == Status::Ok && self.output.len() < self.output.capacity();
        let shrunk =
            self.output.strip_suffix(SYNC_TAIL).filter(|body| finished && body.len() < payload.len());
        let shrunk = shrunk.map(|body| Frame::deflated(frame.opcode(), body));
        if self.output.capacity() > KEPT_OUTPUT {
            self.output = Vec::new();
        }
        shrunk
    }
}

#[cfg(test)]
mod tests {
    use super::{DEFLATE_THRESHOLD, Deflater, Inflater, KEPT_OUTPUT};
    use crate::websocket::{Frame, Opcode, close};
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    const LIMIT: usize = 1 << 20;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    /// Repeats with distances up to `len`, so that a compressor with too large a window gives itself away.
    fn distant_repeats(len: usize) -> Vec<u8> {
        let mut text = noise(len);
        text.extend_from_within(..);
        text.extend(b"a short tail that repeats, a short tail that repeats".repeat(40));
        text
    }

    fn zeros_deflated(len: usize) -> Vec<u8> {
        let mut packed = Vec::with_capacity(len / 100 + 1024);
        Compress::new(Compression::new(9), false)
            .compress_vec(&vec![0; len], &mut packed, FlushCompress::Sync)
            .unwrap();
        packed.truncate(packed.len() - 4);
        packed
    }

    #[test]
    fn the_examples_of_the_rfc_inflate() {
        let mut inflater = Inflater::new();
        let cases: [&[u8]; 5] = [
            &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00],
            &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00],
            &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
        ];
        for payload in cases {
            assert_eq!(inflater.inflate(payload, LIMIT).unwrap(), b"Hello", "{payload:02x?}");
        }
        assert_eq!(inflater.inflate(&[0x00], LIMIT).unwrap(), b"");
        assert_eq!(inflater.inflate(&[0x02, 0x00], LIMIT).unwrap(), b"");
        assert_eq!(inflater.inflate(&[], LIMIT).unwrap(), b"");
    }

    #[test]
    fn streams_that_are_cut_short_or_broken_are_refused() {
        let mut inflater = Inflater::new();
        let whole = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        for end in 1..whole.len() - 1 {
            let error = inflater.inflate(&whole[..end], LIMIT).unwrap_err();
            assert_eq!(error.code, close::INVALID_DATA, "{end}");
        }
        for payload in
            [&[0xFF_u8, 0xFF][..], &[0x07], &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00, 0x01]]
        {
            assert_eq!(
                inflater.inflate(payload, LIMIT).unwrap_err().code,
                close::INVALID_DATA,
                "{payload:02x?}"
            );
        }
        assert_eq!(inflater.inflate(&whole, LIMIT).unwrap(), b"Hello", "an error leaves nothing behind");
    }

    #[test]
    fn a_window_does_not_reach_into_the_message_before() {
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], LIMIT).unwrap(), b"Hello");
        let refers_back = [0xF2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(inflater.inflate(&refers_back, LIMIT).unwrap_err().code, close::INVALID_DATA);
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = zeros_deflated(64 << 20);
        assert!(bomb.len() < 100_000);
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&bomb, LIMIT).unwrap_err().code, close::TOO_BIG);
        assert!(inflater.output.capacity() <= LIMIT + 1);
        inflater.trim();
        assert!(inflater.output.capacity() <= KEPT_OUTPUT);
    }

    #[test]
    fn the_limit_is_exact() {
        let packed = zeros_deflated(5000);
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&packed, 5000).unwrap().len(), 5000);
        assert_eq!(inflater.inflate(&packed, 4999).unwrap_err().code, close::TOO_BIG);
        assert_eq!(inflater.inflate(&[0x00], 0).unwrap().len(), 0);
        assert_eq!(inflater.inflate(&zeros_deflated(1), 0).unwrap_err().code, close::TOO_BIG);
    }

    #[test]
    fn frames_shrink_within_the_window_they_are_asked_for() {
        let mut deflater = Deflater::new();
        let mut inflater = Inflater::new();
        for bits in 9..=15 {
            for len in [600, 1100, 3000, 20_000, 40_000] {
                let plain = Frame::binary(&distant_repeats(len));
                let Some(packed) = deflater.shrink(&plain, bits) else {
                    panic!("{len} bytes did not shrink")
                };
                assert!(packed.is_compressed() && packed.opcode() == Opcode::Binary);
                assert!(packed.wire().len() < plain.wire().len());
                assert_eq!(inflater.inflate(packed.payload(), LIMIT).unwrap(), plain.payload());

                // Little by little, so that the window is all that a repeat can come from.
                let mut small = Decompress::new_with_window_bits(false, bits);
                let (mut output, mut chunk) = (Vec::new(), [0; 50]);
                while output.len() < plain.payload().len() {
                    let (read, written) = (small.total_in() as usize, small.total_out() as usize);
                    small.decompress(&packed.payload()[read..], &mut chunk, FlushDecompress::Sync).unwrap();
                    let count = small.total_out() as usize - written;
                    assert!(count > 0);
                    output.extend_from_slice(&chunk[..count]);
                }
                assert_eq!(output, plain.payload(), "window {bits}, {len} bytes");
            }
        }
    }

    #[test]
    fn frames_that_stay_plain() {
        let mut deflater = Deflater::new();
        let long = "x".repeat(DEFLATE_THRESHOLD);
        assert!(deflater.shrink(&Frame::text(&long[1..]), 10).is_none(), "too short");
        assert!(deflater.shrink(&Frame::binary(&noise(5000)), 15).is_none(), "does not shrink");
        assert!(deflater.shrink(&Frame::text(&long), 8).is_none(), "no such window");
        assert!(deflater.shrink(&Frame::text(&long), 16).is_none(), "no such window");
        assert!(deflater.shrink(&Frame::close(Some(1000), &long), 10).is_none(), "control frame");
        let packed = deflater.shrink(&Frame::text(&long), 10).unwrap();
        assert!(packed.payload().len() < 40);
        assert!(deflater.shrink(&packed, 10).is_none(), "compressed already");
    }

    #[test]
    fn equal_frames_shrink_to_equal_bytes_whatever_came_before() {
        let mut deflater = Deflater::new();
        let frame = Frame::text(&"one two three ".repeat(200));
        let first = deflater.shrink(&frame, 10).unwrap();
        let _ = deflater.shrink(&Frame::binary(&noise(100_000)), 10);
        assert_eq!(deflater.shrink(&frame, 10).unwrap(), first);
        assert!(deflater.output.capacity() <= KEPT_OUTPUT);
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..40),
            Just(br#"{"type":"message","agent":"a-1","text":"hello"}"#.to_vec()),
        ];
        (proptest::collection::vec(piece, 1..8), 1..400usize)
            .prop_map(|(pieces, times)| pieces.concat().repeat(times))
    }

    proptest! {
        #[test]
        fn what_is_deflated_inflates_to_the_same(payload in payload(), bits in 9..=15u8) {
            let frame = Frame::binary(&payload);
            if let Some(packed) = Deflater::new().shrink(&frame, bits) {
                assert_eq!(Inflater::new().inflate(packed.payload(), payload.len()).unwrap(), payload);
            }
        }

        #[test]
        fn any_bytes_inflate_or_fail_within_the_limit(payload in proptest::collection::vec(any::<u8>(), 0..300), limit in 0..500usize) {
            let mut inflater = Inflater::new();
            if let Ok(output) = inflater.inflate(&payload, limit) {
                assert!(output.len() <= limit);
            }
            assert!(inflater.output.capacity() <= limit + 1);
        }
    }
}
