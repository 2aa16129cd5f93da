//! How the parts of the server are: the log, the disk under it, the jobs. Each change is told once, with its cause, and so is
//! its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use roundtable_core::command::Command;
use roundtable_core::components::{FaultNoticed, Health, SetHealth, Severity};
use roundtable_core::ids::{AlertId, Principal};
use roundtable_core::json::Json;
use roundtable_dialects::figures::Figures;
use roundtable_dialects::session::{Ask, Token};
use serde_json::{Value, json};

use crate::clock;
use crate::config::{Alerts, Config};
use crate::transport::Hub;

/// Looks on end without trouble after which a part is well again.
const QUIET: u32 = 3;
/// Slow looks on end that are no chance.
const SLOW: u32 = 2;

/// How a part is now, and why.
pub fn health(component: &str, health: Health, reason: String, affects: &[&str]) -> Command {
    let affects = affects.iter().map(|what| (*what).to_owned()).collect();
    Command::SetHealth(SetHealth { component: component.into(), health, reason, affects })
}

/// Something went wrong.
pub fn fault(component: &str, code: &str, message: String, details: &Value) -> Command {
    Command::NoteFault(FaultNoticed {
        fault: AlertId::fresh(clock::now(), clock::random_u64()),
        component: component.into(),
        code: code.into(),
        message,
        details: Json::from(details),
        severity: Severity::Error,
    })
}

/// Asks one after the other. Says whether all of it is in the log.
pub async fn tell(hub: &Hub, commands: Vec<Command>) -> bool {
    let Some(home) = hub.workspaces.get(hub.workspaces.default_id()) else { return false };
    for command in commands {
        if home.ask(&Principal::System, Ask::new(Token(0), command)).await.is_err() {
            return false;
        }
    }
    true
}

/// Runs a job. That it ends is a fault: nobody does its work until the process starts again.
pub async fn kept(name: &'static str, hub: Arc<Hub>, job: impl Future<Output = ()> + Send) {
    let ended = AssertUnwindSafe(job).catch_unwind().await;
    let how = if ended.is_err() { "failed" } else { "ended" };
    tracing::error!(job = name, "a job of the server {how}");
    let reason = format!("the job `{name}` {how}; it begins again with the server");
    let noted = fault("background_processes", "JOB_FAILED", reason.clone(), &json!({ "job": name }));
    let told = vec![noted, health("background_processes", Health::Unhealthy, reason, &[name])];
    tell(&hub, told).await;
}

/// Looks at the log and the disk at every interval.
pub async fn watch(config: Config, hub: Arc<Hub>) {
    let (mut log, mut disk) = (LogHealth::default(), DiskHealth::default());
    let mut interval = tokio::time::interval(Duration::from_millis(config.figures.interval.ms()));
    interval.tick().await;
    loop {
        interval.tick().await;
        let found = log.look(&Appends::of(&hub), f64::from(config.alerts.sync_warning.get()));
        // What the log does not take is tried again with the next look: it cannot be told through the log before.
        if !found.is_empty() && tell(&hub, found.clone()).await {
            log.told(&found);
        }
        let found = disk.look(&hub.figures.load(), &config.alerts);
        tell(&hub, found.into_iter().collect()).await;
    }
}

/// What the log was asked for, over all workspaces, since the process began.
#[derive(Clone, PartialEq, Debug, Default)]
struct Appends {
    refused: u64,
    why: Option<String>,
    synced: u64,
    sync_us: u64,
}

impl Appends {
    fn of(hub: &Hub) -> Self {
        let mut appends = Self::default();
        for handle in hub.workspaces.all() {
            let counters = handle.counters();
            appends.refused += counters.refused_appends();
            appends.why = counters.last_refusal().or(appends.why);
            appends.synced += counters.sync_us.count();
            appends.sync_us += counters.sync_us.sum();
        }
        appends
    }
}

/// The log: it takes what it is asked to, and in time.
#[derive(Debug, Default)]
struct LogHealth {
    before: Appends,
    /// Refusals that are told.
    told: u64,
    slow: u32,
    quiet: u32,
    degraded: bool,
}

const LOG_AFFECTS: [&str; 2] = ["writes", "delivery"];

impl LogHealth {
    fn look(&mut self, now: &Appends, limit_ms: f64) -> Vec<Command> {
        let synced = now.synced.saturating_sub(self.before.synced);
        let sync_ms = now.sync_us.saturating_sub(self.before.sync_us) as f64 / 1_000.0 / synced.max(1) as f64;
        self.before = now.clone();
        self.slow = if sync_ms > limit_ms { self.slow + 1 } else { 0 };
        let refused = now.refused.saturating_sub(self.told);
        if refused > 0 {
            self.quiet = 0;
            let why = now.why.as_deref().unwrap_or("unknown");
            let reason = format!("{refused} appends were refused: {why}");
            let details = json!({"refused_appends": refused, "cause": why});
            let noted = fault("log", "APPEND_REFUSED", reason.clone(), &details);
            return vec![noted, health("log", Health::Degraded, reason, &LOG_AFFECTS)];
        }
        if self.slow >= SLOW {
            self.quiet = 0;
            let reason = format!("a sync takes {sync_ms:.0} ms, more than {limit_ms:.0} ms");
            return if self.degraded {
                Vec::new()
            } else {
                vec![health("log", Health::Degraded, reason, &LOG_AFFECTS)]
            };
        }
        self.quiet = self.quiet.saturating_add(u32::from(self.slow == 0));
        if self.degraded && self.quiet >= QUIET {
            let reason = "every append is taken in time again".to_owned();
            return vec![health("log", Health::Healthy, reason, &LOG_AFFECTS)];
        }
        Vec::new()
    }

