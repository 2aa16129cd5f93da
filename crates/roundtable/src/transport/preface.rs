//! The PROXY protocol, versions 1 and 2: how a proxy says for whom it opened a connection, before anything else.
//!
//! No I/O: the caller reads as many bytes as it is told to, never one of what comes behind the header. Nothing is guessed: a
//! listener takes either such headers or none (PROXY protocol, section 5).

use std::net::{IpAddr, SocketAddr};

use ppp::{v1, v2};

/// The shortest header there is, `PROXY UNKNOWN` and its line end.
const SHORTEST: usize = 15;
/// Bytes of a header of version 2 before its addresses.
const FIXED: usize = 16;
/// The longest line of version 1.
const LONGEST_LINE: usize = 107;
/// The longest header of version 2 that is taken: addresses, and what a proxy may add about TLS.
pub const LONGEST: usize = 4 << 10;

/// What the bytes of a header that have come so far say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preface {
    /// At least so many bytes of it are still to come.
    More(usize),
    /// It is whole: for whom the connection is. `None`: for the proxy itself, as its health checks are, or nobody knows.
    Whole(Option<SocketAddr>),
}

/// Reads what has come. Fails with what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Preface, &'static str> {
    if bytes.len() < SHORTEST {
        return Ok(Preface::More(SHORTEST - bytes.len()));
    }
    if bytes.starts_with(v2::PROTOCOL_PREFIX) {
        return binary(bytes);
    }
    if bytes.starts_with(b"PROXY ") {
        return line(bytes);
    }
    Err("this is no PROXY protocol header")
}

fn line(bytes: &[u8]) -> Result<Preface, &'static str> {
    if !bytes.ends_with(b"\r\n") {
        let missing = if bytes.ends_with(b"\r") { 1 } else { 2 };
        let fits = bytes.len() + missing <= LONGEST_LINE;
        return if fits { Ok(Preface::More(missing)) } else { Err("the PROXY line does not end") };
    }
    let header = v1::Header::try_from(bytes).map_err(|_| "the PROXY line cannot be read")?;
    if header.header.len() != bytes.len() {
        return Err("the PROXY line has a line end within");
    }
    Ok(Preface::Whole(match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(of) => Some((IpAddr::V4(of.source_address), of.source_port).into()),
        v1::Addresses::Tcp6(of) => Some((IpAddr::V6(of.source_address), of.source_port).into()),
    }))
}

fn binary(bytes: &[u8]) -> Result<Preface, &'static str> {
    let Some(length) = bytes.get(FIXED - 2..FIXED).and_then(|two| <[u8; 2]>::try_from(two).ok()) else {
        return Ok(Preface::More(FIXED - bytes.len()));
    };
    let whole = FIXED + usize::from(u16::from_be_bytes(length));
    if whole > LONGEST {
        return Err("the PROXY header is too long");
    }
    if bytes.len() < whole {
        return Ok(Preface::More(whole - bytes.len()));
    }
    let header = v2::Header::try_from(bytes).map_err(|_| "the PROXY header cannot be read")?;
    Ok(Preface::Whole(match (header.command, header.protocol, header.addresses) {
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(of)) => {
            Some((IpAddr::V4(of.source_address), of.source_port).into())
        }
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(of)) => {
            Some((IpAddr::V6(of.source_address), of.source_port).into())
        }
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LONGEST, LONGEST_LINE, Preface, read};

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// Reads a stream as the server does: only what is asked for. What it says, and how much it took.
    fn taken(stream: &[u8]) -> (Result<Preface, &'static str>, usize) {
        let mut have = 0;
        loop {
            match read(&stream[..have]) {
                Ok(Preface::More(more)) if have + more <= stream.len() => have += more,
                said => return (said, have),
            }
        }
    }

    fn whole(stream: &[u8], length: usize, client: Option<&str>) {
        let client = client.map(|client| client.parse().unwrap());
        assert_eq!(taken(stream), (Ok(Preface::Whole(client)), length), "{stream:?}");
    }

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    #[test]
    fn lines_of_version_1() {
        for (line, client) in [
            ("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n", Some("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n", Some("[2001:db8::7]:1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", None),
        ] {
            let stream = format!("{line}GET / HTTP/1.1\r\n\r\n");
            whole(stream.as_bytes(), line.len(), client);
        }
    }

    #[test]
    fn headers_of_version_2() {
        let v4 = [192, 0, 2, 7, 192, 0, 2, 1, 0xDC, 0x04, 1, 187];
        let mut v6 = [0_u8; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0x20, 0x01, 7, 9);
        let with_more = [&v4[..], &[0x04, 0, 2, 1, 1]].concat();
        for (header, client) in [
            (header(0x21, 0x11, &v4), Some("192.0.2.7:56324")),
            (header(0x21, 0x11, &with_more), Some("192.0.2.7:56324")),
            (header(0x21, 0x21, &v6), Some("[2001::7]:9")),
            (header(0x20, 0x11, &v4), None),
            (header(0x20, 0x00, &[]), None),
            (header(0x21, 0x12, &v4), None),
            (header(0x21, 0x31, &[0; 216]), None),
        ] {
            let stream = [&header[..], b"\x16\x03\x01 and so on"].concat();
            whole(&stream, header.len(), client);
        }
    }

    #[test]
    fn what_is_none_is_refused_early() {
        for (stream, most) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], 15),
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 x 443\r\n", 40),
            (b"PROXY TCP5 192.0.2.7 192.0.2.1 1 443\r\n", 40),
            (b"PROXY TCP4 192.0.2.256 192.0.2.1 1 4\r\n", 40),
            (&[b'x'; 200], 15),
        ] {
            let (said, took) = taken(stream);
            assert!(said.is_err() && took <= most, "{said:?} after {took}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert!(matches!(taken(&endless), (Err(_), took) if took <= LONGEST_LINE));
        let [long, short] = [header(0x21, 0x11, &vec![0; LONGEST]), header(0x21, 0x11, &[0; 11])];
        assert!(matches!(taken(&long), (Err(_), 16)));
        assert!(matches!(taken(&short), (Err(_), 27)));
        assert!(taken(&header(0x31, 0x11, &[0; 12])).0.is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_it_never_takes_what_is_behind_and_stays_small(
            start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", SIGNATURE]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let stream = [start, &rest].concat();
            let (said, took) = taken(&stream);
            prop_assert!(took <= LONGEST);
            if let Ok(Preface::Whole(_)) = said {
                let other = [&stream[..took], b"something else"].concat();
                prop_assert_eq!(taken(&other), (said, took));
                for cut in 0..took {
                    prop_assert!(matches!(taken(&stream[..cut]).0, Ok(Preface::More(_))));
                }
            }
        }
    }
}
