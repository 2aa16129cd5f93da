//! The opening handshake as the server sees it: is the request an upgrade, and what goes into the 101 answer.
//!
//! Works on header names and values as plain text and bytes, so it fits any HTTP library. The HTTP version (at least 1.1)
//! and the `Origin` are the caller's business.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use smallvec::SmallVec;

/// The only WebSocket version there is, as `Sec-WebSocket-Version` carries it (RFC 6455 section 4.1).
pub const VERSION: &str = "13";

/// Window that the server's compressor uses unless the client asks for a smaller one, as a power of two: 1 KiB.
///
/// The server compresses every message on its own, so a larger window would only cost memory at both ends.
pub const SERVER_WINDOW_BITS: u8 = 10;

const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the 101 answer to a correct upgrade request carries besides `Upgrade: websocket` and `Connection: Upgrade`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Value of `Sec-WebSocket-Accept`.
    pub accept: String,
    /// The subprotocol to answer with: clients that offer some give up without one. None has a meaning here.
    pub protocol: Option<String>,
    /// The agreed compression. To run without compression ignore it and leave the answer's header out.
    pub deflate: Option<Negotiated>,
}

/// Why an upgrade request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The method is not GET.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// `Upgrade: websocket` or `Connection: Upgrade` is missing: an ordinary request for a WebSocket path.
    #[error("this address speaks WebSocket only")]
    NotAnUpgrade,
    /// `Sec-WebSocket-Version` is missing or not 13.
    #[error("only WebSocket version 13 is supported")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes of base64.
    #[error("Sec-WebSocket-Key is missing or malformed")]
    Key,
}

impl Refusal {
    /// The HTTP status to answer with. 426 has to carry `Upgrade: websocket` (RFC 9110 section 15.5.22) and
    /// `Sec-WebSocket-Version: 13` (RFC 6455 section 4.4).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotAnUpgrade | Self::Version => 426,
            Self::Key => 400,
        }
    }
}

/// Checks an upgrade request (RFC 6455 section 4.2.1) and negotiates compression.
///
/// `headers` gives every header line as name (in any case) and value; a name may come more than once.
///
/// # Errors
///
/// The first rule that the request breaks, in the order of [`Refusal`]'s variants.
pub fn check<'a>(
    method: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Accepted, Refusal> {
    let (mut upgrade, mut connection) = (false, false);
    let mut versions = SmallVec::<[&[u8]; 1]>::new();
    let mut keys = SmallVec::<[&[u8]; 1]>::new();
    let mut extensions = SmallVec::<[&[u8]; 2]>::new();
    let mut protocol = None;
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("upgrade") {
            upgrade |= is_wished(value);
        } else if name.eq_ignore_ascii_case("connection") {
            connection |= lists(value, b"upgrade");
        } else if name.eq_ignore_ascii_case("sec-websocket-version") {
            versions.push(value.trim_ascii());
        } else if name.eq_ignore_ascii_case("sec-websocket-key") {
            keys.push(value.trim_ascii());
        } else if name.eq_ignore_ascii_case("sec-websocket-extensions") {
            extensions.push(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
            protocol = protocol.or_else(|| value.split(|&byte| byte == b',').find_map(harmless));
        }
    }
    match method {
        "GET" => {}
        // As GET without what would come of it.
        "HEAD" => return Err(Refusal::NotAnUpgrade),
        _ => return Err(Refusal::Method),
    }
    if !(upgrade && connection) {
        return Err(Refusal::NotAnUpgrade);
    }
    if versions.as_slice() != [VERSION.as_bytes()] {
        return Err(Refusal::Version);
    }
    match keys.as_slice() {
        [key] if is_key(key) => {
            Ok(Accepted { accept: accept_key(key), protocol, deflate: negotiate(extensions) })
        }
        _ => Err(Refusal::Key),
    }
}

/// The value of `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key` (RFC 6455 section 4.2.2): 28 characters.
#[must_use]
pub fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize())
}

/// The compression that both sides agreed on: permessage-deflate without context takeover in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Negotiated {
    /// The largest window that the server's frames to this client may need, as a power of two: 9 or
    /// [`SERVER_WINDOW_BITS`]. Goes to [`Deflater::shrink`](super::Deflater::shrink).
    pub server_max_window_bits: u8,
}

impl Negotiated {
    /// Value of `Sec-WebSocket-Extensions` for the 101 answer.
    ///
    /// The server may name its own window and "no context takeover" for both sides even where the client did not offer
    /// them (RFC 7692 section 7.1). `client_max_window_bits` would be allowed only if offered and is never needed: the
    /// decoder takes every window.
    #[must_use]
    pub const fn response(self) -> &'static str {
        match self.server_max_window_bits {
            9 => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=9"
            }
            _ => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=10"
            }
        }
    }
}

