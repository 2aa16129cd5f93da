//! What stands in the head of a request: the upgrade, the offers of compression, query values, Engine.IO parameters, and the
//! times and ids that clients write.

use roundtable_core::ids::{AgentId, Principal};
use roundtable_core::json::Json;
use roundtable_core::time::Time;
use roundtable_dialects::engineio::{Method, Request, RequestError, Sid};
use roundtable_dialects::iso::iso;
use roundtable_dialects::session::{bearer, query_value};
use roundtable_dialects::websocket::handshake::{Refusal, check, negotiate};

/// Lines `name: value`; each is also read as everything else that a request's head can hold.
pub fn run(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').take(64).collect();
    let headers = lines.iter().filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
    });
    match check("GET", headers.clone()) {
        Ok(accepted) => assert_eq!(accepted.accept.len(), 28),
        Err(refusal) => assert!((400..=426).contains(&refusal.status())),
    }
    let other = check("POST", headers).map(drop);
    assert_eq!(other, Err(Refusal::Method));
    offers(&lines);
    for line in &lines {
        let Ok(text) = std::str::from_utf8(line) else { continue };
        queries(text);
        engine(text);
        written(text);
    }
}

fn offers(lines: &[&[u8]]) {
    let agreed = negotiate(lines.iter().copied());
    let named = |line: &&[u8]| line.windows(18).any(|part| part == b"permessage-deflate");
    assert!(agreed.is_none() || lines.iter().any(named), "agreed without an offer");
    if let Some(agreed) = agreed {
        assert!((9..=10).contains(&agreed.server_max_window_bits));
        assert_eq!(
            negotiate([agreed.response().as_bytes()]),
            Some(agreed),
            "the answer is an offer of the same"
        );
        let first = lines.iter().find_map(|line| negotiate([*line]));
        assert_eq!(first, Some(agreed), "the first acceptable offer counts");
    }
}

fn queries(text: &str) {
    for name in ["token", "api_key", "user_id", "session_id", "since", ""] {
        if let Some(value) = query_value(text, name) {
            assert!(value.len() <= text.len());
        }
    }
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(query_value(&format!("a=1&token={encoded}&token=x"), "token").as_deref(), Some(text));
    if let Some(token) = bearer(text) {
        assert_eq!(token, token.trim());
    }
}

fn engine(text: &str) {
    for method in [Method::Get, Method::Post, Method::Other] {
        for websocket in [false, true] {
            match Request::parse(method, websocket, text) {
                Ok(Request::Poll(sid) | Request::Post(sid) | Request::Upgrade(sid)) => {
                    assert_eq!(Sid::parse(sid.as_str()), Some(sid));
                }
                Ok(_) => assert_eq!(method, Method::Get),
                Err(error) => assert!(error == RequestError::Forbidden || error.status() == 400),
            }
        }
    }
    if let Some(sid) = Sid::parse(text) {
        assert_eq!(sid.as_str(), text);
    }
}

fn written(text: &str) {
    if let Ok(id) = AgentId::new(text) {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(who) = Principal::parse(text) {
        assert_eq!(Principal::parse(&who.to_string()), Ok(who));
    }
    if let Ok(json) = Json::parse(text) {
        assert_eq!(Json::parse(json.as_str()), Ok(json.clone()));
        let merged = json.merged(&json);
        assert_eq!(merged.merged(&merged), merged, "laid over itself it is the same");
    }
    if let Ok(number) = text.parse::<i64>() {
        let written = iso(Time(number));
        assert!(written.ends_with('Z') && written.len() >= 24, "{written}");
    }
}
