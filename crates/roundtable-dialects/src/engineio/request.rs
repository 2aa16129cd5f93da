//! What an HTTP request to an Engine.IO path asks for, and how a wrong one is answered.

use super::sid::Sid;

/// Method of the HTTP request, as far as Engine.IO tells them apart.
/// `OPTIONS` (CORS) is answered before a request gets here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Opens a session, polls, or upgrades.
    Get,
    /// Brings packets.
    Post,
    /// Anything else; always an error.
    Other,
}

/// A well-formed request. Whether the session id is known is for the caller to find out
/// ([`RequestError::UnknownSid`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Opens a session over long-polling; answered with the open packet.
    OpenPolling,
    /// Opens a session over WebSocket; the open packet is its first frame.
    OpenWebSocket,
    /// Waits for packets.
    Poll(Sid),
    /// Brings packets.
    Post(Sid),
    /// Opens the WebSocket that a polling session wants to move to.
    Upgrade(Sid),
}

/// A refused request: JSON `{"code":…,"message":…}` as the Socket.IO documentation lists them
/// (server API, `connection_error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Code 0.
    #[error("Transport unknown")]
    UnknownTransport,
    /// Code 1.
    #[error("Session ID unknown")]
    UnknownSid,
    /// Code 2.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// Code 3.
    #[error("Bad request")]
    BadRequest,
    /// Code 4; the server's own rules (origin, credentials) said no.
    #[error("Forbidden")]
    Forbidden,
    /// Code 5.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

impl RequestError {
    /// HTTP status: 403 for [`RequestError::Forbidden`], 400 for the others.
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            _ => 400,
        }
    }

    /// Body of the response, content type `application/json`.
    pub fn body(self) -> &'static str {
        match self {
            Self::UnknownTransport => r#"{"code":0,"message":"Transport unknown"}"#,
            Self::UnknownSid => r#"{"code":1,"message":"Session ID unknown"}"#,
            Self::BadHandshakeMethod => r#"{"code":2,"message":"Bad handshake method"}"#,
            Self::BadRequest => r#"{"code":3,"message":"Bad request"}"#,
            Self::Forbidden => r#"{"code":4,"message":"Forbidden"}"#,
            Self::UnsupportedVersion => r#"{"code":5,"message":"Unsupported protocol version"}"#,
        }
    }
}

