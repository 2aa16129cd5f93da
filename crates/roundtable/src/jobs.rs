//! Jobs of the server itself: figures are sampled, alerts raised from them, dashboards reported to.

pub mod summaries;

use std::sync::Arc;
use std::time::Duration;

use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::command::Command;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{AlertId, Principal};
use roundtable_core::json::Json;
use roundtable_core::signal::Metric;
use roundtable_dialects::figures::Figures;
use roundtable_dialects::session::{Ask, Token};
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::Config;
use crate::runner::{Handle, ReplyTo, batch::Question};
use crate::telemetry::figures::{Counts, Sampler};
use crate::transport::Hub;

mod wanted;

use wanted::Wanted;

/// Starts the jobs on the present runtime. They run until they are aborted.
pub fn start(config: &Config, hub: &Arc<Hub>, sampler: Sampler) -> Vec<JoinHandle<()>> {
    let sampled = sample(config.clone(), Arc::clone(hub), sampler);
    let reported = report(Duration::from_millis(config.hive.status_interval.ms()), Arc::clone(hub));
    let measured = measure(config.clone(), Arc::clone(hub));
    let mut jobs = vec![tokio::spawn(sampled), tokio::spawn(reported), tokio::spawn(measured)];
    if config.server.listen.as_slice().iter().any(|listener| listener.tls.is_some()) {
        jobs.push(tokio::spawn(renew(config, hub)));
    }
    jobs
}

fn put(handle: &Handle, command: Command) {
    let ask = Ask::new(Token(0), command);
    handle.put(Question { by: Principal::System, connection: None, ask, reply: ReplyTo::Nobody });
}

async fn sample(config: Config, hub: Arc<Hub>, mut sampler: Sampler) {
    let (mut watch, mut thresholds) = (Watch::new(&config), Wanted::default());
    let mut interval = tokio::time::interval(Duration::from_millis(config.figures.interval.ms()));
    interval.tick().await;
    loop {
        interval.tick().await;
        let counts = counts(&hub);
        let taken = tokio::task::spawn_blocking(move || {
            let figures = sampler.sample(clock::now(), counts);
            (figures, sampler)
        })
        .await;
        let Ok((figures, back)) = taken else { return };
        sampler = back;
        if let Some(handle) = hub.workspaces.get(hub.workspaces.default_id()) {
            watch.look(&figures, &handle);
        }
        for handle in hub.workspaces.all() {
            thresholds.look(&figures, &handle);
        }
        if let Ok(mut history) = hub.history.lock() {
            history.take(&figures);
        }
        hub.figures.store(Arc::new(figures));
    }
}

/// What the server has counted, over all its workspaces.
fn counts(hub: &Hub) -> Counts {
    let connections = hub.connections.load(std::sync::atomic::Ordering::Relaxed);
    let mut counts = Counts { connections, ..Counts::default() };
    for handle in hub.workspaces.all() {
        let counters = handle.counters();
        counts.records = counts.records.saturating_add(handle.view().state.head.0);
        counts.questions = counts.questions.saturating_add(counters.batch_sizes.sum());
        counts.refusals = counts.refusals.saturating_add(counters.refusals());
    }
    counts
}

/// Dashboards get a report at every interval, as long as somebody watches: one mark in the log, one frame for all of them.
async fn report(every: Duration, hub: Arc<Hub>) {
    let mut interval = tokio::time::interval(every);
    interval.tick().await;
    loop {
        interval.tick().await;
        if hub.watched.of(Feed::Activity) > 0
            && let Some(handle) = hub.workspaces.get(hub.workspaces.default_id())
        {
            put(&handle, Command::Mark(Feed::Activity, true));
        }
    }
}

/// Who watches measured values gets each of them at every interval.
async fn measure(config: Config, hub: Arc<Hub>) {
    let mut interval = tokio::time::interval(Duration::from_millis(config.openagi.metric_interval.ms()));
    interval.tick().await;
    loop {
        interval.tick().await;
        if hub.watched.of(Feed::Monitoring) > 0
            && let Some(handle) = hub.workspaces.get(hub.workspaces.default_id())
        {
            put(&handle, Command::Measure(metrics(&hub.figures.load(), &config)));
        }
    }
}

/// Certificates are read again when their files change, and told about when they expire.
fn renew(config: &Config, hub: &Arc<Hub>) -> impl Future<Output = ()> + use<> {
    let (node, told) = (hub.figures.load().node.clone(), Arc::clone(hub));
    crate::tls::renewal::run(Arc::clone(&hub.tls), config.storage.dir.clone(), node, move |command| {
        if let Some(handle) = told.workspaces.get(told.workspaces.default_id()) {
            put(&handle, command);
        }
    })
}

fn metrics(figures: &Figures, config: &Config) -> Vec<Metric> {
    let a = &config.alerts;
    let percent = |name, value, warning: f64, critical: f64| Metric {
        name,
        value,
        warning: Some(warning),
        critical: Some(critical),
        unit: "percent",
    };
    let rate = |name, value| Metric { name, value, warning: None, critical: None, unit: "bytes/s" };
    vec![
        percent("cpu_usage", figures.cpu_percent, a.cpu_warning.get(), a.cpu_critical.get()),
        percent("memory_usage", figures.memory_percent, a.memory_warning.get(), a.memory_critical.get()),
        percent("disk_usage", figures.disk_percent, a.disk_warning.get(), a.disk_critical.get()),
        rate("network_in", figures.network_in),
        rate("network_out", figures.network_out),
    ]
}

/// Thresholds with hysteresis: an alert is raised after more than one sample above, and ends some points below.
struct Watch {
    gauges: [Gauge; 3],
    lasting: Lasting,
    hysteresis: f64,
}

