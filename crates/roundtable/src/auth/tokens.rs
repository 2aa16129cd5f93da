//! Signed tokens: HS256 with a key per dialect family, made and checked here only.

use hmac::{Hmac, KeyInit as _, Mac as _};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, Principal, VisitorId, WorkspaceId};
use roundtable_core::time::Time;
use roundtable_core::users::Incarnation;
use roundtable_dialects::rest::{IssuedToken, TokenOrder};
use roundtable_dialects::session::{Family, Refusal};
use serde_json::Value;
use sha2::Sha256;

use crate::auth::jwt::{Key, Wrong};

/// Claim `iss`.
pub const ISSUER: &str = "roundtable";
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Claims that are the server's alone, whatever an order says.
const OWN_CLAIMS: [&str; 9] =
    ["iss", "aud", "iat", "exp", "jti", "principal", "workspace", "made", "incarnation"];

/// Every family there is.
pub const FAMILIES: [Family; 5] =
    [Family::Mxf, Family::Aiwm, Family::OpenAgi, Family::Login, Family::Refresh];

/// Claim `aud`: what a family of tokens is for.
pub const fn audience(family: Family) -> &'static str {
    match family {
        Family::Mxf => "mxf",
        Family::Aiwm => "aiwm",
        Family::OpenAgi => "openagi",
        Family::Login => "login",
        Family::Refresh => "refresh",
    }
}

/// What a good token says.
#[derive(Clone, PartialEq, Debug)]
pub struct Claims {
    /// Where.
    pub workspace: WorkspaceId,
    /// Who.
    pub principal: Principal,
    /// Which bearer of that name; `None` in tokens of 0.1.0.
    pub incarnation: Option<Incarnation>,
    /// The token's own id.
    pub jti: String,
    /// When it was made, by the wall clock of then.
    pub issued_at: Time,
    /// Its end: from this second on it is worth nothing.
    pub expires_at: Time,
}

/// As the token has it; what is missing or of another type makes it invalid.
#[derive(serde::Deserialize)]
struct Wire {
    iss: String,
    aud: String,
    workspace: String,
    principal: String,
    jti: String,
    /// The agent of a visitor.
    #[serde(default, rename = "agentId")]
    agent: Option<String>,
    iat: i64,
    exp: i64,
    /// The moment in milliseconds, where `iat` only says the second.
    #[serde(default)]
    made: Option<i64>,
    #[serde(default)]
    incarnation: Option<Incarnation>,
}

impl Wire {
    /// For whom the token was made. Guests have no tokens: in 0.1.0 a visitor of a site was called so.
    fn bearer(&self) -> Result<Principal, Error> {
        match (Principal::parse(&self.principal)?, &self.agent) {
            (Principal::Guest(guest), Some(agent)) => {
                VisitorId::new(&AgentId::new(agent)?, guest.as_str()).map(Principal::Visitor)
            }
            (bearer, _) => Ok(bearer),
        }
    }
}

/// Makes and checks tokens.
pub struct Signer {
    mxf: Key,
    aiwm: Key,
    openagi: Key,
    login: Key,
    refresh: Key,
}

/// A family's key: HMAC-SHA-256 of the family's name under the installation's secret.
fn derived(secret: &[u8; 32], family: Family) -> Result<Key, Error> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret)
        .map_err(|_| Error::new(ErrorKind::Internal, "the signing secret has a wrong length"))?;
    mac.update(b"roundtable/token/1/");
    mac.update(audience(family).as_bytes());
    let key = Key::new(&mac.finalize().into_bytes());
    key.ok_or_else(|| Error::new(ErrorKind::Internal, "the signing key has a wrong length"))
}

impl Signer {
    /// From the installation's secret. Fails with `Internal` only.
    pub fn new(secret: &[u8; 32]) -> Result<Self, Error> {
        Ok(Self {
            mxf: derived(secret, Family::Mxf)?,
            aiwm: derived(secret, Family::Aiwm)?,
            openagi: derived(secret, Family::OpenAgi)?,
            login: derived(secret, Family::Login)?,
            refresh: derived(secret, Family::Refresh)?,
        })
    }

    const fn key(&self, family: Family) -> &Key {
        match family {
            Family::Mxf => &self.mxf,
            Family::Aiwm => &self.aiwm,
            Family::OpenAgi => &self.openagi,
            Family::Login => &self.login,
            Family::Refresh => &self.refresh,
        }
    }

