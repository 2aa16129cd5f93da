//! JSON Web Tokens signed with HMAC-SHA-256 (RFC 7515, RFC 7519). There is one algorithm, so none can be mistaken for another.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::Sha256;

/// `{"typ":"JWT","alg":"HS256"}`.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9";

/// What signs and checks.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// What is wrong with a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It is no token of this kind.
    Form,
    /// Another key signed it.
    Signature,
    /// It is signed with the key, and its claims are not those that are read.
    Claims,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood; there are none.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

impl Key {
    /// From a secret of any length; `None` never happens with HMAC.
    pub fn new(secret: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Map<String, Value>) -> String {
        let claims = URL_SAFE_NO_PAD.encode(Value::Object(claims.clone()).to_string());
        let signed = format!("{HEADER}.{claims}");
        let signature = self.0.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token that this key signed. The signature is checked before anything of them is read.
    pub fn read<T: DeserializeOwned>(&self, token: &str) -> Result<T, Wrong> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Wrong::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(Wrong::Form)?;
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Wrong::Form);
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| Wrong::Form)?;
        if header.alg != "HS256" || header.crit.is_some() || claims.contains('.') {
            return Err(Wrong::Form);
        }
        let signature = decoded(signature)?;
        self.0.clone().chain_update(signed).verify_slice(&signature).map_err(|_| Wrong::Signature)?;
        serde_json::from_slice(&decoded(claims).map_err(|_| Wrong::Claims)?).map_err(|_| Wrong::Claims)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use hmac::Mac as _;

    use super::{HEADER, Key, Map, URL_SAFE_NO_PAD, Value, Wrong};

    /// RFC 7515, appendix A.1.
    const SECRET: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    #[test]
    fn the_documents_own_example_is_read() {
        let key = Key::new(&URL_SAFE_NO_PAD.decode(SECRET).unwrap()).unwrap();
        let claims: Map<String, Value> = key.read(TOKEN).unwrap();
        assert_eq!((&claims["iss"], &claims["exp"]), (&"joe".into(), &1_300_819_380.into()));
        assert_eq!(Key::new(b"another").unwrap().read::<Value>(TOKEN), Err(Wrong::Signature));
    }

    #[test]
    fn what_is_signed_is_read_and_what_is_changed_is_not() {
        let key = Key::new(b"secret").unwrap();
        let mut claims = Map::new();
        claims.insert("a".into(), "ä".into());
        let token = key.sign(&claims);
        assert!(token.starts_with(HEADER));
        assert_eq!(key.read::<Map<String, Value>>(&token), Ok(claims));
        for place in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            assert!(key.read::<Value>(std::str::from_utf8(&bytes).unwrap()).is_err(), "{place}");
        }
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"HS256","crit":["x"]}"#, "[]"] {
            let signed = format!("{}.e30", URL_SAFE_NO_PAD.encode(header));
            let signature = key.0.clone().chain_update(&signed).finalize().into_bytes();
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert_eq!(key.read::<Value>(&token), Err(Wrong::Form), "{header}");
        }
        for text in ["", ".", "..", "a.b", "a.b.c.d", "e30.e30."] {
            assert_eq!(key.read::<Value>(text), Err(Wrong::Form), "{text}");
        }
    }
}
