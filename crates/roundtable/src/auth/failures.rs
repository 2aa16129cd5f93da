//! Failed logins: after so many in a window, an address is not heard any more about an account.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use roundtable_core::time::Time;

use crate::config::Rate;

/// Pairs of address and account that are remembered: some 10 MiB at the most, whatever attackers send.
const MOST_PAIRS: usize = 65_536;

/// Longest account name that is told apart; longer ones share a place.
const MAX_ACCOUNT_BYTES: usize = 128;

/// An address as it is counted, and an account.
pub type Pair = (IpAddr, String);

/// Counts failures per address and account (protocol notes §2: 10 in 15 min).
#[derive(Debug)]
pub struct Failures {
    most: Option<usize>,
    window_ms: i64,
    pairs: Mutex<Pairs>,
}

#[derive(Debug, Default)]
struct Pairs {
    failed: HashMap<Pair, VecDeque<Time>>,
    by_age: VecDeque<Pair>,
}

/// One try that counts as failed until it is said that it was not.
#[derive(Debug)]
#[must_use = "a try counts as failed unless it is taken back"]
pub struct Try {
    pair: Pair,
    at: Time,
}

/// An IPv6 customer holds a /64, so it counts as one address; IPv4 in IPv6 counts as IPv4.
pub fn counted_address(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) if v6.is_loopback() => peer,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What is counted together. A long account name is cut: its beginning tells enough.
pub fn pair_of(peer: IpAddr, account: &str) -> Pair {
    let start = account.get(..MAX_ACCOUNT_BYTES).unwrap_or(account);
    (counted_address(peer), start.chars().take(MAX_ACCOUNT_BYTES).collect())
}

impl Failures {
    /// At most so many in the window, or any number.
    pub fn new(most: Rate, window_ms: u64) -> Self {
        Self {
            most: most.most().and_then(|n| usize::try_from(n).ok()),
            window_ms: i64::try_from(window_ms).unwrap_or(i64::MAX),
            pairs: Mutex::default(),
        }
    }

    /// Begins a try. It counts at once, so that many at the same time are not more than many one after the other.
    /// Fails with the milliseconds after which there may be another.
    pub fn begin(&self, peer: IpAddr, account: &str, now: Time) -> Result<Try, u64> {
        self.begin_if(&pair_of(peer, account), now, |left| left.map_or(Ok(()), Err))
    }

    /// The same, where somebody else says whether there may be one: it is told for how many milliseconds more the limit is
    /// reached, if it is.
    pub fn begin_if(
        &self,
        pair: &Pair,
        now: Time,
        may: impl FnOnce(Option<u64>) -> Result<(), u64>,
    ) -> Result<Try, u64> {
        let attempt = Try { pair: pair.clone(), at: now };
        let Some(most) = self.most else { return may(None).map(|()| attempt) };
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let Pairs { failed, by_age } = &mut *pairs;
        may(failed.get_mut(pair).and_then(|times| self.left(times, most, now)))?;
        if let Some(times) = failed.get_mut(pair) {
            times.push_back(now);
            if times.len() > most {
                times.pop_front();
            }
        } else {
            if failed.len() >= MOST_PAIRS
                && let Some(oldest) = by_age.pop_front()
            {
                failed.remove(&oldest);
            }
            failed.insert(pair.clone(), VecDeque::from([now]));
            by_age.push_back(pair.clone());
        }
        Ok(attempt)
    }

    /// For how many milliseconds more a limit is reached. What left the window is forgotten.
    fn left(&self, times: &mut VecDeque<Time>, most: usize, now: Time) -> Option<u64> {
        while times.front().is_some_and(|at| now.since(*at) >= self.window_ms) {
            times.pop_front();
        }
        let oldest = times.front().filter(|_| times.len() >= most)?;
        Some(u64::try_from(oldest.plus(self.window_ms).since(now)).unwrap_or(0).max(1))
    }

