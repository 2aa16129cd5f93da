//! Challenges for nodes that prove their keys: given without being kept, answered once (Open-A.G.I notes §8, Token issue).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use roundtable_core::ids::NodeId;
use roundtable_core::time::Time;
use roundtable_dialects::rest::{KeyProof, Unproven};
use sha2::Sha256;

use crate::clock;

/// How long a challenge may be answered, in milliseconds: a program signs at once, a person by hand within a minute.
const LIFE_MS: i64 = 60_000;
/// Most answered challenges that are remembered; more within their life are put off.
const MOST_ANSWERED: usize = 4_096;
/// Random bytes that a challenge begins with.
const NONCE: usize = 16;
/// Bytes of its end, in milliseconds; behind them comes the mark of this process.
const END: usize = 8;

/// Makes and checks challenges. Those of another process, or from before a restart, are none.
#[derive(Debug)]
pub struct Challenges {
    secret: [u8; 32],
    /// Answered ones that have not ended, by their random bytes.
    answered: Mutex<HashMap<[u8; NONCE], Time>>,
}

impl Default for Challenges {
    fn default() -> Self {
        Self { secret: clock::random_bytes(), answered: Mutex::default() }
    }
}

impl Challenges {
    /// A challenge for a node and its key, and when it ends.
    pub fn make(&self, node: &NodeId, key: &[u8; 32], now: Time) -> (String, Time) {
        let (nonce, end) = (clock::random_bytes::<NONCE>(), now.plus(LIFE_MS));
        let mut bytes = nonce.to_vec();
        bytes.extend(end.0.to_be_bytes());
        let mark = self.mac(&bytes, node, key).map(|mac| mac.finalize().into_bytes());
        bytes.extend(mark.into_iter().flatten());
        (URL_SAFE_NO_PAD.encode(bytes), end)
    }

    /// Checks an answer. A good one is the only one its challenge has.
    pub fn check(&self, proof: &KeyProof<'_>, now: Time) -> Result<(), Answered> {
        let nonce = self.read(proof, now).ok_or(Answered::Not(Unproven::Challenge))?;
        let key = VerifyingKey::from_bytes(proof.key).map_err(|_| Answered::Not(Unproven::Signature))?;
        let signed = format!("{}\n{}", proof.node, proof.challenge);
        key.verify_strict(signed.as_bytes(), &Signature::from_bytes(proof.signature))
            .map_err(|_| Answered::Not(Unproven::Signature))?;
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.len() >= MOST_ANSWERED {
            answered.retain(|_, end| *end > now);
        }
        if answered.contains_key(&nonce) {
            return Err(Answered::Before);
        }
        if answered.len() >= MOST_ANSWERED {
            return Err(Answered::Not(Unproven::Busy));
        }
        answered.insert(nonce, now.plus(LIFE_MS));
        Ok(())
    }

    /// The random bytes of a challenge that this process gave to this node and key and that has not ended.
    fn read(&self, proof: &KeyProof<'_>, now: Time) -> Option<[u8; NONCE]> {
        let bytes = URL_SAFE_NO_PAD.decode(proof.challenge).ok()?;
        let (head, mark) = bytes.split_at_checked(NONCE + END)?;
        self.mac(head, proof.node, proof.key)?.verify_slice(mark).ok()?;
        let (nonce, end) = head.split_at_checked(NONCE)?;
        (Time(i64::from_be_bytes(end.try_into().ok()?)) > now).then_some(nonce.try_into().ok()?)
    }

    fn mac(&self, head: &[u8], node: &NodeId, key: &[u8; 32]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(head);
        mac.update(key);
        // Last, as it alone has no fixed length.
        mac.update(node.as_str().as_bytes());
        Some(mac)
    }
}

/// Why an answer is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answered {
    /// It proves nothing.
    Not(Unproven),
    /// It would, but it was given before.
    Before,
}

#[cfg(test)]
mod tests {
    use super::{Answered, Challenges, KeyProof, LIFE_MS, MOST_ANSWERED, NodeId, Time, Unproven};
    use ed25519_dalek::{Signer as _, SigningKey};

    struct Node {
        id: NodeId,
        key: SigningKey,
    }

    fn node(id: &str) -> Node {
        Node { id: NodeId::new(id).unwrap(), key: SigningKey::from_bytes(&crate::clock::random_bytes()) }
    }

    impl Node {
        fn public(&self) -> [u8; 32] {
            self.key.verifying_key().to_bytes()
        }

        fn answer(&self, challenges: &Challenges, challenge: &str, now: Time) -> Result<(), Answered> {
            let signature = self.key.sign(format!("{}\n{challenge}", self.id).as_bytes()).to_bytes();
            let proof = KeyProof { node: &self.id, key: &self.public(), challenge, signature: &signature };
            challenges.check(&proof, now)
        }
    }

    const WRONG: Result<(), Answered> = Err(Answered::Not(Unproven::Challenge));

    #[test]
    fn a_challenge_is_answered_once_by_whom_it_was_given_to() {
        let (challenges, ann, now) = (Challenges::default(), node("ann"), Time(1_000));
        let (challenge, end) = challenges.make(&ann.id, &ann.public(), now);
        assert_eq!(end, now.plus(LIFE_MS));
        assert_ne!(challenge, challenges.make(&ann.id, &ann.public(), now).0);
        let twin = Node { id: NodeId::new("ann2").unwrap(), key: ann.key.clone() };
        assert_eq!(twin.answer(&challenges, &challenge, now), WRONG, "another node with the same key");
        assert_eq!(node("ann").answer(&challenges, &challenge, now), WRONG, "another key of the same node");
        assert_eq!(ann.answer(&Challenges::default(), &challenge, now), WRONG, "another process");
        assert_eq!(ann.answer(&challenges, &challenge, end), WRONG, "its end");
        for broken in ["", "x", "!!", &challenge[..challenge.len() - 2]] {
            assert_eq!(ann.answer(&challenges, broken, now), WRONG);
        }
        assert_eq!(ann.answer(&challenges, &challenge, now), Ok(()));
        assert_eq!(ann.answer(&challenges, &challenge, now), Err(Answered::Before));
    }

    #[test]
    fn what_somebody_else_signed_leaves_the_challenge_open() {
        let (challenges, ann, now) = (Challenges::default(), node("ann"), Time(1_000));
        let (challenge, _) = challenges.make(&ann.id, &ann.public(), now);
        let forged = node("eve").key.sign(format!("ann\n{challenge}").as_bytes()).to_bytes();
        let bare = ann.key.sign(challenge.as_bytes()).to_bytes();
        for signature in [forged, bare, [0; 64]] {
            let key = ann.public();
            let proof = KeyProof { node: &ann.id, key: &key, challenge: &challenge, signature: &signature };
            assert_eq!(challenges.check(&proof, now), Err(Answered::Not(Unproven::Signature)));
        }
        assert_eq!(ann.answer(&challenges, &challenge, now), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_at_its_end() {
        let (challenges, ann, now) = (Challenges::default(), node("ann"), Time(1_000));
        for n in 0..MOST_ANSWERED {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&n.to_be_bytes());
            challenges.answered.lock().unwrap().insert(nonce, now.plus(LIFE_MS));
        }
        let fresh = |now| challenges.make(&ann.id, &ann.public(), now).0;
        assert_eq!(ann.answer(&challenges, &fresh(now), now), Err(Answered::Not(Unproven::Busy)));
        let later = now.plus(LIFE_MS);
        assert_eq!(ann.answer(&challenges, &fresh(later), later), Ok(()));
        assert_eq!(challenges.answered.lock().unwrap().len(), 1);
    }
}
