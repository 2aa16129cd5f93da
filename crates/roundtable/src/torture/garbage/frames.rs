//! Frames that no client should send, and what they should be answered with.

use roundtable_dialects::websocket::{Deflater, Frame};

use crate::torture::Scale;

/// What should become of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// It is closed with one of these codes.
    Close(&'static [u16]),
    /// It gets an error and stays.
    Answer,
    /// Whatever; the server has to live.
    Anything,
}

/// Bytes behind the handshake.
#[derive(Clone)]
pub struct Case {
    pub what: String,
    pub bytes: Vec<u8>,
    pub want: Want,
    /// Compression is offered.
    pub deflate: bool,
}

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const PING: u8 = 9;
pub const FIN: u8 = 0x80;
pub const COMPRESSED: u8 = 0x40;
const PROTOCOL: Want = Want::Close(&[1002]);
const TOO_LARGE: Want = Want::Close(&[1009]);
/// The largest message that is taken.
const MAX: usize = 1 << 20;

/// A masked frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    let key = [0x12, 0x34, 0x56, 0x78];
    bytes.extend(key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The beginning of a masked frame, up to its length.
fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => bytes.push(0x80 | short),
        (_, Ok(middle)) => {
            bytes.push(0x80 | 126);
            bytes.extend(middle.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// A message of which only the beginning comes.
fn beginning(length: u64) -> Vec<u8> {
    [header(FIN | BINARY, length).as_slice(), b"mask and more"].concat()
}

/// The known ones.
pub fn cases() -> Vec<Case> {
    let case = |what: &str, want, bytes| Case { what: what.to_owned(), bytes, want, deflate: false };
    let mut two_ends = frame(TEXT, b"{");
    two_ends.extend(frame(FIN | TEXT, b"}"));
    let mut all = vec![
        case("a frame without a mask", PROTOCOL, vec![FIN | TEXT, 2, b'{', b'}']),
        case("a reserved bit", PROTOCOL, frame(FIN | 0x20 | TEXT, b"{}")),
        case("compression that was not agreed on", PROTOCOL, frame(FIN | COMPRESSED | TEXT, b"{}")),
        case("an unknown kind of frame", PROTOCOL, frame(FIN | 3, b"{}")),
        case("an unknown control frame", PROTOCOL, frame(FIN | 11, b"")),
        case("a ping in pieces", PROTOCOL, frame(PING, b"x")),
        case("a close in pieces", PROTOCOL, frame(8, &[3, 232])),
        case("a ping of 126 bytes", PROTOCOL, frame(FIN | PING, &[b'x'; 126])),
        case("a rest without a beginning", PROTOCOL, frame(FIN, b"rest")),
        case("a new message in the middle of another", PROTOCOL, two_ends),
        case("a close with half a code", PROTOCOL, frame(FIN | 8, &[3])),
        case("a close with a code that nobody may use", PROTOCOL, frame(FIN | 8, &[3, 237])),
        case("a text that is not UTF-8", Want::Close(&[1007]), frame(FIN | TEXT, &[b'"', 0xff, 0xfe, b'"'])),
        case("a length of 2^63", Want::Close(&[1002, 1009]), beginning(1 << 63)),
        case("a length of 2^62", TOO_LARGE, beginning(1 << 62)),
        case("a text of 1 MiB and a byte", TOO_LARGE, frame(FIN | TEXT, &vec![b'x'; MAX + 1])),
        case("text that is not JSON", Want::Answer, frame(FIN | TEXT, b"hello")),
        case("JSON that is nested deeply", Want::Answer, frame(FIN | TEXT, &vec![b'['; 200_000])),
        case("half an object", Want::Answer, frame(FIN | TEXT, b"{\"type\":")),
    ];
    let mut pieces = frame(TEXT, &vec![b'x'; MAX / 2]);
    for _ in 0..3 {
        pieces.extend(frame(0, &vec![b'x'; MAX / 2]));
    }
    all.push(case("pieces that grow above 1 MiB", TOO_LARGE, pieces));
    let empty: Vec<u8> =
        frame(TEXT, b"").into_iter().chain((0..20_000).flat_map(|_| frame(0, b""))).collect();
    all.push(case("a message of 20,000 empty pieces", Want::Anything, empty));
    let zeros = Frame::text(&"0".repeat(64 << 20));
    let bomb =
        Deflater::new().shrink(&zeros, 10).map(|small| frame(FIN | COMPRESSED | TEXT, small.payload()));
    let bomb = case("64 MiB that arrive as 64 KiB", TOO_LARGE, bomb.unwrap_or_default());
    let torn = case(
        "compressed bytes that are none",
        Want::Close(&[1002, 1007]),
        frame(FIN | COMPRESSED | TEXT, &[0xff; 64]),
    );
    all.extend([bomb, torn].map(|case| Case { deflate: true, ..case }));
    all
}

/// Random bytes, as frames or as they are.
pub fn noise(scale: &mut Scale) -> Case {
    let length = scale.draw(2_000);
    let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(scale.draw(256)).unwrap_or_default()).collect();
    let first = u8::try_from(scale.draw(256)).unwrap_or_default();
    let (what, bytes) = match scale.draw(3) {
        0 => ("random bytes", bytes),
        1 => ("a random frame", frame(first, &bytes)),
        _ => ("a text of random bytes", frame(FIN | TEXT, String::from_utf8_lossy(&bytes).as_bytes())),
    };
    Case { what: what.to_owned(), bytes, want: Want::Anything, deflate: scale.draw(2) == 0 }
}

/// The server's frames: first byte and payload of each that is whole.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut all = Vec::new();
    while let Some((first, length, rest)) = split_header(bytes) {
        let Some((payload, next)) = rest.split_at_checked(length) else { break };
        all.push((first, payload));
        bytes = next;
    }
    all
}

fn split_header(bytes: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    match length {
        126 => rest.split_first_chunk().map(|(n, rest)| (*first, usize::from(u16::from_be_bytes(*n)), rest)),
        127 => {
            let (n, rest) = rest.split_first_chunk()?;
            Some((*first, usize::try_from(u64::from_be_bytes(*n)).ok()?, rest))
        }
        n => Some((*first, usize::from(*n), rest)),
    }
}

/// The code of the close frame, if there is one; 1005 if it has none.
pub fn close_code(bytes: &[u8]) -> Option<u16> {
    let (_, payload) = frames(bytes).into_iter().find(|(first, _)| *first == FIN | 8)?;
    Some(payload.first_chunk().map_or(1_005, |code| u16::from_be_bytes(*code)))
}

/// Whether the server told of an error.
pub fn has_error(bytes: &[u8]) -> bool {
    let error = |payload: &[u8]| String::from_utf8_lossy(payload).contains("error");
    frames(bytes).into_iter().any(|(first, payload)| first == FIN | TEXT && error(payload))
}

#[cfg(test)]
mod tests {
    use super::{FIN, TEXT, close_code, frame, has_error, header};

    #[test]
    fn answers_are_read() {
        let mut wire = vec![FIN | TEXT, 5];
        wire.extend(b"hello");
        assert_eq!((close_code(&wire), has_error(&wire)), (None, false));
        wire.extend([FIN | TEXT, 126, 0, 5]);
        wire.extend(b"error");
        assert!(has_error(&wire));
        wire.extend([FIN | 8, 2, 3]);
        assert_eq!(close_code(&wire), None, "not whole yet");
        wire.push(234);
        assert_eq!(close_code(&wire), Some(1_002));
        assert_eq!(close_code(&[FIN | 8, 0]), Some(1_005));
    }

    #[test]
    fn lengths_have_three_forms() {
        assert_eq!(header(1, 125), [1, 0x80 | 125]);
        assert_eq!(header(1, 126), [1, 0x80 | 126, 0, 126]);
        assert_eq!(header(1, 65_536)[..2], [1, 0x80 | 127]);
        assert_eq!(frame(1, b"ab").len(), 2 + 4 + 2);
    }
}
