//! Thresholds with hysteresis: an alert is raised after more than one sample above, and ends some points below.

use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::command::Command;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::AlertId;
use roundtable_core::json::Json;
use roundtable_dialects::figures::Figures;
use serde_json::json;

use super::put;
use crate::clock;
use crate::config::Config;
use crate::runner::Handle;

/// How many samples on end make it lasting (Open-A.G.I API, Monitoring Events).
const LASTING_SAMPLES: u32 = 3;

const HOUR_MS: f64 = 3_600_000.0;

/// All thresholds of the server's own.
pub struct Gauges {
    gauges: Vec<Gauge>,
    lasting: [Lasting; 2],
    hysteresis: f64,
}

/// A figure with two thresholds.
struct Gauge {
    /// What its alert is known by.
    source: &'static str,
    metric: &'static str,
    title: &'static str,
    unit: &'static str,
    /// Whose thresholds these are; everybody's without.
    feed: Option<Feed>,
    /// What is used up at the critical level, if anything is.
    resource: Option<&'static str>,
    value: fn(&Figures) -> f64,
    /// It is worse the lower it is.
    falling: bool,
    warning: f64,
    critical: f64,
    above: u32,
    active: Option<Level>,
}

/// A figure over its limit for some samples on end: work is slower, not only the machine busy for a moment.
#[derive(Clone, Copy)]
struct Lasting {
    source: &'static str,
    metric: &'static str,
    component: &'static str,
    unit: &'static str,
    value: fn(&Figures) -> f64,
    sample_ms: u64,
    limit: f64,
    above: u32,
    active: bool,
}

impl Gauges {
    /// By the settings.
    pub fn new(config: &Config) -> Self {
        let a = &config.alerts;
        let gauge = |(source, metric), title, value, (warning, critical)| Gauge {
            source,
            metric,
            title,
            unit: " %",
            feed: None,
            resource: Some(source),
            value,
            falling: false,
            warning,
            critical,
            above: 0,
            active: None,
        };
        let percent = |low: crate::config::Percent, high: crate::config::Percent| (low.get(), high.get());
        let (slow, slower) = (f64::from(a.latency_warning.get()), f64::from(a.latency_critical.get()));
        let memory = |source, feed, limits| Gauge {
            feed: Some(feed),
            resource: Some("memory"),
            ..gauge((source, "memory_usage"), "High memory use", |f| f.memory_percent, limits)
        };
        let cpu = gauge(
            ("cpu", "cpu_usage"),
            "High processor use",
            |f| f.cpu_percent,
            percent(a.cpu_warning, a.cpu_critical),
        );
        let hours = |span: crate::config::Span| span.ms() as f64 / HOUR_MS;
        let left = gauge(
            ("disk_left", "disk_left"),
            "The disk will soon be full",
            |f| f.disk_left_s.map_or(f64::INFINITY, |left| left * 1000.0 / HOUR_MS),
            (hours(a.disk_left_warning), hours(a.disk_left_critical)),
        );
        let latency = gauge(("latency", "latency_p95"), "Slow answers", |f| f.latency_p95_ms, (slow, slower));
        Self {
            gauges: vec![
                Gauge { resource: None, ..cpu },
                // The documents of the dialects name different thresholds, so each watches its own.
                memory("memory", Feed::Activity, percent(config.hive.memory_warning, a.memory_critical)),
                memory("memory_use", Feed::Monitoring, percent(a.memory_warning, a.memory_critical)),
                gauge(
                    ("disk", "disk_usage"),
                    "Disk nearly full",
                    |f| f.disk_percent,
                    percent(a.disk_warning, a.disk_critical),
                ),
                gauge(
                    ("file_descriptors", "file_descriptors"),
                    "Few file descriptors left",
                    |f| f.descriptors_percent,
                    percent(a.descriptors_warning, a.descriptors_critical),
                ),
                gauge(
                    ("queue", "queue"),
                    "Questions pile up",
                    |f| f.queue_percent,
                    percent(a.queue_warning, a.queue_critical),
                ),
                Gauge { resource: None, unit: " ms", ..latency },
                Gauge { resource: Some("disk"), unit: " h", falling: true, ..left },
            ],
            lasting: Lasting::all(config),
            hysteresis: a.hysteresis.get(),
        }
    }

    /// Raises and clears what a sample calls for.
    pub fn look(&mut self, figures: &Figures, handle: &Handle) {
        let hysteresis = self.hysteresis;
        let crossed =
            self.gauges.iter_mut().filter_map(|gauge| gauge.look((gauge.value)(figures), hysteresis));
        let lasts =
            self.lasting.iter_mut().filter_map(|gauge| gauge.look((gauge.value)(figures), hysteresis));
        crossed.chain(lasts).for_each(|command| put(handle, command));
    }
}

impl Lasting {
    fn all(config: &Config) -> [Self; 2] {
        let cpu = Self {
            source: "cpu_lasting",
            metric: "cpu_usage",
            component: "machine",
            unit: " %",
            value: |f| f.cpu_percent,
            sample_ms: config.figures.interval.ms(),
            limit: config.alerts.cpu_warning.get(),
            above: 0,
            active: false,
        };
        let latency = Self {
            source: "latency_lasting",
            metric: "latency_p95",
            component: "engine",
            unit: " ms",
            value: |f| f.latency_p95_ms,
            limit: f64::from(config.alerts.latency_warning.get()),
            ..cpu
        };
        [cpu, latency]
    }

