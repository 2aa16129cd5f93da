//! Whose request a proxy passes on: `X-Forwarded-For`, and `Forwarded` (RFC 7239). No I/O, and nothing but what proxies that
//! the operator trusts have written themselves is believed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::config::Networks;

/// The header that most proxies write.
pub const FOR: &str = "x-forwarded-for";
/// The header of RFC 7239.
pub const FORWARDED: &str = "forwarded";

/// Both headers are there and name different clients: one of them was not written by the proxy, and nobody can tell which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contradiction;

/// Whether a request says that it comes from a proxy.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FOR) || headers.contains_key(FORWARDED)
}

/// The client of a request that came from `nearest`: the last address that no trusted proxy has, as each one wrote down who
/// came to it. Where the trail ends in something that is no address, the last proxy stands for its clients, and the flag says
/// that it is not whole.
pub fn client(
    nearest: IpAddr,
    headers: &HeaderMap,
    trusted: &Networks,
) -> Result<(IpAddr, bool), Contradiction> {
    if !trusted.contains(nearest) {
        return Ok((nearest, true));
    }
    let by_for = read(headers, FOR, hops).map(|hops| last(nearest, &hops, trusted));
    let by_forwarded = read(headers, FORWARDED, elements).map(|hops| last(nearest, &hops, trusted));
    match (by_for, by_forwarded) {
        (Some(one), Some(other)) if one != other => Err(Contradiction),
        (Some(client), _) | (None, Some(client)) => Ok(client),
        (None, None) => Ok((nearest, true)),
    }
}

/// The hops of all lines of a header, the first one first; `None` if there is no such header.
fn read(
    headers: &HeaderMap,
    name: &str,
    hops: impl Fn(&str) -> Vec<Option<IpAddr>>,
) -> Option<Vec<Option<IpAddr>>> {
    let lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    headers.contains_key(name).then(|| lines.flat_map(|line| hops(&line)).collect())
}

/// Goes back from hop to hop as long as it is a trusted proxy that speaks.
fn last(nearest: IpAddr, hops: &[Option<IpAddr>], trusted: &Networks) -> (IpAddr, bool) {
    let mut client = nearest;
    for hop in hops.iter().rev() {
        match hop {
            _ if !trusted.contains(client) => break,
            Some(before) => client = *before,
            None => return (client, false),
        }
    }
    (client, true)
}

/// The hops of `X-Forwarded-For`; what is no address is `None`.
fn hops(text: &str) -> Vec<Option<IpAddr>> {
    text.split(',').map(str::trim).filter(|hop| !hop.is_empty()).map(address).collect()
}

/// An address, with a port or without: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = inner.parse().or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// The hops of a line of `Forwarded`: of each element what its `for` says. Where quotes do not end, somebody wants to hide
/// what a proxy wrote behind them: such a line says nothing.
fn elements(text: &str) -> Vec<Option<IpAddr>> {
    match split(text, ',') {
        Some(elements) => {
            elements.into_iter().filter(|element| !element.trim().is_empty()).map(of_element).collect()
        }
        None => vec![None],
    }
}

fn of_element(element: &str) -> Option<IpAddr> {
    let pairs = split(element, ';')?.into_iter().filter_map(|pair| pair.split_once('='));
    let mut names = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = names.next()?;
    // A second one would be somebody else's word.
    if names.next().is_some() {
        return None;
    }
    let value = value.trim();
    match value.strip_prefix('"') {
        // An IPv6 address has to be in brackets there, and nothing that needs a backslash is an address.
        Some(quoted) => address(quoted.strip_suffix('"')?),
        None => address(value),
    }
}