/// Picks the first acceptable permessage-deflate offer (RFC 7692 section 7.1) from the values of all
/// `Sec-WebSocket-Extensions` lines of a request, in their order.
///
/// An offer with an unknown or repeated parameter, a value where none belongs, or a window outside 9 to 15 is passed
/// over. (The RFC also knows windows of 8, but deflate libraries do not make them.) `None` means: answer without the header.
pub fn negotiate<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Negotiated> {
    values.into_iter().flat_map(|value| split_unquoted(value, b',')).find_map(accept_offer)
}

fn accept_offer(offer: &[u8]) -> Option<Negotiated> {
    let mut parts = split_unquoted(offer, b';').map(<[u8]>::trim_ascii);
    if parts.next()? != b"permessage-deflate" {
        return None;
    }
    let mut seen = SmallVec::<[&[u8]; 4]>::new();
    let mut server_max_window_bits = SERVER_WINDOW_BITS;
    for part in parts {
        let mut halves = part.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        let (name, value) = (halves.next()?, halves.next());
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            (
                b"server_no_context_takeover" | b"client_no_context_takeover" | b"client_max_window_bits",
                None,
            ) => {}
            (b"client_max_window_bits", Some(value)) => {
                window_bits(value)?;
            }
            (b"server_max_window_bits", Some(value)) => {
                server_max_window_bits = window_bits(value)?.min(SERVER_WINDOW_BITS);
            }
            _ => return None,
        }
    }
    Some(Negotiated { server_max_window_bits })
}

/// A window size as a parameter value: 9 to 15 in decimal, without leading zeros, perhaps in quotes.
fn window_bits(value: &[u8]) -> Option<u8> {
    let digits = match value {
        [b'"', inner @ .., b'"'] => inner,
        plain => plain,
    };
    match digits {
        b"9" => Some(9),
        [b'1', ones @ b'0'..=b'5'] => Some(10 + (ones - b'0')),
        _ => None,
    }
}

/// Splits at every `at` that is not inside a quoted string (RFC 9110 section 5.6.4).
fn split_unquoted(value: &[u8], at: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |&byte| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == at && !quoted,
        }
        false
    })
}

/// Whether the value of an `Upgrade` header asks for a WebSocket.
#[must_use]
pub fn is_wished(upgrade: &[u8]) -> bool {
    lists(upgrade, b"websocket")
}

/// A subprotocol that may be said back: a token, and none in which browsers hide a credential.
fn harmless(offered: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(offered.trim_ascii()).ok()?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let hides = name.to_ascii_lowercase().contains("bearer");
    (!name.is_empty() && name.bytes().all(is_token) && !hides).then(|| name.to_owned())
}

