//! Measured figures of the server process and its machine, sampled by the server and shown by the dialects.

use roundtable_core::time::Time;

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
    /// One-minute load divided by the number of cores, 0–1.
    pub load: f64,
    /// Bytes received per second, all interfaces.
    pub network_in: f64,
    /// Bytes sent per second, all interfaces.
    pub network_out: f64,
    /// Every listener that can be reached from other machines encrypts.
    pub encrypted: bool,
    /// Open connections of this process.
    pub connections: u64,
    /// Where warnings begin: processor, memory, disk, each 0–100.
    pub warning_percent: [f64; 3],
}
