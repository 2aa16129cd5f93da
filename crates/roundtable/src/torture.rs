//! The torture: starts servers of its own as child processes, attacks them over real sockets, and says which promise broke.

use std::borrow::Cow;
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use crate::clock;
use crate::line::Attempt;

mod backlog;
mod child;
mod clocks;
mod crowd;
mod flood;
mod full_disk;
mod garbage;
mod hog;
mod kill;
mod ledger;
mod limits;
mod narrow;
mod pair;
mod person;
mod resume;
mod stalled;
mod storm;
mod stranger;

/// Settings under which nobody is refused for talking too much, and whoever comes back is given all it missed.
const UNLIMITED: [&str; 6] = [
    "mxf.messages_per_minute=off",
    "megabot.frames_per_second=off",
    "megabot.batched_per_second=off",
    "megabot.replay=1000000",
    "storage.principal_bytes_per_minute=4GiB",
    "server.drain_timeout=1s",
];

/// One way to attack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// `kill -9` while people of three dialects talk and resume.
    Kill,
    /// A disk that takes no more while people talk.
    FullDisk,
    /// Readers that stop reading, among others that do not.
    Stalled,
    /// Clients that missed far more than any queue holds, and read at a modest pace.
    Backlog,
    /// An agent in many rooms that comes back to a long log and reads nothing, while others come in.
    Resume,
    /// Thousands of clients that come back at once after a crash.
    Storm,
    /// Floods before anybody has said who they are, and after.
    Flood,
    /// Malformed and huge input on every port and path.
    Garbage,
    /// Senders that leave no pause, each kind of them alone, beside people who talk and probes that ask.
    Hog,
    /// Strangers of every kind that take as much as they are given.
    Stranger,
    /// A wall clock that is an hour ahead, set right, years off.
    Clock,
}

/// How large an attack is, and its chance.
#[derive(Clone, Debug)]
pub struct Scale {
    short: bool,
    seed: u64,
}

impl Scale {
    /// `short`: as small as still says something.
    pub fn new(short: bool, seed: u64) -> Self {
        Self { short, seed }
    }

    /// A size: the first if the run is short.
    fn pick<T>(&self, short: T, whole: T) -> T {
        if self.short { short } else { whole }
    }

    /// A number below `end`; the same seed draws the same ones (splitmix64).
    fn draw(&mut self, end: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

/// A measured value.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Of what.
    pub what: Cow<'static, str>,
    /// How much.
    pub value: u64,
    /// In which unit; empty for a count.
    pub unit: &'static str,
}

/// What came of one attack. Nothing broken: every promise was kept.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which.
    pub scenario: Scenario,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What was done otherwise than asked for, and why.
    pub notes: Vec<String>,
    /// Every promise that broke.
    pub broken: Vec<String>,
}

impl Report {
    fn figure(&mut self, what: impl Into<Cow<'static, str>>, value: impl TryInto<u64>, unit: &'static str) {
        let what = what.into();
        self.figures.push(Figure { what, value: value.try_into().unwrap_or(u64::MAX), unit });
    }
}

/// Carries out one attack in an empty folder. That it could not be carried out counts as a broken promise: the server
/// did not do what an undisturbed one does.
pub async fn attack(scenario: Scenario, dir: &Path, mut scale: Scale) -> Report {
    let mut report = Report { scenario, figures: Vec::new(), notes: Vec::new(), broken: Vec::new() };
    let began = clock::monotonic_ms();
    let ended: Attempt<()> = match scenario {
        Scenario::Kill => kill::attack(dir, &mut scale, &mut report).await,
        Scenario::FullDisk => full_disk::attack(dir, &mut scale, &mut report).await,
        Scenario::Stalled => stalled::attack(dir, &mut scale, &mut report).await,
        Scenario::Backlog => backlog::attack(dir, &mut scale, &mut report).await,
        Scenario::Resume => resume::attack(dir, &mut scale, &mut report).await,
        Scenario::Storm => storm::attack(dir, &mut scale, &mut report).await,
        Scenario::Flood => flood::attack(dir, &mut scale, &mut report).await,
        Scenario::Garbage => garbage::attack(dir, &mut scale, &mut report).await,
        Scenario::Hog => hog::attack(dir, &scale, &mut report).await,
        Scenario::Stranger => stranger::attack(dir, &scale, &mut report).await,
        Scenario::Clock => clocks::attack(dir, &mut scale, &mut report).await,
    };
    if let Err(error) = ended {
        report.broken.push(error.to_string());
    }
    report.figure("duration", clock::monotonic_ms() - began, "ms");
    report
}

#[cfg(test)]
mod tests {
    use super::Scale;

    #[test]
    fn the_same_seed_draws_the_same_numbers_below_the_end() {
        let draw = |seed| {
            let mut scale = Scale::new(true, seed);
            (0..100).map(|_| scale.draw(10)).collect::<Vec<u64>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).iter().all(|number| *number < 10));
    }
}