    /// The addresses and accounts whose limit is reached, each with the end of that, in no order.
    pub fn reached(&self, now: Time) -> Vec<(Pair, Time)> {
        let Some(most) = self.most else { return Vec::new() };
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |(pair, times): (&Pair, &mut VecDeque<Time>)| {
            let ms = i64::try_from(self.left(times, most, now)?).ok()?;
            Some((pair.clone(), now.plus(ms)))
        };
        pairs.failed.iter_mut().filter_map(left).collect()
    }

    /// Forgets what an address did, as [`counted_address`] has it.
    pub fn forgive(&self, address: IpAddr) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        pairs.failed.retain(|(known, _), _| *known != address);
        pairs.by_age.retain(|(known, _)| *known != address);
    }

    /// The try succeeded: it does not count.
    pub fn succeeded(&self, attempt: &Try) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = pairs.failed.get_mut(&attempt.pair) else { return };
        if let Some(place) = times.iter().rposition(|at| *at == attempt.at) {
            times.remove(place);
        }
        if times.is_empty() {
            pairs.failed.remove(&attempt.pair);
            if let Some(place) = pairs.by_age.iter().rposition(|pair| *pair == attempt.pair) {
                pairs.by_age.remove(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Failures, MOST_PAIRS, counted_address};
    use crate::config::Rate;
    use roundtable_core::time::Time;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn fail(failures: &Failures, peer: IpAddr, account: &str, at: i64) -> Result<(), u64> {
        failures.begin(peer, account, Time(at)).map(drop)
    }

    #[test]
    fn the_eleventh_failure_in_the_window_is_refused_until_the_first_leaves_it() {
        let failures = Failures::new(Rate::of(10), 900_000);
        for n in 0..10 {
            assert_eq!(fail(&failures, A, "ann", n * 1_000), Ok(()));
        }
        assert_eq!(fail(&failures, A, "ann", 10_000), Err(890_000));
        assert_eq!(fail(&failures, A, "ann", 899_999), Err(1));
        assert_eq!(fail(&failures, A, "ann", 900_000), Ok(()), "refused tries do not prolong it");
        assert_eq!(fail(&failures, A, "ann", 900_001), Err(999));
    }

    #[test]
    fn other_addresses_and_other_accounts_are_not_concerned() {
        let failures = Failures::new(Rate::of(1), 1_000);
        assert!(fail(&failures, A, "ann", 0).is_ok());
        assert!(fail(&failures, A, "ann", 1).is_err());
        assert!(fail(&failures, A, "bob", 1).is_ok());
        assert!(fail(&failures, B, "ann", 1).is_ok());
    }

    #[test]
    fn successes_do_not_count() {
        let failures = Failures::new(Rate::of(2), 1_000);
        for n in 0..50 {
            let attempt = failures.begin(A, "ann", Time(n)).unwrap();
            failures.succeeded(&attempt);
        }
        assert!(failures.pairs.lock().unwrap().failed.is_empty());
        assert!(failures.pairs.lock().unwrap().by_age.is_empty());
    }

    #[test]
    fn off_means_any_number() {
        let failures = Failures::new(Rate::OFF, 1_000);
        assert!((0..1_000).all(|n| fail(&failures, A, "ann", n).is_ok()));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let failures = Failures::new(Rate::of(1), 1_000_000);
        for n in 0..=MOST_PAIRS {
            assert!(fail(&failures, A, &n.to_string(), 0).is_ok());
        }
        assert_eq!(failures.pairs.lock().unwrap().failed.len(), MOST_PAIRS);
        assert!(fail(&failures, A, "0", 1).is_ok(), "the oldest was forgotten");
        assert!(fail(&failures, A, "60000", 1).is_err());
        assert!(fail(&failures, A, &"ä".repeat(100_000), 1).is_ok());
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|a| counted_address(a.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_eq!(counted_address("::ffff:192.0.2.1".parse().unwrap()), A);
    }
}