/// Whether a comma-separated header value contains `token`, in any case.
fn lists(value: &[u8], token: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// 16 bytes in base64: 22 characters and the padding.
fn is_key(key: &[u8]) -> bool {
    key.strip_suffix(b"==").is_some_and(|digits| {
        digits.len() == 22
            && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    })
}

#[cfg(test)]
mod tests {
    use super::{Refusal, accept_key, check, negotiate};
    use proptest::prelude::{any, proptest};

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request<'a>(lines: &[(&'a str, &'a str)]) -> Result<super::Accepted, Refusal> {
        check("GET", lines.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    fn bits(values: &[&str]) -> Option<u8> {
        negotiate(values.iter().map(|value| value.as_bytes())).map(|deflate| deflate.server_max_window_bits)
    }

    #[test]
    fn a_browser_request_is_accepted() {
        let accepted = request(&[
            ("Host", "localhost"),
            ("Upgrade", "WebSocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        ])
        .unwrap();
        assert_eq!(accepted.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(
            accepted.deflate.unwrap().response(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10"
        );
    }

    #[test]
    fn the_first_subprotocol_is_said_back_unless_it_hides_a_credential() {
        let answered = |offered: &[&str]| {
            let fixed = [
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", KEY),
            ];
            let offered = offered.iter().map(|value| ("Sec-WebSocket-Protocol", *value));
            request(&fixed.into_iter().chain(offered).collect::<Vec<_>>()).unwrap().protocol
        };
        assert_eq!(answered(&[]), None);
        assert_eq!(answered(&["chat"]).as_deref(), Some("chat"));
        assert_eq!(answered(&["Bearer.abc, chat", "more"]).as_deref(), Some("chat"));
        assert_eq!(answered(&["my-bearer-token"]), None);
        assert_eq!(answered(&["a b, ,x/y", "v2"]).as_deref(), Some("v2"), "only tokens are subprotocols");
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_key(KEY.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_missing_piece_has_its_refusal() {
        let upgrade = ("upgrade", "websocket");
        let connection = ("connection", "upgrade");
        let version = ("sec-websocket-version", "13");
        let key = ("sec-websocket-key", KEY);
        let cases: [(&[_], _); 9] = [
            (&[upgrade, connection, version, key], None),
            (&[connection, version, key], Some(Refusal::NotAnUpgrade)),
            (&[upgrade, version, key], Some(Refusal::NotAnUpgrade)),
            (&[("upgrade", "h2c"), connection, version, key], Some(Refusal::NotAnUpgrade)),
            (&[upgrade, connection, key], Some(Refusal::Version)),
            (&[upgrade, connection, ("sec-websocket-version", "8"), key], Some(Refusal::Version)),
            (&[upgrade, connection, version], Some(Refusal::Key)),
            (&[upgrade, connection, version, key, key], Some(Refusal::Key)),
            (&[upgrade, connection, version, ("sec-websocket-key", "c2hvcnQ=")], Some(Refusal::Key)),
        ];
        for (lines, expected) in cases {
            assert_eq!(request(lines).err(), expected, "{lines:?}");
        }
        assert_eq!(check("POST", []).err(), Some(Refusal::Method));
    }

    #[test]
    fn refusals_name_their_status() {
        let statuses =
            [Refusal::Method, Refusal::NotAnUpgrade, Refusal::Version, Refusal::Key].map(Refusal::status);
        assert_eq!(statuses, [405, 426, 426, 400]);
    }

    #[test]
    fn a_key_needs_22_digits_and_padding() {
        for key in
            ["", "==", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZ-==", "AdGhlIHNhbXBsZSBub25jZQ=="]
        {
            assert!(!super::is_key(key.as_bytes()), "{key}");
        }
        assert!(super::is_key(b"AQIDBAUGBwgJCgsMDQ4PEC=="));
    }

    #[test]
    fn offers_that_are_served() {
        for (offer, expected) in [
            ("permessage-deflate", 10),
            ("permessage-deflate; client_max_window_bits", 10),
            ("permessage-deflate;client_max_window_bits=15", 10),
            ("permessage-deflate; client_max_window_bits=9", 10),
            ("permessage-deflate; server_max_window_bits=9", 9),
            ("permessage-deflate; server_max_window_bits=\"9\"", 9),
            ("permessage-deflate; server_max_window_bits=10", 10),
            ("permessage-deflate; server_max_window_bits=15", 10),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", 10),
            (" permessage-deflate ; server_max_window_bits = 9 ; client_max_window_bits ", 9),
        ] {
            assert_eq!(bits(&[offer]), Some(expected), "{offer}");
        }
    }

    #[test]
    fn offers_that_are_passed_over() {
        for offer in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate2",
            "permessage-deflate; unknown",
            "permessage-deflate; unknown=1",
            "permessage-deflate;",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=100",
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=x",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; server_max_window_bits=\"9",
        ] {
            assert_eq!(bits(&[offer]), None, "{offer}");
        }
        assert_eq!(bits(&[]), None);
    }

    #[test]
    fn the_next_offer_is_tried_within_and_across_lines() {
        assert_eq!(bits(&["permessage-deflate; server_max_window_bits=8, permessage-deflate"]), Some(10));
        assert_eq!(
            bits(&["permessage-deflate; v=8", "permessage-deflate; server_max_window_bits=9"]),
            Some(9)
        );
        assert_eq!(bits(&["foo; a=\"x, permessage-deflate\"", "bar"]), None);
        assert_eq!(bits(&["foo; a=\"x\\\", y\", permessage-deflate"]), Some(10));
    }

    proptest! {
        #[test]
        fn any_header_value_is_survived(value in proptest::collection::vec(any::<u8>(), 0..200), name in "[a-zA-Z-]{0,30}") {
            let _ = negotiate([value.as_slice()]);
            let _ = check("GET", [(name.as_str(), value.as_slice()), ("sec-websocket-key", value.as_slice())]);
        }

        #[test]
        fn offers_made_of_real_pieces_are_survived(value in "(permessage-deflate|server_max_window_bits|=|;|,|\"|\\\\|9|1| ){0,12}") {
            if let Some(deflate) = negotiate([value.as_bytes()]) {
                assert!(value.contains("permessage-deflate"));
                assert!(matches!(deflate.server_max_window_bits, 9 | 10));
            }
        }
    }
}