    fn look(&mut self, value: f64, hysteresis: f64) -> Option<Command> {
        if value < self.limit {
            self.above = 0;
            let ends = self.active && value <= (self.limit - hysteresis).max(0.0);
            self.active &= !ends;
            return ends.then(|| Command::ClearAlert(self.source.into()));
        }
        self.above = self.above.saturating_add(1);
        if self.active || self.above < LASTING_SAMPLES {
            return None;
        }
        self.active = true;
        let seconds = self.sample_ms.saturating_mul(self.above.into()).div_ceil(1000);
        let details =
            json!({"component": self.component, "metric": self.metric, "duration_seconds": seconds});
        Some(Command::RaiseAlert(AlertRaised {
            alert: AlertId::fresh(clock::now(), clock::random_u64()),
            source: self.source.into(),
            level: Level::Warning,
            title: "Work is slower".into(),
            message: format!("{} is above {:.0}{} for {seconds} s", self.metric, self.limit, self.unit),
            value: Some(value),
            threshold: Some(self.limit),
            details: Json::from(&details),
            feed: None,
        }))
    }
}

impl Gauge {
    fn look(&mut self, value: f64, hysteresis: f64) -> Option<Command> {
        let worse = |value: f64| if self.falling { -value } else { value };
        let (badness, warning) = (worse(value), worse(self.warning));
        let level = if badness >= worse(self.critical) { Level::Critical } else { Level::Warning };
        if badness >= warning {
            self.above = self.above.saturating_add(1);
            if self.above < 2 || self.active.is_some_and(|active| active >= level) {
                return None;
            }
            self.active = Some(level);
            return Some(Command::RaiseAlert(self.alert(level, value)));
        }
        self.above = 0;
        let ended = if self.falling { warning - hysteresis } else { (warning - hysteresis).max(0.0) };
        if self.active.is_some() && badness <= ended {
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
            message: format!(
                "{} is at {value:.1}{unit}, {} {threshold:.0}{unit}",
                self.metric,
                if self.falling { "below" } else { "above" },
                unit = self.unit
            ),
            value: Some(value),
            threshold: Some(threshold),
            details: Json::from(&json!({"metric": self.metric, "resource": self.resource})),
            feed: self.feed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, Config, Figures, Gauges, Level};

    fn gauges() -> Gauges {
        Gauges::new(&Config::default())
    }

    #[test]
    fn a_busy_moment_is_not_lasting() {
        let [mut lasting, _] = gauges().lasting;
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
        let mut gauge = gauges().gauges.remove(0);
        let mut look = |value| gauge.look(value, 5.0);
        assert_eq!(look(85.0), None, "one sample is no trend");
        assert!(matches!(look(86.0), Some(Command::RaiseAlert(a)) if a.level == Level::Warning));
        assert_eq!(look(87.0), None);
        assert!(matches!(look(95.0), Some(Command::RaiseAlert(a)) if a.level == Level::Critical));
        assert_eq!(look(78.0), None, "not yet five points below");
        assert_eq!(look(74.0), Some(Command::ClearAlert("cpu".into())));
        assert_eq!(look(74.0), None);
    }

    #[test]
    fn a_disk_that_will_soon_be_full_is_told_and_one_that_does_not_fill_is_not() {
        let mut gauge = gauges().gauges.pop().unwrap();
        let mut look = |hours: f64| gauge.look(hours, 5.0);
        assert_eq!([look(f64::INFINITY), look(f64::INFINITY), look(100.0)], [const { None }; 3]);
        assert_eq!(look(20.0), None, "one sample is no trend");
        let Some(Command::RaiseAlert(told)) = look(20.0) else { panic!("an alert") };
        assert_eq!(
            (told.level, told.message.as_str()),
            (Level::Warning, "disk_left is at 20.0 h, below 24 h")
        );
        assert!(matches!(look(3.0), Some(Command::RaiseAlert(told)) if told.level == Level::Critical));
        assert_eq!(look(26.0), None, "not yet five hours above");
        assert_eq!(look(f64::INFINITY), Some(Command::ClearAlert("disk_left".into())));
    }

    #[test]
    fn every_dialect_is_warned_of_memory_at_its_own_threshold() {
        let mut all = gauges();
        let mut warned = |percent| -> Vec<_> {
            let figures = Figures { memory_percent: percent, ..Figures::default() };
            let look = |gauge: &mut super::Gauge| gauge.look((gauge.value)(&figures), 5.0);
            let mut commands: Vec<Command> = all.gauges.iter_mut().filter_map(look).collect();
            commands.extend(all.gauges.iter_mut().filter_map(look));
            let alert = |command| match command {
                Command::RaiseAlert(alert) => (alert.feed, alert.threshold),
                other => panic!("{other:?}"),
            };
            commands.into_iter().map(alert).collect()
        };
        use super::Feed::{Activity, Monitoring};
        assert_eq!(warned(82.0), [(Some(Monitoring), Some(80.0))]);
        assert_eq!(warned(86.0), [(Some(Activity), Some(85.0))]);
        assert_eq!(warned(96.0), [(Some(Activity), Some(95.0)), (Some(Monitoring), Some(95.0))]);
    }
}
