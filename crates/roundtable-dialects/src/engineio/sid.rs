//! Ids of Engine.IO connections and of Socket.IO sockets: 120 random bits as 20 characters.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// An id of 20 base64url characters, made from 15 random bytes.
///
/// Whoever knows the id of an engine can poll in its name, so `Debug` shows only the first characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid([u8; Sid::LENGTH]);

impl Sid {
    /// Characters of an id.
    pub const LENGTH: usize = 20;

    /// Makes an id of 15 bytes, which must come from the operating system's random source.
    pub fn from_random(random: [u8; 15]) -> Self {
        let mut text = [b'A'; Self::LENGTH];
        // 15 bytes are exactly 20 characters, so the only error, a short buffer, cannot happen.
        let written = URL_SAFE_NO_PAD.encode_slice(random, &mut text);
        debug_assert!(written.is_ok_and(|length| length == Self::LENGTH));
        Self(text)
    }

    /// Reads an id out of a query; `None` for everything that this server cannot have made.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; Self::LENGTH] = text.as_bytes().try_into().ok()?;
        let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        bytes.iter().all(known).then_some(Self(bytes))
    }

    /// The 20 characters; they need no escaping in JSON, in a URL or in a header.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sid({}…)", self.as_str().get(..4).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_become_twenty_characters_and_back() {
        let sid = Sid::from_random([0xff; 15]);
        assert_eq!(sid.as_str(), "_".repeat(20));
        assert_eq!(Sid::parse(sid.as_str()), Some(sid));
        assert_ne!(Sid::from_random([0; 15]), Sid::from_random([1; 15]));
    }

    #[test]
    fn foreign_ids_are_refused_and_debug_hides_the_rest() {
        assert_eq!(Sid::parse("short"), None);
        assert_eq!(Sid::parse("AAAAAAAAAAAAAAAAAAA/"), None);
        assert_eq!(Sid::parse("AAAAAAAAAAAAAAAAAAAAA"), None);
        assert_eq!(format!("{:?}", Sid::from_random([0; 15])), "Sid(AAAA…)");
    }
}