/// The processor over its limit for some samples on end: work is slower, not only the machine busy for a moment.
struct Lasting {
    sample_ms: u64,
    limit: f64,
    above: u32,
    active: bool,
}

/// How many samples on end make it lasting (Open-A.G.I notes §4).
const LASTING_SAMPLES: u32 = 3;
const LASTING: &str = "cpu_lasting";

struct Gauge {
    source: &'static str,
    title: &'static str,
    warning: f64,
    critical: f64,
    above: u32,
    active: Option<Level>,
}

impl Watch {
    fn new(config: &Config) -> Self {
        let a = &config.alerts;
        let gauge = |source, title, warning: f64, critical: f64| Gauge {
            source,
            title,
            warning,
            critical,
            above: 0,
            active: None,
        };
        Self {
            gauges: [
                gauge("cpu", "High processor use", a.cpu_warning.get(), a.cpu_critical.get()),
                gauge("memory", "High memory use", a.memory_warning.get(), a.memory_critical.get()),
                gauge("disk", "Disk nearly full", a.disk_warning.get(), a.disk_critical.get()),
            ],
            lasting: Lasting {
                sample_ms: config.figures.interval.ms(),
                limit: a.cpu_warning.get(),
                above: 0,
                active: false,
            },
            hysteresis: a.hysteresis.get(),
        }
    }

    fn look(&mut self, figures: &Figures, handle: &Handle) {
        let values = [figures.cpu_percent, figures.memory_percent, figures.disk_percent];
        for (gauge, value) in self.gauges.iter_mut().zip(values) {
            if let Some(command) = gauge.look(value, self.hysteresis) {
                put(handle, command);
            }
        }
        if let Some(command) = self.lasting.look(figures.cpu_percent, self.hysteresis) {
            put(handle, command);
        }
    }
}

impl Lasting {
    fn look(&mut self, value: f64, hysteresis: f64) -> Option<Command> {
        if value < self.limit {
            self.above = 0;
            let ends = self.active && value <= self.limit - hysteresis;
            self.active &= !ends;
            return ends.then(|| Command::ClearAlert(LASTING.into()));
        }
        self.above = self.above.saturating_add(1);
        if self.active || self.above < LASTING_SAMPLES {
            return None;
        }
        self.active = true;
        let seconds = self.sample_ms.saturating_mul(self.above.into()).div_ceil(1000);
        let details = serde_json::json!({
            "component": "machine", "metric": "cpu_usage", "duration_seconds": seconds,
        });
        Some(Command::RaiseAlert(AlertRaised {
            alert: AlertId::fresh(clock::now(), clock::random_u64()),
            source: LASTING.into(),
            level: Level::Warning,
            title: "Work is slower".into(),
            message: format!("The processor is above {:.0} % for {seconds} s", self.limit),
            value: Some(value),
            threshold: Some(self.limit),
            details: Json::from(&details),
            feed: None,
        }))
    }
}

impl Gauge {
    fn look(&mut self, value: f64, hysteresis: f64) -> Option<Command> {
        let level = if value >= self.critical { Level::Critical } else { Level::Warning };
        if value >= self.warning {
            self.above += 1;
            if self.above < 2 || self.active.is_some_and(|active| active >= level) {
                return None;
            }
            self.active = Some(level);
            return Some(Command::RaiseAlert(self.alert(level, value)));
        }
        self.above = 0;
        if self.active.is_some() && value <= self.warning - hysteresis {
            self.active = None;
            return Some(Command::ClearAlert(self.source.into()));
        }
        None
    }

    fn alert(&self, level: Level, value: f64) -> AlertRaised {
        let threshold = if level == Level::Critical { self.critical } else { self.warning };
        AlertRaised {
            alert: AlertId::fresh(clock::now(), clock::random_u64()),
            source: self.source.into(),
            level,
            title: self.title.into(),
            message: format!("{} is at {value:.1} %, above {threshold:.0} %", self.source),
            value: Some(value),
            threshold: Some(threshold),
            details: Json::empty_object(),
            feed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, Gauge, Lasting, Level};

    #[test]
    fn a_busy_moment_is_not_lasting() {
        let mut lasting = Lasting { sample_ms: 5_000, limit: 80.0, above: 0, active: false };
        let mut look = |value| lasting.look(value, 5.0);
        assert_eq!([look(99.0), look(99.0), look(10.0), look(99.0), look(99.0)], [const { None }; 5]);
        assert!(
            matches!(look(85.0), Some(Command::RaiseAlert(a)) if a.details.as_str().contains("\"duration_seconds\":15"))
        );
        assert_eq!([look(99.0), look(78.0), look(99.0)], [const { None }; 3]);
        assert_eq!(look(75.0), Some(Command::ClearAlert("cpu_lasting".into())));
        assert_eq!(look(75.0), None);
    }

    #[test]
    fn an_alert_comes_once_grows_once_and_ends_below_the_edge() {
        let mut gauge =
            Gauge { source: "cpu", title: "t", warning: 80.0, critical: 90.0, above: 0, active: None };
        let mut look = |value| gauge.look(value, 5.0);
        assert_eq!(look(85.0), None, "one sample is no trend");
        assert!(matches!(look(86.0), Some(Command::RaiseAlert(a)) if a.level == Level::Warning));
        assert_eq!(look(87.0), None);
        assert!(matches!(look(95.0), Some(Command::RaiseAlert(a)) if a.level == Level::Critical));
        assert_eq!(look(78.0), None, "not yet five points below");
        assert_eq!(look(74.0), Some(Command::ClearAlert("cpu".into())));
        assert_eq!(look(74.0), None);
    }
}
