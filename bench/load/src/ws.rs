//! The little of RFC 6455 that a client needs which trusts its server: masked frames out, plain frames in.

/// A frame found at the start of a buffer.
pub struct Frame<'a> {
    /// The first header byte: FIN, reserved bits and opcode.
    pub head: u8,
    pub payload: &'a [u8],
    /// Bytes the frame takes in the buffer.
    pub len: usize,
}

pub const TEXT: u8 = 0x81;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// The first whole frame of a buffer; `None` if more bytes are needed. A server's frames are not masked.
pub fn parse(buf: &[u8]) -> Option<Frame<'_>> {
    let (&head, &second) = (buf.first()?, buf.get(1)?);
    let (start, size) = match second {
        126 => (4, usize::from(u16::from_be_bytes(buf.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(buf.get(2..10)?.try_into().ok()?)).ok()?),
        n => (2, usize::from(n & 0x7f)),
    };
    Some(Frame { head, payload: buf.get(start..start + size)?, len: start + size })
}

/// Appends a frame. The mask is zero: allowed, and the same work for every server.
pub fn encode(out: &mut Vec<u8>, head: u8, payload: &[u8]) {
    out.push(head);
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// The upgrade request. Its key is constant, as the answer is not checked beyond its status.
pub fn upgrade(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YmVuY2gtbG9hZC1jbGllbg==\r\n\r\n"
    )
}

/// Length of the answer to the upgrade if it is whole and positive; `Ok(None)` if more bytes are needed.
pub fn upgraded(buf: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = memchr::memmem::find(buf, b"\r\n\r\n") else { return Ok(None) };
    if buf.starts_with(b"HTTP/1.1 101") {
        return Ok(Some(end + 4));
    }
    let head = String::from_utf8_lossy(buf.get(..end).unwrap_or_default());
    Err(format!("the server did not upgrade: {}", head.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::{TEXT, encode, parse, upgraded};

    #[test]
    fn waits_for_whole_frames() {
        let mut one = vec![TEXT, 126, 1, 0];
        one.extend([b'x'; 256]);
        assert!(parse(&one[..259]).is_none());
        let frame = parse(&one).unwrap();
        assert_eq!((frame.len, frame.payload.len(), frame.head), (260, 256, TEXT));
    }

    #[test]
    fn client_frames_are_masked() {
        let mut out = Vec::new();
        encode(&mut out, TEXT, &[b'a'; 200]);
        assert_eq!(out[..8], [0x81, 0xfe, 0, 200, 0, 0, 0, 0]);
        assert_eq!(out.len(), 208);
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(upgraded(b"HTTP/1.1 101 Switching Protocols\r\n\r\nrest"), Ok(Some(36)));
        assert_eq!(upgraded(b"HTTP/1.1 101 Switch"), Ok(None));
        assert!(upgraded(b"HTTP/1.1 403 Forbidden\r\n\r\n").is_err());
    }
}
