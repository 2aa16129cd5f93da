//! Which web pages may talk to this server: the rules of `Origin`, `Host` and `Sec-Fetch-Site`, and CORS headers.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::http::plain;
use crate::telemetry::sparse::Sparse;

/// The setting that lets further pages in.
const SETTING: &str = "server.allowed_origins";
/// Headers that no page can send without asking first, and then with an `Origin`.
const CUSTOM: [&str; 3] = ["authorization", "x-api-key", "x-key-id"];
/// Characters of a stranger's header that a refusal repeats.
const MOST_SHOWN: usize = 128;

/// Why a request is refused as that of a foreign page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreign {
    /// The header that tells.
    pub header: &'static str,
    /// What stands in it.
    pub value: String,
    /// A sentence with what would let it in.
    pub reason: String,
}

/// Whether a request may go on. Where guests may come in (`guests`), the host must be a name of this machine or of a listed
/// origin: else a foreign name that was made to point here would count as the same host, and its pages as this server's own.
pub fn check(headers: &HeaderMap, guests: bool, listed: &[String], own_ports: &[u16]) -> Result<(), Foreign> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let (origin, host) = (text("origin"), text("host"));
    let known = |origin: &str| listed.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin));
    if known("*") || origin.is_some_and(known) {
        return Ok(());
    }
    let foreign = |header, value: &str, reason: String| Err(Foreign { header, value: shown(value), reason });
    if guests && let Some(host) = host.filter(|host| !is_local(host) && !is_listed(host, listed)) {
        let reason = format!(
            "Host `{}` is no name of this machine, where clients without credentials may come in: list https://{0} in \
             {SETTING}, name the proxy in server.trusted_proxies, or end the listener with /no-guests",
            shown(host)
        );
        return foreign("Host", host, reason);
    }
    let Some(origin) = origin else {
        let custom = CUSTOM.iter().any(|name| headers.contains_key(*name));
        let Some(site) = text("sec-fetch-site").filter(|site| *site == "cross-site" && !custom) else {
            return Ok(());
        };
        let reason = "Sec-Fetch-Site says that a page of another site caused this request, which shows no credential of \
                      its own in a header";
        return foreign("Sec-Fetch-Site", site, reason.to_owned());
    };
    if host.is_some_and(|host| is_own(origin, host, own_ports)) {
        return Ok(());
    }
    let against = host.map_or("there is no Host".to_owned(), |host| format!("Host is `{}`", shown(host)));
    let reason = format!(
        "Origin `{}` is not listed in {SETTING} and not this server's own ({against}; behind a proxy it must pass the \
         client's Host on)",
        shown(origin)
    );
    foreign("Origin", origin, reason)
}

/// Whether a page of an origin comes from this host, on the same port or another of the server's own. The scheme is ignored.
fn is_own(origin: &str, host: &str, own_ports: &[u16]) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default =
        if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") { 443 } else { 80 };
    let ((name, port), (own, own_port)) = (split(authority, default), split(host, default));
    name.eq_ignore_ascii_case(own) && (port == own_port || own_ports.contains(&port))
}

/// Whether a host is a name of this machine.
fn is_local(host: &str) -> bool {
    let (name, _) = split(host, 80);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a host is that of a listed origin.
fn is_listed(host: &str, listed: &[String]) -> bool {
    let hosts = listed.iter().filter_map(|origin| origin.split_once("://"));
    hosts.into_iter().any(|(_, known)| split(known, 80).0.eq_ignore_ascii_case(split(host, 80).0))
}

/// Host and port of an authority; the brackets of an IPv6 address belong to the host.
fn split(authority: &str, default: u16) -> (&str, u16) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(default)),
        _ => (authority, default),
    }
}

fn shown(value: &str) -> String {
    value.chars().take(MOST_SHOWN).collect()
}

