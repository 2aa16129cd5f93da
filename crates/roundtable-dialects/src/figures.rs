//! Measured figures of the server process and its machine, sampled by the server and shown by the dialects.

use roundtable_core::time::Time;

pub mod history;

/// The newest sample. All zero before the first one is taken, which is before the first listener opens.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Figures {
    /// This server's node id.
    pub node: String,
    /// When the process began.
    pub started_at: Time,
    /// When the sample was taken.
    pub at: Time,
    /// Processor use of the machine, 0–100.
    pub cpu_percent: f64,
    /// Memory use of the machine, 0–100.
    pub memory_percent: f64,
    /// Use of the disk that holds the data directory, 0–100.
    pub disk_percent: f64,
    /// How long what is free on it lasts at the rate at which the log grew of late, in seconds; `None` if it did not grow.
    pub disk_left_s: Option<f64>,
    /// One-minute load divided by the number of cores, 0–1.
    pub load: f64,
    /// Bytes received per second, all interfaces.
    pub network_in: f64,
    /// Bytes sent per second, all interfaces.
    pub network_out: f64,
    /// TLS is on, and every listener that other machines can reach has it.
    pub encrypted: bool,
    /// Open connections of this process.
    pub connections: u64,
    /// Memory of the machine, in bytes.
    pub total_memory: u64,
    /// What of it is free to use, in bytes.
    pub available_memory: u64,
    /// Memory of this process, in bytes.
    pub process_memory: u64,
    /// Cores of the machine that this process may use.
    pub cores: u32,
    /// What the processor can do to many numbers at once: `sse4.2`, `avx2`, `neon`, …
    pub simd: Vec<&'static str>,
    /// Records written per second, all workspaces.
    pub records_per_second: f64,
    /// Share of the questions to the engine that it refused since the sample before, 0–1.
    pub error_rate: f64,
    /// Messages said per second, all workspaces.
    pub message_rate: f64,
    /// Milliseconds within which 95 % of the questions since the sample before were answered; 0 without any.
    pub latency_p95_ms: f64,
    /// File descriptors of this process in use, 0–100.
    pub descriptors_percent: f64,
    /// How full the queue to the engine is, 0–100.
    pub queue_percent: f64,
}

/// A figure that is kept over time: its name, its unit, and where it stands in a sample.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    /// Its name in every list of metrics.
    pub name: &'static str,
    /// `percent`, `bytes`, `bytes/s`, `ratio`, `count`, `ms` or `1/s`.
    pub unit: &'static str,
    /// Its value.
    pub of: fn(&Figures) -> f64,
}

/// How many there are.
pub const GAUGE_COUNT: usize = 14;

const fn gauge(name: &'static str, unit: &'static str, of: fn(&Figures) -> f64) -> Gauge {
    Gauge { name, unit, of }
}

/// All figures that are kept over time.
pub const GAUGES: [Gauge; GAUGE_COUNT] = [
    gauge("cpu_usage", "percent", |f| f.cpu_percent),
    gauge("memory_usage", "percent", |f| f.memory_percent),
    gauge("disk_usage", "percent", |f| f.disk_percent),
    gauge("system_load", "ratio", |f| f.load),
    gauge("network_in", "bytes/s", |f| f.network_in),
    gauge("network_out", "bytes/s", |f| f.network_out),
    gauge("process_memory", "bytes", |f| f.process_memory as f64),
    gauge("active_connections", "count", |f| f.connections as f64),
    gauge("events_per_second", "1/s", |f| f.records_per_second),
    gauge("error_rate", "ratio", |f| f.error_rate),
    gauge("message_rate", "1/s", |f| f.message_rate),
    gauge("latency_p95", "ms", |f| f.latency_p95_ms),
    gauge("file_descriptors", "percent", |f| f.descriptors_percent),
    gauge("queue", "percent", |f| f.queue_percent),
];

impl Figures {
    /// The value of a kept figure by its name.
    pub fn value_of(&self, name: &str) -> Option<f64> {
        GAUGES.iter().find(|gauge| gauge.name == name).map(|gauge| (gauge.of)(self))
    }
}
