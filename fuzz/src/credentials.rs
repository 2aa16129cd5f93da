//! Credentials: tokens, keys, names; no text but the right one opens anything, and nothing secret reaches a log line.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use roundtable::auth::keys;
use roundtable::auth::tokens::Signer;
use roundtable::telemetry::redact::redacted;
use roundtable_core::ids::{Principal, WorkspaceId};
use roundtable_core::time::Time;
use roundtable_dialects::rest::TokenOrder;
use roundtable_dialects::session::{Family, Refusal, bearer};
use sha2::Sha256;

const NOW: Time = Time(1_800_000_000_000);
const SECRET: [u8; 32] = [7; 32];

static SIGNER: LazyLock<(Signer, String)> = LazyLock::new(|| {
    let signer = Signer::new(&SECRET).unwrap();
    let order = TokenOrder {
        incarnation: Default::default(),
        family: Family::Mxf,
        subject: Principal::parse("agent:a1").unwrap(),
        workspace: WorkspaceId::new("default").unwrap(),
        ttl_s: 60,
        claims: serde_json::Value::Null,
    };
    let token = signer.issue(&order, NOW, 1).unwrap().token;
    (signer, token)
});

/// First byte: 0 the rest is a token, 1 its claims under the right key, 2 its header and claims under the right key,
/// 3 changes of a good one, 4 the claims of an order, 5 a key, 6 a log line.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match first % 7 {
        0 => refused(&text),
        1 => signed(r#"{"typ":"JWT","alg":"HS256"}"#, &text),
        2 => {
            let (header, claims) = text.split_once('\n').unwrap_or((&text, "{}"));
            signed(header, claims);
        }
        3 => changed(rest),
        4 => ordered(&text),
        5 => {
            let hash = keys::sha256_hex(b"the secret");
            assert_eq!(keys::matches(&text, Some(&hash)), text == "the secret");
            assert!(!keys::matches(&text, None) && !keys::matches("the secret", Some(&text)) || text == hash);
        }
        _ => hidden(&text),
    }
}

fn refused(token: &str) {
    let (signer, good) = &*SIGNER;
    let shown = bearer(token).unwrap_or(token);
    for family in [Family::Mxf, Family::Aiwm, Family::OpenAgi, Family::Login, Family::Refresh] {
        let read = signer.read(family, shown, NOW);
        assert!(shown == good || read == Err(Refusal::Invalid), "{shown} opens {family:?}");
    }
}

/// Claims under the right key: they say who somebody is, or they are refused.
fn signed(header: &str, claims: &str) {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let body = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(&SECRET).unwrap();
    mac.update(b"roundtable/token/1/mxf");
    let mut mac = Hmac::<Sha256>::new_from_slice(&mac.finalize().into_bytes()).unwrap();
    mac.update(body.as_bytes());
    let token = format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    let (signer, _) = &*SIGNER;
    assert_eq!(signer.read(Family::Login, &token, NOW), Err(Refusal::Invalid), "another family's");
    if let Ok(read) = signer.read(Family::Mxf, &token, NOW) {
        let header: serde_json::Value = serde_json::from_str(header).unwrap();
        assert_eq!(header["alg"], "HS256");
        let claims: serde_json::Value = serde_json::from_str(claims).unwrap();
        assert_eq!(claims["principal"], read.principal.to_string().as_str());
        assert!(read.expires_at > NOW && claims["iss"] == "roundtable" && !read.jti.is_empty());
        assert!(signer.read(Family::Mxf, &token, read.expires_at) == Err(Refusal::Expired));
    }
}

/// A good token with one byte changed or cut is none.
fn changed(by: &[u8]) {
    let (signer, good) = &*SIGNER;
    let (Some(place), what) = (by.first().map(|byte| usize::from(*byte)), by.get(1).copied().unwrap_or(b'A'))
    else {
        return;
    };
    let mut bytes = good.as_bytes().to_vec();
    let place = place % bytes.len();
    bytes[place] = what;
    for text in
        [String::from_utf8_lossy(&bytes).as_ref(), &good[..place], &format!("{good}{}", char::from(what))]
    {
        let read = signer.read(Family::Mxf, text, NOW);
        assert!(text == good || read == Err(Refusal::Invalid), "{text}");
    }
}

/// An order's further claims change nothing about who and how long.
fn ordered(text: &str) {
    let Ok(claims) = serde_json::from_str::<serde_json::Value>(text) else { return };
    let (signer, _) = &*SIGNER;
    let order = TokenOrder {
        incarnation: Default::default(),
        family: Family::Aiwm,
        subject: Principal::parse("user:ann").unwrap(),
        workspace: WorkspaceId::new("default").unwrap(),
        ttl_s: 60,
        claims,
    };
    let Ok(issued) = signer.issue(&order, NOW, 9) else { return };
    match signer.read(Family::Aiwm, &issued.token, NOW) {
        Ok(read) => {
            assert_eq!((read.principal, read.workspace), (order.subject, order.workspace));
            assert_eq!((read.jti, read.expires_at), (issued.jti, issued.expires_at));
        }
        Err(refusal) => assert!(refusal == Refusal::Invalid && issued.token.len() > 8 << 10),
    }
}

/// A secret behind any of the names that tell of one is hidden, whatever stands around it.
fn hidden(around: &str) {
    const SECRET: &str = "s3cr3t0fTheHouse";
    let _ = redacted(around);
    // A fuzzer guesses the secret and says it without a name, and then it is nobody's.
    let plain: String = around.chars().filter(|c| c.is_alphanumeric() || " .,/-".contains(*c)).collect();
    if plain.contains(SECRET) {
        return;
    }
    for shape in ["token=", "api_key=", "password: ", "\"secretKey\":\"", "Authorization: Bearer "] {
        let line = format!("{plain} {shape}{SECRET} {plain}");
        assert!(!redacted(&line).contains(SECRET), "{}", redacted(&line));
        assert_eq!(redacted(&redacted(&line)), redacted(&line), "hidden twice is hidden once");
    }
}