/// The answer to a foreign page, logged: which header it was, and which setting would let it in.
pub fn refuse(foreign: &Foreign, peer: std::net::IpAddr) -> Response<Body> {
    static LINES: Sparse = Sparse::new();
    let Foreign { header, value, reason } = foreign;
    if let Some(left_out) = LINES.turn() {
        tracing::warn!(%peer, header, value, setting = SETTING, left_out, "a request is refused: {reason}");
    }
    // The code is Engine.IO's for this.
    let body = json!({
        "code": 4, "message": "Forbidden", "reason": reason, "header": header, "setting": SETTING,
    });
    plain(StatusCode::FORBIDDEN, body.to_string(), "application/json")
}

/// Lets the page that asked read the answer.
pub fn permit(origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// The answer to a browser that asks before it sends.
pub fn preflight(origin: Option<&HeaderValue>, asked: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"),
    );
    let names = asked.unwrap_or_else(|| HeaderValue::from_static("Authorization, Content-Type, X-API-Key"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    permit(origin, headers);
    response
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::check;

    /// Which header a request is refused for.
    fn refused(lines: &[(&'static str, &'static str)], guests: bool) -> Option<&'static str> {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = lines.iter().map(line).collect();
        let listed = ["https://app.example".to_owned()];
        check(&headers, guests, &listed, &[3000, 3001]).err().map(|foreign| foreign.header)
    }

    #[test]
    fn own_pages_and_listed_ones_may_come_and_nobody_else() {
        let may = |origin, host| refused(&[("origin", origin), ("host", host)], true);
        assert_eq!(refused(&[("host", "localhost:3001")], true), None);
        assert_eq!(may("http://localhost:3001", "localhost:3001"), None);
        assert_eq!(may("https://localhost:3001", "localhost:3001"), None, "the scheme is ignored");
        assert_eq!(may("http://localhost:3000", "localhost:3001"), None, "another own port of this host");
        assert_eq!(may("http://[::1]:3000", "[::1]:3001"), None);
        assert_eq!(may("https://app.example", "localhost:3001"), None);
        assert_eq!(may("http://localhost:9999", "localhost:3001"), Some("Origin"));
        assert_eq!(may("http://evil.example", "localhost:3001"), Some("Origin"));
        assert_eq!(may("null", "localhost:3001"), Some("Origin"));
        assert_eq!(may("http://evil.example:3001", "evil.example:3001"), Some("Host"));
        let own = [("origin", "https://chat.example"), ("host", "chat.example")];
        assert_eq!(refused(&own, false), None, "where nobody is a guest");
    }

    #[test]
    fn where_guests_may_come_in_every_request_names_this_machine() {
        for (host, may) in [
            ("localhost", true),
            ("127.0.0.1:3001", true),
            ("[::1]", true),
            ("app.example", true),
            ("app.example:8443", true),
            ("evil.example", false),
            ("evil.example:3001", false),
            ("192.0.2.7", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(refused(&[("host", host)], true), (!may).then_some("Host"), "{host}");
            assert_eq!(refused(&[("host", host)], false), None);
        }
        assert_eq!(refused(&[], true), None, "no browser leaves it out");
    }

    #[test]
    fn what_a_page_of_another_site_can_cause_without_asking_is_refused() {
        let site = |site, more: Option<(&'static str, &'static str)>| {
            let lines: Vec<_> =
                [("host", "localhost"), ("sec-fetch-site", site)].into_iter().chain(more).collect();
            refused(&lines, false)
        };
        assert_eq!(site("cross-site", None), Some("Sec-Fetch-Site"));
        assert_eq!(site("cross-site", Some(("authorization", "Bearer x"))), None);
        assert_eq!(site("cross-site", Some(("origin", "https://app.example"))), None);
        assert_eq!(site("cross-site", Some(("origin", "https://evil.example"))), Some("Origin"));
        for own in ["same-origin", "same-site", "none"] {
            assert_eq!(site(own, None), None);
        }
    }
}
