//! Reading the closing lines of test runners, so that all of them end in one sum.

use std::fmt;
use std::ops::AddAssign;

/// How many tests ended in which way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, timed out or could not start.
    pub failed: u64,
    /// Tests that did not run, by their own wish.
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Which runner wrote the output.
#[derive(Debug, Clone, Copy)]
pub enum Runner {
    /// `cargo test`: one `test result:` line per test program.
    Cargo,
    /// `cargo nextest run`: one `Summary` line.
    Nextest,
    /// `node --test` with its spec reporter: one line per count.
    Node,
    /// `pytest`: one line between `=` signs, or without them when quiet.
    Pytest,
    /// `roundtable torture`: one `Attacks:` line.
    Torture,
}

/// Sums what the runner says it did; `None` if it says nothing, which is a failure of its own.
pub fn read(runner: Runner, output: &str) -> Option<Tally> {
    let plain = without_colours(output);
    let mut sum = Tally::default();
    let mut said = false;
    for line in plain.lines().map(str::trim) {
        let counts = match runner {
            Runner::Cargo => line.strip_prefix("test result:"),
            Runner::Nextest => line
                .strip_prefix("Summary")
                .and_then(|rest| rest.split_once(" run:"))
                .map(|(_, counts)| counts),
            Runner::Node => line.strip_prefix('ℹ'),
            Runner::Pytest => pytest_counts(line),
            Runner::Torture => line.strip_prefix("Attacks:"),
        };
        if let Some(counts) = counts {
            said |= add(&mut sum, counts);
        }
    }
    said.then_some(sum)
}

/// The last line of pytest has a count and a duration; lines of single tests have no duration.
fn pytest_counts(line: &str) -> Option<&str> {
    let line = line.trim_matches('=').trim();
    let (counts, took) = line.rsplit_once(" in ")?;
    let seconds = took.split_once('s')?.0;
    seconds.parse::<f64>().is_ok().then_some(counts)
}

/// Adds each part that counts tests, be it `N word` or `word N`; whether there was one.
fn add(sum: &mut Tally, counts: &str) -> bool {
    let mut said = false;
    for part in counts.split([',', ';', '.']) {
        let mut words = part.split_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        let (number, word) = match (first.parse::<u64>(), second.parse::<u64>()) {
            (Ok(number), _) => (number, second),
            (_, Ok(number)) => (number, first),
            _ => continue,
        };
        match word {
            "passed" | "pass" => sum.passed += number,
            "failed" | "fail" | "cancelled" | "error" | "errors" | "timed" => sum.failed += number,
            "skipped" | "ignored" | "todo" | "xfailed" => sum.skipped += number,
            _ => continue,
        }
        said = true;
    }
    said
}

fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, code)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = code.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Option<Tally> {
        Some(Tally { passed, failed, skipped })
    }

    #[test]
    fn cargo_programs_are_summed() {
        let output = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s\n\
            test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(read(Runner::Cargo, output), tally(7, 2, 1));
    }

    #[test]
    fn nextest_counts_time_outs_as_failures() {
        let output = "\u{1b}[32;1m     Summary\u{1b}[0m [   1.2s] 9 tests run: 6 passed (1 slow), 2 failed, 1 timed out, 3 skipped\n";
        assert_eq!(read(Runner::Nextest, output), tally(6, 3, 3));
    }

    #[test]
    fn node_puts_the_number_last() {
        let output = "✔ polite (3.1ms)\nℹ tests 6\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\nℹ duration_ms 12\n";
        assert_eq!(read(Runner::Node, output), tally(3, 2, 1));
    }

    #[test]
    fn pytest_closing_line_is_found_among_others() {
        let output = "test_a.py::test_1 failed 3 times in a row\n\
            ===== 1 failed, 5 passed, 2 skipped, 1 error in 3.21s =====\n";
        assert_eq!(read(Runner::Pytest, output), tally(5, 2, 2));
        assert_eq!(read(Runner::Pytest, "5 passed in 61.20s (0:01:01)\n"), tally(5, 0, 0));
    }

    #[test]
    fn attacks_are_counted() {
        let output = "kill\n  BROKEN: 1 lost: 3 passed\nAttacks: 5 passed, 1 failed (seed 17).\n";
        assert_eq!(read(Runner::Torture, output), tally(5, 1, 0));
    }

    #[test]
    fn silence_is_not_success() {
        for runner in [Runner::Cargo, Runner::Nextest, Runner::Node, Runner::Pytest, Runner::Torture] {
            assert_eq!(read(runner, "thread 'main' has overflowed its stack\n"), None);
        }
    }

    #[test]
    fn shows_as_a_runner_would() {
        assert_eq!(Tally { passed: 3, failed: 0, skipped: 1 }.to_string(), "3 passed, 0 failed, 1 skipped");
    }
}