impl Request {
    /// Reads the raw query (`EIO=4&transport=polling&sid=…`, without `?`). `websocket` says whether the
    /// request asks for a WebSocket by its headers.
    ///
    /// A parameter that is given twice counts as wrong, an empty `sid` as absent. Errors are found in
    /// the order transport, version, sid, method.
    pub fn parse(method: Method, websocket: bool, query: &str) -> Result<Self, RequestError> {
        let parameters = Parameters::read(query);
        let over_websocket = match parameters.transport {
            Once::Some("polling") => false,
            Once::Some("websocket") => true,
            _ => return Err(RequestError::UnknownTransport),
        };
        if parameters.version != Once::Some("4") {
            return Err(RequestError::UnsupportedVersion);
        }
        let sid = match parameters.sid {
            Once::None | Once::Some("") => None,
            Once::Some(text) => Some(Sid::parse(text).ok_or(RequestError::UnknownSid)?),
            Once::Twice => return Err(RequestError::UnknownSid),
        };
        match (sid, method) {
            (None, Method::Post | Method::Other) => Err(RequestError::BadHandshakeMethod),
            // The transport that is named and the one that is used must be the same.
            _ if over_websocket != websocket => Err(RequestError::BadRequest),
            (None, Method::Get) if websocket => Ok(Self::OpenWebSocket),
            (None, Method::Get) => Ok(Self::OpenPolling),
            (Some(sid), Method::Get) if websocket => Ok(Self::Upgrade(sid)),
            (Some(sid), Method::Get) => Ok(Self::Poll(sid)),
            (Some(sid), Method::Post) if !websocket => Ok(Self::Post(sid)),
            (Some(_), Method::Post | Method::Other) => Err(RequestError::BadRequest),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Once<'a> {
    None,
    Some(&'a str),
    Twice,
}

struct Parameters<'a> {
    transport: Once<'a>,
    version: Once<'a>,
    sid: Once<'a>,
}

impl<'a> Parameters<'a> {
    fn read(query: &'a str) -> Self {
        let mut found = Self { transport: Once::None, version: Once::None, sid: Once::None };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "transport" => &mut found.transport,
                "EIO" => &mut found.version,
                "sid" => &mut found.sid,
                _ => continue,
            };
            *place = if *place == Once::None { Once::Some(value) } else { Once::Twice };
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "AAAAAAAAAAAAAAAAAAAA";

    fn get(query: &str) -> Result<Request, RequestError> {
        Request::parse(Method::Get, false, query)
    }

    #[test]
    fn sessions_open_over_both_transports() {
        assert_eq!(get("EIO=4&transport=polling"), Ok(Request::OpenPolling));
        assert_eq!(get("t=x1&transport=polling&EIO=4&sid="), Ok(Request::OpenPolling));
        let ws = Request::parse(Method::Get, true, "EIO=4&transport=websocket&token=a=b");
        assert_eq!(ws, Ok(Request::OpenWebSocket));
    }

    #[test]
    fn a_session_id_makes_it_a_poll_a_post_or_an_upgrade() {
        let sid = Sid::parse(SID).unwrap();
        let polling = format!("EIO=4&transport=polling&sid={SID}");
        assert_eq!(get(&polling), Ok(Request::Poll(sid)));
        assert_eq!(Request::parse(Method::Post, false, &polling), Ok(Request::Post(sid)));
        let ws = format!("EIO=4&transport=websocket&sid={SID}");
        assert_eq!(Request::parse(Method::Get, true, &ws), Ok(Request::Upgrade(sid)));
    }

    #[test]
    fn wrong_versions_and_transports_have_their_own_codes() {
        for query in ["transport=polling", "EIO=abc&transport=polling", "EIO=3&transport=polling"] {
            assert_eq!(get(query), Err(RequestError::UnsupportedVersion), "{query}");
        }
        for query in ["", "EIO=4", "EIO=4&transport=abc", "EIO=4&transport=polling&transport=polling"] {
            assert_eq!(get(query), Err(RequestError::UnknownTransport), "{query}");
        }
    }

    #[test]
    fn methods_and_upgrades_that_do_not_fit_are_refused() {
        let open = "EIO=4&transport=polling";
        for method in [Method::Post, Method::Other] {
            assert_eq!(Request::parse(method, false, open), Err(RequestError::BadHandshakeMethod));
        }
        assert_eq!(get("EIO=4&transport=websocket"), Err(RequestError::BadRequest));
        assert_eq!(Request::parse(Method::Get, true, open), Err(RequestError::BadRequest));
        let known = format!("{open}&sid={SID}");
        assert_eq!(Request::parse(Method::Other, false, &known), Err(RequestError::BadRequest));
        assert_eq!(get(&format!("{open}&sid=nobody")), Err(RequestError::UnknownSid));
        assert_eq!(get(&format!("{known}&sid={SID}")), Err(RequestError::UnknownSid));
    }

    #[test]
    fn bodies_are_json_with_code_and_message() {
        let all = [
            RequestError::UnknownTransport,
            RequestError::UnknownSid,
            RequestError::BadHandshakeMethod,
            RequestError::BadRequest,
            RequestError::Forbidden,
            RequestError::UnsupportedVersion,
        ];
        for (code, error) in all.into_iter().enumerate() {
            let body: serde_json::Value = serde_json::from_str(error.body()).unwrap();
            assert_eq!(body, serde_json::json!({"code": code, "message": error.to_string()}));
            assert_eq!(error.status(), if error == RequestError::Forbidden { 403 } else { 400 });
        }
    }
}