    /// What was found is in the log.
    fn told(&mut self, commands: &[Command]) {
        self.told = self.before.refused;
        self.degraded = commands
            .iter()
            .any(|command| matches!(command, Command::SetHealth(to) if to.health != Health::Healthy));
    }
}

/// The disk with the data directory: room enough, little, or next to none.
#[derive(Debug, Default)]
struct DiskHealth {
    health: Health,
    worse: u32,
}

impl DiskHealth {
    fn look(&mut self, figures: &Figures, alerts: &Alerts) -> Option<Command> {
        let used = figures.disk_percent;
        let is = match used {
            _ if used >= alerts.disk_critical.get() => Health::Unhealthy,
            _ if used >= alerts.disk_warning.get() => Health::Degraded,
            _ if used > alerts.disk_warning.get() - alerts.hysteresis.get() => {
                self.health.min(Health::Degraded)
            }
            _ => Health::Healthy,
        };
        self.worse = if is > self.health { self.worse + 1 } else { 0 };
        if is == self.health || (is > self.health && self.worse < SLOW) {
            return None;
        }
        (self.health, self.worse) = (is, 0);
        Some(health("disk", is, format!("{used:.1} % of the disk are in use"), &["writes"]))
    }
}

#[cfg(test)]
mod tests {
    use super::{Alerts, Appends, Command, DiskHealth, Figures, Health, LogHealth};

    fn shown(commands: &[Command]) -> Vec<String> {
        let one = |command: &Command| match command {
            Command::SetHealth(to) => format!("{} {:?}: {}", to.component, to.health, to.reason),
            Command::NoteFault(fault) => format!("{} {}", fault.component, fault.code),
            other => format!("{other:?}"),
        };
        commands.iter().map(one).collect()
    }

    #[test]
    fn refusals_are_told_once_the_log_takes_it_and_end_after_three_quiet_looks() {
        let mut log = LogHealth::default();
        let at = |refused| Appends { refused, why: Some("full".into()), ..Appends::default() };
        assert!(log.look(&at(0), 250.0).is_empty());
        assert_eq!(log.look(&at(2), 250.0).len(), 2, "it could not be told");
        let found = log.look(&at(3), 250.0);
        assert_eq!(shown(&found), ["log APPEND_REFUSED", "log Degraded: 3 appends were refused: full"]);
        log.told(&found);
        assert!((0..2).all(|_| log.look(&at(3), 250.0).is_empty()));
        let found = log.look(&at(3), 250.0);
        assert_eq!(shown(&found), ["log Healthy: every append is taken in time again"]);
        log.told(&found);
        assert!((0..9).all(|_| log.look(&at(3), 250.0).is_empty()));
    }

    #[test]
    fn one_slow_sync_is_chance_and_two_looks_are_not() {
        let mut log = LogHealth::default();
        let (mut synced, mut sync_us) = (0, 0);
        let mut look = |ms: u64| {
            (synced, sync_us) = (synced + 1, sync_us + ms * 1_000);
            let found = log.look(&Appends { synced, sync_us, ..Appends::default() }, 250.0);
            if !found.is_empty() {
                log.told(&found);
            }
            shown(&found)
        };
        assert!([900, 10, 900].into_iter().all(|ms| look(ms).is_empty()));
        assert_eq!(look(800), ["log Degraded: a sync takes 800 ms, more than 250 ms"]);
        assert!([900, 1, 1].into_iter().all(|ms| look(ms).is_empty()));
        assert_eq!(look(1), ["log Healthy: every append is taken in time again"]);
    }

    #[test]
    fn a_disk_that_fills_and_empties_is_told_step_by_step() {
        let (mut disk, alerts) = (DiskHealth::default(), Alerts::default());
        let mut look = |used| {
            let figures = Figures { disk_percent: used, ..Figures::default() };
            let told = disk.look(&figures, &alerts);
            told.map(|command| match command {
                Command::SetHealth(to) => to.health,
                other => panic!("{other:?}"),
            })
        };
        use Health::{Degraded, Healthy, Unhealthy};
        let looks = [91.0, 91.0, 96.0, 96.0, 93.0, 87.0, 84.0].map(&mut look);
        assert_eq!(looks, [None, Some(Degraded), None, Some(Unhealthy), Some(Degraded), None, Some(Healthy)]);
    }
}
