//! Passwords and agents' secrets: argon2id, computed off the event loop, a few at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, PasswordHash};
use roundtable_core::error::{Error, ErrorKind};
use tokio::sync::Semaphore;

use crate::clock;

/// Checks that may wait for their turn. With some 20 ms each, whoever comes later would have given up anyway.
const MOST_WAITING: usize = 256;

/// Longest password that is looked at: more is an attempt to keep the hash busy.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// What stands where there is no account, so that the check costs the same: random bytes in the form of a hash, with the cost
/// that [`hash`] has. No password is known that gives it.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$QjQoT1U+u3cX517YW2Vu8w$P/EjY6pSjhoewHdG6bmCBKehM7j70JXq1QykFoEVvn8";

/// The argon2id hash of a password as PHC text, with a fresh salt. Takes some 20 ms and 19 MiB.
/// Fails with `InvalidField` when the password is empty or longer than [`MAX_PASSWORD_BYTES`].
pub fn hash(password: &str) -> Result<String, Error> {
    if !(1..=MAX_PASSWORD_BYTES).contains(&password.len()) {
        return Err(Error::invalid("password", "must have 1 to 1024 bytes"));
    }
    let salt = clock::random_bytes::<16>();
    Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash: PasswordHash| hash.to_string())
        .map_err(|error| Error::new(ErrorKind::Internal, format!("the password cannot be hashed: {error}")))
}

/// Whether the password belongs to the hash; without a hash the same work, and no.
fn verify(password: &str, hash: Option<&str>) -> bool {
    let known = hash.and_then(|text| PasswordHash::new(text).ok());
    let found = known.is_some();
    let Some(hash) = known.or_else(|| PasswordHash::new(NOBODYS).ok()) else { return false };
    let same = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
    same && found
}

/// Where hashes are computed: blocking threads, a few at a time.
#[derive(Clone, Debug)]
pub struct Hashing {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Too many checks wait already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overrun;

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hashing {
    /// With so many at the same time, at least one.
    pub fn new(at_once: u32) -> Self {
        let turns = Semaphore::new(usize::try_from(at_once.max(1)).unwrap_or(1));
        Self { turns: Arc::new(turns), waiting: Arc::default() }
    }

    /// Whether the password belongs to the hash. Fails when too many wait already.
    pub async fn check(&self, password: String, hash: Option<String>) -> Result<bool, Overrun> {
        if password.len() > MAX_PASSWORD_BYTES {
            return self.run(move || verify("", None)).await;
        }
        self.run(move || verify(&password, hash.as_deref())).await
    }

    /// Hashes a new password. Fails as [`hash`] does, and with `Unavailable` when too many wait already.
    pub async fn make(&self, password: String) -> Result<String, Error> {
        let busy = |Overrun| Error::new(ErrorKind::Unavailable, "too many passwords are being checked");
        self.run(move || hash(&password)).await.map_err(busy)?
    }

    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Overrun> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Overrun);
        }
        let _waiting = Waiting(&self.waiting);
        let _turn = self.turns.acquire().await.map_err(|_| Overrun)?;
        tokio::task::spawn_blocking(job).await.map_err(|_| Overrun)
    }
}

#[cfg(test)]
mod tests {
    use super::{Hashing, MOST_WAITING, NOBODYS, Overrun, PasswordHash, hash, verify};

    #[test]
    fn a_password_verifies_against_its_own_hash_alone() {
        let stored = hash("correct horse").unwrap();
        let cost = |text: &str| text.rsplitn(3, '$').nth(2).map(str::to_owned);
        assert_eq!(cost(&stored), cost(NOBODYS), "an unknown account costs what a known one costs");
        assert!(PasswordHash::new(NOBODYS).is_ok());
        assert!(verify("correct horse", Some(&stored)));
        assert!(!verify("correct horsE", Some(&stored)));
        assert!(!verify("correct horse", None), "nobody's account opens to nobody");
        assert!(!verify("", Some("no hash at all")));
        assert_ne!(hash("correct horse").unwrap(), stored, "every hash has its own salt");
    }

    #[test]
    fn empty_and_endless_passwords_are_refused() {
        assert!(hash("").is_err());
        assert!(hash(&"x".repeat(1025)).is_err());
    }

    #[tokio::test]
    async fn checks_take_turns_and_only_so_many_wait() {
        let hashing = Hashing::new(1);
        let stored = hash("a").unwrap();
        assert_eq!(hashing.check("a".into(), Some(stored.clone())).await, Ok(true));
        assert_eq!(hashing.check("b".into(), Some(stored.clone())).await, Ok(false));
        assert_eq!(hashing.check("x".repeat(2000), Some(stored)).await, Ok(false));
        let _held = hashing.turns.clone().acquire_owned().await.unwrap();
        let waiting: Vec<_> = (0..MOST_WAITING)
            .map(|_| {
                tokio::spawn({
                    let hashing = hashing.clone();
                    async move { hashing.check("a".into(), None).await }
                })
            })
            .collect();
        while hashing.waiting.load(std::sync::atomic::Ordering::Relaxed) < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(hashing.check("a".into(), None).await, Err(Overrun));
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        for job in waiting {
            let _ = job.await;
        }
        assert_eq!(
            hashing.waiting.load(std::sync::atomic::Ordering::Relaxed),
            0,
            "whoever gives up makes room"
        );
    }
}