    /// Makes a token at a moment of the wall clock. `random` becomes its id. Fails with `Internal` when the claims are no object.
    pub fn issue(&self, order: &TokenOrder, now: Time, random: u128) -> Result<IssuedToken, Error> {
        let mut claims = match &order.claims {
            Value::Object(claims) => claims.clone(),
            Value::Null => serde_json::Map::new(),
            _ => return Err(Error::new(ErrorKind::Internal, "claims must be an object")),
        };
        for name in OWN_CLAIMS {
            claims.remove(name);
        }
        let (issued, jti) = (now.as_seconds(), format!("{random:032x}"));
        let end = issued.saturating_add(i64::from(order.ttl_s));
        let mut own = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        own("sub", order.subject.id().into());
        own("iss", ISSUER.into());
        own("aud", audience(order.family).into());
        own("iat", issued.into());
        own("exp", end.into());
        own("made", now.0.into());
        own("jti", jti.as_str().into());
        own("principal", order.subject.to_string().into());
        own("incarnation", serde_json::json!(order.incarnation));
        own("workspace", order.workspace.as_str().into());
        let token = self.key(order.family).sign(&claims);
        Ok(IssuedToken { token, jti, expires_at: Time(end.saturating_mul(1000)) })
    }

    /// What a token says that was signed here for a family.
    fn claims(&self, family: Family, token: &str) -> Option<Wire> {
        let wire: Wire = self.key(family).read(token).ok()?;
        (wire.iss == ISSUER && wire.aud == audience(family)).then_some(wire)
    }

    /// Whether it is a token of any family that was signed here, also one past its end.
    pub fn made(&self, token: &str) -> bool {
        let ours = |family: &Family| self.claims(*family, token).is_some();
        token.len() <= MAX_TOKEN_BYTES && FAMILIES.iter().any(ours)
    }

    /// A token as 0.1.0 made it: it does not say for which bearer of its name.
    #[cfg(test)]
    pub fn issue_before(&self, order: &TokenOrder, at: Time) -> String {
        let claims = serde_json::json!({
            "iss": ISSUER, "aud": audience(order.family), "iat": at.as_seconds(), "made": at.0,
            "exp": at.as_seconds() + i64::from(order.ttl_s), "jti": "before",
            "principal": order.subject.to_string(), "workspace": order.workspace.as_str(),
        });
        self.key(order.family).sign(claims.as_object().unwrap())
    }

    /// Whether it looks like one of our tokens and was signed by somebody else.
    pub fn is_forged(&self, token: &str) -> bool {
        let foreign = |family: &Family| self.key(*family).read::<Wire>(token).err() == Some(Wrong::Signature);
        token.len() <= MAX_TOKEN_BYTES && FAMILIES.iter().all(foreign)
    }