/// Splits at a sign, but not within quotes; `None` if those do not end.
fn split(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (place, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == at && !quoted => {
                parts.extend(text.get(from..place));
                from = place + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(from..));
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::{Contradiction, FOR, FORWARDED, IpAddr, Networks, client};

    fn trusted() -> Networks {
        Networks::of(["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec())
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn seen(nearest: &str, lines: &[(&'static str, &str)]) -> Result<IpAddr, Contradiction> {
        client(ip(nearest), &headers(lines), &trusted()).map(|(address, _)| address)
    }

    #[test]
    fn a_trail_that_breaks_off_is_not_whole() {
        for (line, whole) in
            [("127.0.0.1", true), ("unknown", false), ("x, 10.0.0.1", false), ("x, 192.0.2.7", true)]
        {
            let seen = client(ip("127.0.0.1"), &headers(&[(FOR, line)]), &trusted()).unwrap();
            assert_eq!(seen.1, whole, "{line}");
        }
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let lines = [(FOR, "127.0.0.1"), (FORWARDED, "for=127.0.0.1")];
        assert_eq!(seen("192.0.2.9", &lines), Ok(ip("192.0.2.9")));
    }

    #[test]
    fn what_trusted_proxies_wrote_counts_from_the_end() {
        for (line, who) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("127.0.0.1, 192.0.2.7", "192.0.2.7"),
            ("192.0.2.7,10.0.0.3 , fd00::1", "192.0.2.7"),
            ("192.0.2.1, unknown, 10.0.0.3", "10.0.0.3"),
            ("unknown", "127.0.0.1"),
            ("10.0.0.9", "10.0.0.9"),
            (", ,192.0.2.7,,", "192.0.2.7"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(seen("127.0.0.1", &[(FOR, line)]), Ok(ip(who)), "{line}");
        }
        let two = [(FOR, "192.0.2.1"), (FOR, "192.0.2.7, 10.0.0.3")];
        assert_eq!(seen("127.0.0.1", &two), Ok(ip("192.0.2.7")), "two lines are one list");
    }

    #[test]
    fn the_header_of_rfc_7239() {
        for (line, who) in [
            ("for=192.0.2.7", "192.0.2.7"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("proto=http; by=10.0.0.1; FOR=\"192.0.2.60:80\"", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=192.0.2.43, for=10.0.0.17", "192.0.2.43"),
            ("for=_hidden, for=10.0.0.17", "10.0.0.17"),
            ("for=unknown", "127.0.0.1"),
            ("host=\"a,for=192.0.2.1\";for=192.0.2.7", "192.0.2.7"),
            ("host=\"\\\",for=192.0.2.1\";for=192.0.2.7", "192.0.2.7"),
            ("for=192.0.2.1;for=192.0.2.2", "127.0.0.1"),
            ("for=192.0.2.1, host=\"open", "127.0.0.1"),
            ("nothing", "127.0.0.1"),
            ("for=192.0.2.1;x=\", for=192.0.2.7", "127.0.0.1"),
            ("for=192.0.2.1;x=\", for=\"[2001:db8::7]\"", "127.0.0.1"),
        ] {
            assert_eq!(seen("127.0.0.1", &[(FORWARDED, line)]), Ok(ip(who)), "{line}");
        }
    }

    #[test]
    fn quotes_do_not_reach_over_lines() {
        let two = [(FORWARDED, "for=192.0.2.1;x=\""), (FORWARDED, "for=192.0.2.7")];
        assert_eq!(seen("127.0.0.1", &two), Ok(ip("192.0.2.7")));
    }

    #[test]
    fn two_headers_must_agree() {
        let agree = [(FOR, "192.0.2.7"), (FORWARDED, "for=192.0.2.7")];
        assert_eq!(seen("127.0.0.1", &agree), Ok(ip("192.0.2.7")));
        let passed_on = [(FOR, "192.0.2.7"), (FORWARDED, "for=192.0.2.1")];
        assert_eq!(seen("127.0.0.1", &passed_on), Err(Contradiction));
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_its_proxy_has_the_last_word(
            forged in "[ -~]{0,60}",
            quotes in "[\"\\\\;,=]{0,6}",
            name in prop::sample::select(vec![FOR, FORWARDED]),
            own_line in any::<bool>(),
        ) {
            let own = if name == FOR { "192.0.2.7" } else { "for=192.0.2.7" };
            let forged = forged + &quotes;
            let lines = if own_line {
                headers(&[(name, &forged), (name, own)])
            } else {
                headers(&[(name, &format!("{forged}, {own}"))])
            };
            // A line that cannot be read leads to the proxy itself, and to nobody whom the client names.
            let (by, whole) = client(ip("127.0.0.1"), &lines, &trusted()).unwrap();
            prop_assert!(by == ip("192.0.2.7") || (by == ip("127.0.0.1") && !whole), "{}", by);
            prop_assert!(!own_line || by == ip("192.0.2.7"));
        }
    }
}
