//! The goals that Roundtable sets itself, checked against what was measured.
use crate::contender::Contender;
use crate::measure::Measured;
use crate::rows::{megabot, mxf};

/// What a figure of ours is compared with.
#[derive(Clone, Copy)]
enum Beside {
    Server(Contender),
    /// The goal is the number itself, in this unit.
    Nothing(&'static str),
}

/// `figure` of `ours` in `row` is at most (or at least) `bound` times that of the other.
struct Goal {
    row: &'static str,
    figure: &'static str,
    ours: Contender,
    at_most: bool,
    bound: f64,
    beside: Beside,
}

const CPU: &str = "cpu_us_per_delivery";
const RATE: &str = "deliveries_per_s";
const ACKS: &str = "acks_per_s";
const KIB: &str = "rss_kib_each";
const BACK: &str = "back_s";
const REFUSED: &str = "refused_most";

fn cpu(row: &'static str, ours: Contender, bound: f64, other: Contender) -> Goal {
    Goal { row, figure: CPU, ours, at_most: true, bound, beside: Beside::Server(other) }
}

fn at_least(row: &'static str, figure: &'static str, ours: Contender, bound: f64, other: Contender) -> Goal {
    Goal { row, figure, ours, at_most: false, bound, beside: Beside::Server(other) }
}

fn memory(ours: Contender, bound: f64) -> Goal {
    Goal { row: "idle", figure: KIB, ours, at_most: true, bound, beside: Beside::Nothing("KiB") }
}

fn storm(figure: &'static str, ours: Contender, bound: f64, unit: &'static str) -> Goal {
    Goal { row: "storm", figure, ours, at_most: true, bound, beside: Beside::Nothing(unit) }
}

fn goals() -> Vec<Goal> {
    use Contender::{NodeSocketIo, Socketioxide, Sqlite, UWebSockets};
    let (plain, socketio) = (megabot(false), mxf(false));
    vec![
        cpu("fanout-100-w1", plain, 1.05, UWebSockets),
        cpu("fanout-100-w16", plain, 1.1, UWebSockets),
        cpu("fanout-100-w16", socketio, 0.1, NodeSocketIo),
        at_least("fanout-1000-w4", RATE, plain, 1.5, UWebSockets),
        at_least("fanout-5000-w2", RATE, plain, 2.0, UWebSockets),
        cpu("fanout-100-w1", socketio, 1.1, plain),
        cpu("fanout-100-w1", socketio, 0.5, NodeSocketIo),
        cpu("fanout-100-w1", socketio, 0.7, Socketioxide),
        cpu("fanout-100-w16", socketio, 1.1, plain),
        cpu("fanout-100-w16", socketio, 0.7, Socketioxide),
        cpu("chat", plain, 1.1, UWebSockets),
        cpu("chat", socketio, 0.45, NodeSocketIo),
        at_least("acks-64", ACKS, mxf(true), 0.7, Sqlite { batch: 64 }),
        at_least("acks-1024", ACKS, mxf(true), 0.4, Sqlite { batch: 1_024 }),
        at_least("acks-64", ACKS, mxf(true), 15.0, Sqlite { batch: 1 }),
        memory(megabot(true), 2.0),
        memory(mxf(true), 7.0),
        storm(BACK, megabot(true), 8.0, "s"),
        storm(BACK, mxf(true), 8.0, "s"),
        storm(REFUSED, megabot(true), 1.0, "times"),
        storm(REFUSED, mxf(true), 1.0, "times"),
    ]
}

fn find(rows: &[Measured], row: &str, server: Contender, figure: &str) -> Option<f64> {
    let row = rows.iter().find(|m| m.row.id == row)?;
    let outcome = row.outcomes.iter().find(|o| o.server == server)?;
    outcome.figures.as_ref().ok()?.get(figure).copied()
}

/// The goals as lines of a table; empty if nothing of Roundtable was measured.
pub fn lines(rows: &[Measured]) -> Vec<String> {
    goals().iter().filter_map(|g| line(rows, g)).collect()
}

fn line(rows: &[Measured], g: &Goal) -> Option<String> {
    let ours = find(rows, g.row, g.ours, g.figure)?;
    let (value, than) = match g.beside {
        Beside::Nothing(unit) => (ours, unit.to_string()),
        Beside::Server(other) => (ours / find(rows, g.row, other, g.figure)?, format!("x {}", other.name())),
    };
    let met = if g.at_most { value <= g.bound } else { value >= g.bound };
    let title = &rows.iter().find(|m| m.row.id == g.row)?.row.title;
    let sign = if g.at_most { "≤" } else { "≥" };
    let what = match g.figure {
        CPU => "processor time per delivery",
        RATE => "deliveries/s",
        ACKS => "acknowledged/s",
        BACK => "time until the last is back",
        REFUSED => "refused attempts of one client",
        _ => "memory per connection",
    };
    Some(format!(
        "| {title}: {what} of {} | {sign} {} {than} | {value:.2} | {} |",
        g.ours.name(),
        g.bound,
        if met { "met" } else { "**missed**" }
    ))
}