    /// Reads a token of a family. `Expired` only if everything else about it is right; else `Invalid`.
    pub fn read(&self, family: Family, token: &str, now: Time) -> Result<Claims, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid);
        }
        let wire = self.claims(family, token).ok_or(Refusal::Invalid)?;
        let claims = Claims {
            workspace: WorkspaceId::new(&wire.workspace).map_err(|_| Refusal::Invalid)?,
            principal: wire.bearer().map_err(|_| Refusal::Invalid)?,
            incarnation: wire.incarnation,
            jti: wire.jti,
            issued_at: Time(wire.made.unwrap_or_else(|| wire.iat.saturating_mul(1000))),
            expires_at: Time(wire.exp.saturating_mul(1000)),
        };
        if now >= claims.expires_at { Err(Refusal::Expired) } else { Ok(claims) }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use serde_json::json;

    use super::{
        FAMILIES, Family, Incarnation, Key, Principal, Refusal, Signer, Time, TokenOrder, Value, WorkspaceId,
    };

    const NOW: Time = Time(1_800_000_000_000);

    fn order(family: Family, claims: Value) -> TokenOrder {
        TokenOrder {
            family,
            subject: Principal::parse("agent:a1").unwrap(),
            incarnation: Incarnation::default(),
            workspace: WorkspaceId::new("default").unwrap(),
            ttl_s: 60,
            claims,
        }
    }

    fn part(token: &str, n: usize) -> Value {
        let text = token.split('.').nth(n).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn a_token_says_who_where_and_until_when() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let issued =
            signer.issue(&order(Family::Aiwm, json!({"type": "agent", "roles": []})), NOW, 255).unwrap();
        assert_eq!(issued.expires_at, NOW.plus(60_000));
        let claims = signer.read(Family::Aiwm, &issued.token, NOW).unwrap();
        assert_eq!(claims.principal.to_string(), "agent:a1");
        assert_eq!(claims.workspace.as_str(), "default");
        assert_eq!((claims.jti, claims.issued_at), (issued.jti, NOW));
        assert_eq!(part(&issued.token, 0), json!({"typ": "JWT", "alg": "HS256"}));
        let body = part(&issued.token, 1);
        assert_eq!(body["sub"], "a1");
        assert_eq!(body["type"], "agent");
        assert_eq!((&body["iss"], &body["aud"]), (&json!("roundtable"), &json!("aiwm")));
        assert_eq!(body["jti"], "000000000000000000000000000000ff");
    }

    #[test]
    fn a_token_of_one_family_fails_in_every_other() {
        let signer = Signer::new(&[7; 32]).unwrap();
        for made in FAMILIES {
            let token = signer.issue(&order(made, Value::Null), NOW, 1).unwrap().token;
            for read in FAMILIES {
                let expected = if made == read { Ok(()) } else { Err(Refusal::Invalid) };
                assert_eq!(signer.read(read, &token, NOW).map(drop), expected, "{made:?} as {read:?}");
            }
        }
    }

    #[test]
    fn a_token_ends_to_the_second_without_leeway() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let token = signer.issue(&order(Family::Mxf, Value::Null), NOW, 1).unwrap().token;
        assert!(signer.read(Family::Mxf, &token, NOW.plus(59_999)).is_ok());
        assert_eq!(signer.read(Family::Mxf, &token, NOW.plus(60_000)), Err(Refusal::Expired));
    }

    #[test]
    fn an_expired_forgery_is_a_forgery() {
        let (ours, theirs) = (Signer::new(&[7; 32]).unwrap(), Signer::new(&[8; 32]).unwrap());
        let token = theirs.issue(&order(Family::Mxf, Value::Null), NOW, 1).unwrap().token;
        assert_eq!(ours.read(Family::Mxf, &token, NOW.plus(90_000)), Err(Refusal::Invalid));
    }

    #[test]
    fn a_forgery_is_told_from_a_wrong_word_and_from_an_old_token() {
        let (ours, theirs) = (Signer::new(&[7; 32]).unwrap(), Signer::new(&[8; 32]).unwrap());
        let token = |signer: &Signer| signer.issue(&order(Family::Mxf, Value::Null), NOW, 1).unwrap().token;
        assert!(ours.is_forged(&token(&theirs)));
        assert!(!ours.is_forged(&token(&ours)), "of another family or past its end, it is ours");
        assert!(!ours.is_forged("not a token") && !ours.is_forged(""));
    }

    #[test]
    fn orders_cannot_overwrite_what_is_the_servers() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let claims = json!({"sub": "root", "exp": 9_999_999_999i64, "principal": "system", "workspace": "x", "jti": "y"});
        let token = signer.issue(&order(Family::Login, claims), NOW, 1).unwrap().token;
        let read = signer.read(Family::Login, &token, NOW).unwrap();
        assert_eq!((read.principal.to_string().as_str(), read.workspace.as_str()), ("agent:a1", "default"));
        assert_eq!(part(&token, 1)["sub"], "a1");
        assert!(signer.issue(&order(Family::Login, json!(["x"])), NOW, 1).is_err());
    }

    /// Signs any claims with the right key.
    fn signed(claims: &Value) -> String {
        let mut mac = Hmac::<super::Sha256>::new_from_slice(&[7; 32]).unwrap();
        mac.update(b"roundtable/token/1/mxf");
        Key::new(&mac.finalize().into_bytes()).unwrap().sign(claims.as_object().unwrap())
    }

    #[test]
    fn other_algorithms_and_missing_claims_are_refused() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let whole = json!({"iss": "roundtable", "aud": "mxf", "sub": "a", "iat": 1, "exp": 9_000_000_000i64, "jti": "j",
            "principal": "agent:a", "workspace": "default"});
        let verdict = |claims: &Value| signer.read(Family::Mxf, &signed(claims), NOW).map(drop);
        assert_eq!(verdict(&whole), Ok(()));
        for missing in ["iss", "aud", "iat", "exp", "jti", "principal", "workspace"] {
            let mut claims = whole.clone();
            claims.as_object_mut().unwrap().remove(missing);
            assert_eq!(verdict(&claims), Err(Refusal::Invalid), "{missing}");
        }
        let mut other = whole.clone();
        other["iss"] = "somebody".into();
        assert_eq!(verdict(&other), Err(Refusal::Invalid));
        other["iss"] = "roundtable".into();
        other["aud"] = "aiwm".into();
        assert_eq!(verdict(&other), Err(Refusal::Invalid));
        let (header, rest) = (
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(whole.to_string()),
        );
        for token in [
            format!("{header}.{rest}."),
            format!("{header}.{rest}.x"),
            String::new(),
            "..".into(),
            "x".repeat(9_000),
        ] {
            assert_eq!(signer.read(Family::Mxf, &token, NOW).map(drop), Err(Refusal::Invalid));
        }
    }
}
