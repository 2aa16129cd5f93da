//! Jobs of the server itself: figures are sampled, alerts raised from them, dashboards reported to.

pub mod summaries;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use roundtable_core::command::Command;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::Principal;
use roundtable_core::signal::Metric;
use roundtable_core::time::Moment;
use roundtable_dialects::figures::Figures;
use roundtable_dialects::session::{Ask, Token};
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::Config;
use crate::runner::{Handle, ReplyTo, batch::Question};
use crate::telemetry::figures::{Counts, Sampler};
use crate::transport::Hub;

mod anomaly;
pub mod components;
mod gauges;
mod jumps;
mod wanted;

use anomaly::Anomaly;
use gauges::Gauges;
use jumps::Jumps;
use wanted::Wanted;

/// Starts the jobs on the present runtime. They run until they are aborted.
pub fn start(config: &Config, hub: &Arc<Hub>, sampler: Sampler) -> Vec<JoinHandle<()>> {
    let sampled = sample(config.clone(), Arc::clone(hub), sampler);
    let reported = report(Duration::from_millis(config.hive.status_interval.ms()), Arc::clone(hub));
    let measured = measure(config.clone(), Arc::clone(hub));
    let watched = components::watch(config.clone(), Arc::clone(hub));
    let kept = |name, job: Pin<Box<dyn Future<Output = ()> + Send>>| {
        tokio::spawn(components::kept(name, Arc::clone(hub), job))
    };
    let mut jobs = vec![
        kept("figures", Box::pin(sampled)),
        kept("reports", Box::pin(reported)),
        kept("metrics", Box::pin(measured)),
        kept("health", Box::pin(watched)),
    ];
    if config.server.listen.as_slice().iter().any(|listener| listener.tls.is_some()) {
        jobs.push(tokio::spawn(renew(config, hub)));
    }
    jobs
}

/// The present for a sample: when it is shown to be taken, and a clock that nobody sets for what is reckoned from it.
pub fn present() -> Moment {
    Moment { t: clock::steady(), at: clock::now() }
}

fn put(handle: &Handle, command: Command) {
    let ask = Ask::new(Token(0), command);
    handle.put(Question { by: Principal::System, connection: None, ask, reply: ReplyTo::Nobody });
}

async fn sample(config: Config, hub: Arc<Hub>, mut sampler: Sampler) {
    let (mut gauges, mut thresholds) = (Gauges::new(&config), Wanted::default());
    let mut anomaly = config.security.anomaly.then(Anomaly::default);
    let mut jumps = Jumps::new(present());
    let home = |hub: &Hub| hub.workspaces.get(hub.workspaces.default_id());
    if let Some(handle) = home(&hub) {
        let behind = Jumps::of_the_log(handle.view().state.stamp, present());
        behind.into_iter().for_each(|command| put(&handle, command));
    }
    let mut interval = tokio::time::interval(Duration::from_millis(config.figures.interval.ms()));
    interval.tick().await;
    loop {
        interval.tick().await;
        let counts = counts(&hub);
        let taken = tokio::task::spawn_blocking(move || {
            let figures = sampler.sample(present(), counts);
            (figures, sampler)
        })
        .await;
        let Ok((figures, back)) = taken else { return };
        sampler = back;
        if let Some(handle) = home(&hub) {
            let jump = jumps.look(present(), Jumps::told(&handle.view().state));
            jump.into_iter().for_each(|command| put(&handle, command));
            gauges.look(&figures, &handle);
            let unusual = anomaly.as_mut().and_then(|a| a.look(&figures, config.figures.interval.ms()));
            unusual.into_iter().for_each(|command| put(&handle, command));
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
        counts.bytes = counts.bytes.saturating_add(handle.view().state.bytes);
        counts.questions = counts.questions.saturating_add(counters.batch_sizes.sum());
        counts.refusals = counts.refusals.saturating_add(counters.refusals());
        counts.messages = counts.messages.saturating_add(counters.messages());
        counts.waiting = counts.waiting.saturating_add(counters.waiting());
        counts.latencies.add(&counters.latencies.tally());
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
    let rate = |name, value, unit| Metric { name, value, warning: None, critical: None, unit };
    vec![
        percent("cpu_usage", figures.cpu_percent, a.cpu_warning.get(), a.cpu_critical.get()),
        percent("memory_usage", figures.memory_percent, a.memory_warning.get(), a.memory_critical.get()),
        percent("disk_usage", figures.disk_percent, a.disk_warning.get(), a.disk_critical.get()),
        rate("network_in", figures.network_in, "bytes/s"),
        rate("network_out", figures.network_out, "bytes/s"),
        rate("message_rate", figures.message_rate, "1/s"),
        Metric {
            name: "latency_p95",
            value: figures.latency_p95_ms,
            warning: Some(a.latency_warning.get().into()),
            critical: Some(a.latency_critical.get().into()),
            unit: "ms",
        },
    ]
}
