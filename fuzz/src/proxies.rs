//! What proxies write: the header of the PROXY protocol, `X-Forwarded-For` and `Forwarded`.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use roundtable::config::Networks;
use roundtable::transport::forwarded::{FOR, FORWARDED, client};
use roundtable::transport::preface::{LONGEST, Preface, read};

/// The bytes as the beginning of a connection, and each line as what a client sends through a trusted proxy.
pub fn run(data: &[u8]) {
    preface(data);
    let trusted = Networks::of(vec!["127.0.0.0/8".parse().unwrap()]);
    let [proxy, own]: [IpAddr; 2] = ["127.0.0.1", "192.0.2.7"].map(|ip| ip.parse().unwrap());
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Ok(line) = HeaderValue::from_bytes(line) else { continue };
        for (name, written) in [(FOR, "192.0.2.7"), (FORWARDED, "for=192.0.2.7")] {
            let mut headers = HeaderMap::new();
            headers.append(HeaderName::from_static(name), line.clone());
            assert_eq!(client(own, &headers, &trusted), Ok((own, true)), "a stranger is believed");
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(written));
            assert_eq!(client(proxy, &headers, &trusted), Ok((own, true)), "a proxy's own line counts");
            let one = [line.as_bytes(), b", ", written.as_bytes()].concat();
            let Ok(one) = HeaderValue::from_bytes(&one) else { continue };
            headers.insert(HeaderName::from_static(name), one);
            let (seen, whole) = client(proxy, &headers, &trusted).unwrap();
            assert!(seen == own || (seen == proxy && !whole), "a client names another: {seen}");
        }
    }
}

/// Reads only what is asked for: it stays small, and what is behind the header does not matter.
fn preface(stream: &[u8]) {
    let taken = |stream: &[u8]| {
        let mut have = 0;
        loop {
            match read(&stream[..have]) {
                Ok(Preface::More(more)) if have + more <= stream.len() => have += more,
                said => return (said, have),
            }
        }
    };
    let (said, took) = taken(stream);
    assert!(took <= LONGEST);
    if let Ok(Preface::Whole(_)) = said {
        assert_eq!(taken(&[&stream[..took], b"what is behind"].concat()), (said, took));
    }
}
