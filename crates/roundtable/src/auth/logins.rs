//! Passwords, and secrets that people choose: how many may be wrong, and at which pace they are read while somebody guesses.
//!
//! Where an address is blocked, or the limit of an account is reached, a password is still read now and then. So whoever
//! knows it is not locked out by somebody who does not, and guessing stays hopeless.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use roundtable_core::time::Time;

use crate::auth::failures::{Failures, Pair, Try, pair_of};
use crate::config::Rate;

/// Under guessing, the least distance of two passwords of one account from one address, in milliseconds.
pub const ACCOUNT_PACE_MS: i64 = 10_000;
/// The same of all passwords from one address.
pub const ADDRESS_PACE_MS: i64 = 1_000;
/// Moments that are remembered of each kind: some 6 MiB at the most.
const MOST_MOMENTS: usize = 32_768;

/// Failed logins by address and account.
#[derive(Debug)]
pub struct Logins {
    failed: Failures,
    read: Mutex<(Moments<Pair>, Moments<IpAddr>)>,
}

impl Logins {
    /// At most so many failures of an address for an account in the window, or any number.
    pub fn new(most: Rate, window_ms: u64) -> Self {
        let read = (Moments::new(ACCOUNT_PACE_MS), Moments::new(ADDRESS_PACE_MS));
        Self { failed: Failures::new(most, window_ms), read: Mutex::new(read) }
    }

    /// Begins a try, which counts as failed until [`Logins::succeeded`]. `blocked` is for how many milliseconds more its
    /// address is blocked, if it is. Fails with the milliseconds after which a password of this account is read again.
    pub fn begin(
        &self,
        (peer, account): (IpAddr, &str),
        blocked: Option<u64>,
        now: Time,
    ) -> Result<Try, u64> {
        let pair = pair_of(peer, account);
        self.failed.begin_if(&pair, now, |limited| {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            let (accounts, addresses) = &mut *read;
            if let Some(over) = blocked.max(limited) {
                let wait = accounts.wait(&pair, now).max(addresses.wait(&pair.0, now));
                if wait > 0 {
                    return Err(wait.min(over));
                }
            }
            addresses.note(pair.0, now);
            accounts.note(pair.clone(), now);
            Ok(())
        })
    }

    /// The try succeeded: it does not count.
    pub fn succeeded(&self, attempt: &Try) {
        self.failed.succeeded(attempt);
    }

    /// The addresses and accounts whose limit is reached, each with the end of that.
    pub fn reached(&self, now: Time) -> Vec<(Pair, Time)> {
        self.failed.reached(now)
    }

    /// Forgets what an address did.
    pub fn forgive(&self, address: IpAddr) {
        self.failed.forgive(address);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (accounts, addresses) = &mut *read;
        accounts.forget(|(of, _)| *of == address);
        addresses.forget(|of| *of == address);
    }
}

/// When each of many was there last, as long as that matters.
#[derive(Debug)]
struct Moments<K> {
    span_ms: i64,
    last: HashMap<K, Time>,
    /// In the order of their times; one that is newer in `last` does not count.
    by_age: VecDeque<(Time, K)>,
}

impl<K: Clone + Eq + Hash> Moments<K> {
    fn new(span_ms: i64) -> Self {
        Self { span_ms, last: HashMap::new(), by_age: VecDeque::new() }
    }

    /// Milliseconds until the span since the last time is over; 0 if it is.
    fn wait(&self, key: &K, now: Time) -> u64 {
        let over = self.last.get(key).map_or(0, |last| self.span_ms - now.since(*last).max(0));
        u64::try_from(over).unwrap_or(0)
    }

    fn forget(&mut self, which: impl Fn(&K) -> bool) {
        self.last.retain(|key, _| !which(key));
        self.by_age.retain(|(_, key)| !which(key));
    }

    fn note(&mut self, key: K, now: Time) {
        let over = |at: &Time| now.since(*at) >= self.span_ms;
        while self.by_age.front().is_some_and(|(at, _)| over(at) || self.by_age.len() >= MOST_MOMENTS) {
            let Some((at, old)) = self.by_age.pop_front() else { break };
            if self.last.get(&old) == Some(&at) {
                self.last.remove(&old);
            }
        }
        self.last.insert(key.clone(), now);
        self.by_age.push_back((now, key));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Logins, MOST_MOMENTS, Rate, Time};

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn fail(logins: &Logins, who: (IpAddr, &str), blocked: Option<u64>, at: i64) -> Result<(), u64> {
        logins.begin(who, blocked, Time(at)).map(drop)
    }

    #[test]
    fn nobody_waits_where_nobody_guesses() {
        let logins = Logins::new(Rate::of(1_000), 900_000);
        assert!((0..500).all(|n| fail(&logins, (A, "ann"), None, n).is_ok()));
    }

    #[test]
    fn over_its_limit_an_account_is_read_once_in_ten_seconds_from_there_alone() {
        let logins = Logins::new(Rate::of(3), 900_000);
        (0..3).for_each(|n| fail(&logins, (A, "ann"), None, n).unwrap());
        assert_eq!(fail(&logins, (A, "ann"), None, 10), Err(9_992));
        assert_eq!(fail(&logins, (B, "ann"), None, 10), Ok(()), "another address");
        assert_eq!(fail(&logins, (A, "bob"), None, 10), Ok(()), "another account");
        let read = (0..100_000).filter(|ms| fail(&logins, (A, "ann"), None, 1_000 + ms).is_ok()).count();
        assert_eq!(read, 10);
        assert_eq!(logins.reached(Time(101_000)).len(), 1);
    }

    #[test]
    fn at_a_blocked_address_one_password_a_second_is_read_and_refused_ones_take_no_turn() {
        let logins = Logins::new(Rate::of(10), 900_000);
        let accounts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let names = accounts.iter().cycle();
        let read =
            (0..60_000).zip(names).filter(|(at, name)| fail(&logins, (A, name), Some(300_000), *at).is_ok());
        assert_eq!(read.count(), 60);
        assert_eq!(fail(&logins, (A, "new"), Some(30), 60_001), Err(30), "not longer than the block");
        assert_eq!(fail(&logins, (A, "new"), None, 60_002), Ok(()));
    }

    #[test]
    fn whoever_knows_the_password_gets_in_and_does_not_use_up_the_limit() {
        let logins = Logins::new(Rate::of(2), 900_000);
        (0..2).for_each(|n| fail(&logins, (A, "ann"), None, n).unwrap());
        let attempt = logins.begin((A, "ann"), None, Time(10_001)).unwrap();
        logins.succeeded(&attempt);
        assert_eq!(logins.reached(Time(10_002)).len(), 0, "the oldest made room, and the last one was right");
        logins.forgive(A);
        assert!((0..2).all(|n| fail(&logins, (A, "ann"), Some(1_000), 10_003 + 20_000 * n).is_ok()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let logins = Logins::new(Rate::OFF, 1_000);
        for n in 0..=2 * MOST_MOMENTS {
            fail(&logins, (A, &n.to_string()), None, 0).unwrap();
        }
        let read = logins.read.lock().unwrap();
        assert!(read.0.last.len() <= MOST_MOMENTS && read.0.by_age.len() <= MOST_MOMENTS);
        assert!(read.1.last.len() == 1 && read.1.by_age.len() <= MOST_MOMENTS);
    }
}
