//! Secrets that the server makes itself: drawing them, hashing them, comparing them in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use roundtable_core::ids::KeyId;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock;

/// A key that was made; shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct FreshKey {
    /// Its public half, `key_` and 24 hex digits (MXF notes §1).
    pub id: KeyId,
    /// Its secret half: 32 random bytes in base64.
    pub secret: String,
    /// What is kept of the secret half.
    pub hash: String,
}

impl FreshKey {
    /// A new key of an agent in a room, its secret in the base64 that MXF's clients know (MXF API, Channel Keys). `None`
    /// never happens: the form of the id is always allowed.
    pub fn for_room() -> Option<Self> {
        Self::draw(&STANDARD)
    }

    /// A new key of a user, of letters, digits, `-` and `_` beside the colon: it may stand in a URL as it is. `None` never
    /// happens.
    pub fn for_user() -> Option<Self> {
        Self::draw(&URL_SAFE_NO_PAD)
    }

    fn draw(base64: &impl base64::Engine) -> Option<Self> {
        let digits: String = clock::random_bytes::<12>().iter().map(|byte| format!("{byte:02x}")).collect();
        let id = KeyId::new(&format!("key_{digits}")).ok()?;
        let secret = base64.encode(clock::random_bytes::<32>());
        let hash = sha256_hex(secret.as_bytes());
        Some(Self { id, secret, hash })
    }

    /// Both halves in one text, `key_id:secret`.
    pub fn whole(&self) -> String {
        format!("{}:{}", self.id, self.secret)
    }
}

impl std::fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FreshKey({})", self.id)
    }
}

/// 256 random bits as 43 letters, digits, `-` and `_`: for passwords, domain keys, agents' secrets.
pub fn draw_secret() -> String {
    URL_SAFE_NO_PAD.encode(clock::random_bytes::<32>())
}

/// SHA-256 as 64 hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `secret` is what was hashed. Without a hash the same work is done and the answer is no, so that an unknown
/// key costs what a wrong one costs.
pub fn matches(secret: &str, hash: Option<&str>) -> bool {
    const NOBODYS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let given = sha256_hex(secret.as_bytes());
    let same: bool = given.as_bytes().ct_eq(hash.unwrap_or(NOBODYS).as_bytes()).into();
    same && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::{FreshKey, draw_secret, matches, sha256_hex};

    #[test]
    fn keys_have_the_documented_form() {
        let key = FreshKey::for_room().unwrap();
        let digits = key.id.as_str().strip_prefix("key_").unwrap();
        assert!(digits.len() == 24 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(key.secret.len(), 44);
        assert_eq!(key.whole(), format!("{}:{}", key.id, key.secret));
        assert!(!format!("{key:?}").contains(&key.secret), "a secret does not get into logs");
        assert_ne!(FreshKey::for_room().unwrap(), key);
        let key = FreshKey::for_user().unwrap();
        assert_eq!(key.secret.len(), 43);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
        assert!(key.whole().chars().all(plain), "it may stand in a URL as it is");
    }

    #[test]
    fn a_secret_matches_its_hash_alone() {
        let secret = draw_secret();
        let hash = sha256_hex(secret.as_bytes());
        assert!(matches(&secret, Some(&hash)));
        assert!(!matches("else", Some(&hash)));
        assert!(!matches(&secret, None));
        assert!(!matches(&secret, Some("")));
    }

    #[test]
    fn hashes_are_sha_256() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
