//! Which web pages may talk to this server: the Origin rule and its CORS headers.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// Whether a request with this `Origin` may go on: none, the same host, this host on another of the server's own ports, or
/// listed. `*` in the list lets all come.
///
/// Where guests may come in (the flag beside the host), the host itself must be a name of this machine: else a foreign name
/// that was made to point here would count as the same host.
pub fn allowed(
    origin: Option<&HeaderValue>,
    (host, guests): (Option<&str>, bool),
    listed: &[String],
    own_ports: &[u16],
) -> bool {
    let Some(origin) = origin else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if listed.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let Some(host) = host else { return false };
    let default =
        if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") { 443 } else { 80 };
    let ((name, port), (own, own_port)) = (split(authority, default), split(host, default));
    (!guests || is_local(own))
        && name.eq_ignore_ascii_case(own)
        && (port == own_port || own_ports.contains(&port))
}

/// Whether a host is a name of this machine.
fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Host and port of an authority; the brackets of an IPv6 address belong to the host.
fn split(authority: &str, default: u16) -> (&str, u16) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(default)),
        _ => (authority, default),
    }
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
    use super::{HeaderValue, allowed};

    #[test]
    fn own_pages_and_listed_ones_may_come_and_nobody_else() {
        let listed = ["https://app.example".to_owned()];
        let may = |origin: &'static str, host| {
            allowed(Some(&HeaderValue::from_static(origin)), (Some(host), true), &listed, &[3000, 3001])
        };
        assert!(allowed(None, (Some("localhost:3001"), true), &[], &[]));
        assert!(may("http://localhost:3001", "localhost:3001"));
        assert!(may("https://localhost:3001", "localhost:3001"), "the scheme is ignored");
        assert!(may("http://localhost:3000", "localhost:3001"), "another own port of this host");
        assert!(may("http://[::1]:3000", "[::1]:3001"));
        assert!(may("https://app.example", "localhost:3001"));
        assert!(!may("http://localhost:9999", "localhost:3001"));
        assert!(!may("http://evil.example", "localhost:3001"));
        assert!(!may("null", "localhost:3001"));
        assert!(!may("http://evil.example:3001", "evil.example:3001"), "a foreign name that points here");
        let own = HeaderValue::from_static("https://chat.example");
        assert!(allowed(Some(&own), (Some("chat.example"), false), &[], &[]), "where nobody is a guest");
    }
}
