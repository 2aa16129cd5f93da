//! The WebSocket decoder: the same result however the bytes arrive, never more memory than arrived, and what was encoded
//! comes back.

use std::ops::ControlFlow;

use roundtable_dialects::websocket::{Decoder, Deflater, Error, Frame, Incoming, Inflater, Opcode};

use super::cut::{Drawn, pieces};

/// Everything that came out of a decoder.
#[derive(PartialEq, Debug)]
struct Result {
    items: Vec<String>,
    error: Option<Error>,
    closed: bool,
}

/// First byte: bit 0 compression, bits 1 and 2 the size limit, bit 3 whether the rest is payload instead of wire. Second
/// byte: where it is cut.
pub fn run(data: &[u8]) {
    let Some((&[flags, seed], rest)) = data.split_first_chunk::<2>() else { return };
    let (deflate, limit) = (flags & 1 != 0, [64, 1_024, 4_096, 1 << 20][usize::from(flags >> 1 & 3)]);
    let mut drawn = Drawn::new(u64::from(seed));
    if flags & 8 != 0 {
        return there_and_back(rest, deflate, &mut drawn);
    }
    let whole = decode(vec![rest.to_vec()], deflate, limit, false);
    assert_eq!(whole, decode(pieces(rest, 40, &mut drawn), deflate, limit, false), "cut into pieces");
    assert_eq!(whole, decode(vec![rest.to_vec()], deflate, limit, true), "stopped after each item");
    assert_eq!(whole, decode(pieces(rest, 1, &mut drawn), deflate, limit, true), "byte by byte");
}

fn decode(arriving: Vec<Vec<u8>>, deflate: bool, limit: usize, stop: bool) -> Result {
    let (mut decoder, mut inflater) = (Decoder::new(limit, deflate), Inflater::new());
    let (mut items, mut arrived) = (Vec::new(), 0);
    let mut sink = |item: Incoming<'_>| {
        if item == Incoming::Part {
            return ControlFlow::Continue(());
        }
        if let Incoming::Text(text) = item {
            assert!(text.len() <= limit, "a text above the limit");
        }
        if let Incoming::Binary(bytes) = item {
            assert!(bytes.len() <= limit, "a message above the limit");
        }
        items.push(format!("{item:?}"));
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut error = None;
    'all: for mut piece in arriving {
        arrived += piece.len();
        let mut from = 0;
        while from < piece.len() {
            match decoder.feed(&mut piece[from..], &mut inflater, &mut sink) {
                Ok(used) => {
                    assert!(used > 0 && used <= piece.len() - from, "{used} bytes used");
                    from += used;
                }
                Err(found) => {
                    error = Some(found);
                    break 'all;
                }
            }
            assert!(decoder.held() <= 2 * arrived + 512, "{} held of {arrived}", decoder.held());
        }
    }
    let closed = decoder.is_closed();
    assert!(error.is_none() || closed);
    assert!(!closed || decoder.held() == 0, "a closed decoder holds {} bytes", decoder.held());
    Result { items, error, closed }
}

/// A client's frame.
fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut wire = vec![first];
    match payload.len() {
        short @ 0..126 => wire.push(0x80 | short as u8),
        medium @ 126..65_536 => {
            wire.push(0x80 | 126);
            wire.extend((medium as u16).to_be_bytes());
        }
        long => {
            wire.push(0x80 | 127);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    wire.extend(mask);
    wire.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]));
    wire
}

/// A message in fragments with pings between them arrives as it left, and so does a server's frame, compressed or not.
fn there_and_back(payload: &[u8], deflate: bool, drawn: &mut Drawn) {
    let text = std::str::from_utf8(payload).is_ok();
    let opcode = if text { Opcode::Text } else { Opcode::Binary };
    let frame =
        if text { Frame::text(std::str::from_utf8(payload).unwrap()) } else { Frame::binary(payload) };
    assert_eq!((frame.opcode(), frame.payload()), (opcode, payload));
    let packed = Deflater::new().shrink(&frame, 9 + drawn.below(7) as u8);
    if let Some(packed) = &packed {
        assert!(packed.payload().len() < payload.len());
        assert_eq!(Inflater::new().inflate(packed.payload(), payload.len()), Ok(payload));
        assert!(Inflater::new().inflate(packed.payload(), payload.len() - 1).is_err(), "above the limit");
    }
    let packed = packed.filter(|_| deflate);
    let body = packed.as_ref().map_or(payload, Frame::payload);
    let mut fragments = pieces(body, body.len().max(1), drawn);
    if fragments.is_empty() {
        fragments.push(Vec::new());
    }
    let (last, mut wire) = (fragments.len() - 1, Vec::new());
    for (n, fragment) in fragments.iter().enumerate() {
        let mut first = if n == 0 { opcode.bits() } else { 0 };
        first |= if n == last { 0x80 } else { 0 } | if n == 0 && packed.is_some() { 0x40 } else { 0 };
        wire.extend(masked(first, fragment, (drawn.next() as u32).to_be_bytes()));
        if n != last {
            wire.extend(masked(0x89, b"still there?", [1, 2, 3, 4]));
        }
    }
    let got = decode(pieces(&wire, 100, drawn), deflate, payload.len(), false);
    let whole = match std::str::from_utf8(payload) {
        Ok(text) => format!("{:?}", Incoming::Text(text)),
        Err(_) => format!("{:?}", Incoming::Binary(payload)),
    };
    assert_eq!((got.error, got.items.len(), got.items.last()), (None, last + 1, Some(&whole)));
}
