//! Measured figures: processor, memory, disk, network of the machine this process runs on.

use std::path::{Path, PathBuf};

use roundtable_core::time::{Moment, Time};
use roundtable_dialects::figures::Figures;
use sysinfo::{
    DiskRefreshKind, Disks, MemoryRefreshKind, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System,
};

use super::descriptors;
use crate::runner::QUEUE_BOUND;
use crate::runner::latency::Tally;

/// What the server itself has counted since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Open connections.
    pub connections: u64,
    /// Records written, all workspaces.
    pub records: u64,
    /// What they take on the disk, in bytes, about.
    pub bytes: u64,
    /// Questions to the engine.
    pub questions: u64,
    /// Those of them that it refused.
    pub refusals: u64,
    /// Messages said.
    pub messages: u64,
    /// Questions that wait for an answer now.
    pub waiting: u64,
    /// How long questions took.
    pub latencies: Tally,
}

/// What was counted between two samples.
#[derive(Default)]
struct Since {
    records_per_second: f64,
    bytes_per_second: f64,
    error_rate: f64,
    message_rate: f64,
    latency_p95_ms: f64,
}

/// How fast the log grows counts over about so many milliseconds: a burst is no trend.
const GROWTH_MS: f64 = 10.0 * 60_000.0;

/// Takes samples. Needs some milliseconds per sample, so it belongs on a blocking thread.
pub struct Sampler {
    node: String,
    encrypted: bool,
    started_at: Time,
    dir: PathBuf,
    cores: f64,
    system: Option<System>,
    networks: Option<Networks>,
    disks: Option<Disks>,
    pid: Option<Pid>,
    simd: Vec<&'static str>,
    counted: Option<(Time, Counts)>,
    /// Bytes per second by which the log grew of late.
    growth: f64,
    last: Option<Time>,
}

impl Sampler {
    /// For the process called `node`, whose addresses encrypt or do not, with its data in `dir`.
    pub fn new((node, encrypted): (String, bool), started_at: Time, dir: &Path) -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let disks = DiskRefreshKind::nothing().with_storage();
        Self {
            node,
            encrypted,
            started_at,
            dir: dir.canonicalize().unwrap_or_else(|_| dir.to_owned()),
            cores: f64::from(u32::try_from(cores).unwrap_or(1)),
            system,
            networks: Networks::new_with_refreshed_list().ok(),
            disks: Disks::new_with_refreshed_list_specifics(disks).ok(),
            pid: sysinfo::get_current_pid().ok(),
            simd: simd(),
            counted: None,
            growth: 0.0,
            last: None,
        }
    }

    /// A sample: `at` is when it is shown to be taken, `t` is what rates are reckoned from. What the system does not tell is 0; the first sample knows no network rates.
    pub fn sample(&mut self, Moment { t: now, at }: Moment, counts: Counts) -> Figures {
        let (cpu_percent, total_memory, available_memory) = self.machine();
        let Since { records_per_second, bytes_per_second, error_rate, message_rate, latency_p95_ms } =
            self.since_the_last(now, counts);
        self.growth = bytes_per_second;
        let (network_in, network_out) = self.network(now);
        let (disk_percent, free) = self.disk();
        let load = System::load_average().map_or(0.0, |load| load.one);
        Figures {
            node: self.node.clone(),
            started_at: self.started_at,
            at,
            cpu_percent,
            memory_percent: share(total_memory.saturating_sub(available_memory), total_memory),
            disk_percent,
            disk_left_s: (self.growth >= 1.0).then(|| free as f64 / self.growth),
            load: (load / self.cores).clamp(0.0, 1.0),
            network_in,
            network_out,
            encrypted: self.encrypted,
            connections: counts.connections,
            total_memory,
            available_memory,
            process_memory: self.process(),
            cores: self.cores as u32,
            simd: self.simd.clone(),
            records_per_second,
            error_rate,
            message_rate,
            latency_p95_ms,
            descriptors_percent: descriptors::used_percent(),
            queue_percent: share(counts.waiting, QUEUE_BOUND),
        }
    }

    /// Use of the processor, and memory: all of it, and what is free to use.
    fn machine(&mut self) -> (f64, u64, u64) {
        let Some(system) = &mut self.system else { return (0.0, 0, 0) };
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let (total, free) = (system.total_memory(), system.available_memory());
        let cpu_percent = f64::from(system.global_cpu_usage()).clamp(0.0, 100.0);
        (cpu_percent, total, free)
    }

    fn process(&mut self) -> u64 {
        let (Some(system), Some(pid)) = (&mut self.system, self.pid) else { return 0 };
        let memory = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, memory);
        system.process(pid).map_or(0, sysinfo::Process::memory)
    }

    /// What was counted since the sample before.
    fn since_the_last(&mut self, now: Time, counts: Counts) -> Since {
        let Some((at, before)) = self.counted.replace((now, counts)) else { return Since::default() };
        let records = counts.records.saturating_sub(before.records) as f64;
        let questions = counts.questions.saturating_sub(before.questions) as f64;
        let refusals = counts.refusals.saturating_sub(before.refusals) as f64;
        let ms = now.since(at);
        let per_second = |count: f64| if ms > 0 { count * 1000.0 / ms as f64 } else { 0.0 };
        Since {
            records_per_second: per_second(records),
            bytes_per_second: grown(self.growth, counts.bytes.saturating_sub(before.bytes) as f64, ms as f64),
            error_rate: if questions > 0.0 { (refusals / questions).clamp(0.0, 1.0) } else { 0.0 },
            message_rate: per_second(counts.messages.saturating_sub(before.messages) as f64),
            latency_p95_ms: p95_ms(&counts, &before, ms),
        }
    }

    fn network(&mut self, now: Time) -> (f64, f64) {
        let Some(networks) = &mut self.networks else { return (0.0, 0.0) };
        networks.refresh(true);
        let (received, sent) = networks
            .values()
            .map(|interface| (interface.received(), interface.transmitted()))
            .fold((0_u64, 0_u64), |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)));
        let Some(passed) = self.last.replace(now).map(|last| now.since(last)).filter(|ms| *ms > 0) else {
            return (0.0, 0.0);
        };
        let per_second = |bytes: u64| bytes as f64 * 1000.0 / passed as f64;
        (per_second(received), per_second(sent))
    }

    /// Use of the disk whose mount point is the longest beginning of the data directory's path, and what is free on it in bytes.
    fn disk(&mut self) -> (f64, u64) {
        let Some(disks) = &mut self.disks else { return (0.0, u64::MAX) };
        disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
        let holds = disks.iter().filter(|disk| self.dir.starts_with(disk.mount_point()));
        let nearest = holds.max_by_key(|disk| disk.mount_point().as_os_str().len());
        nearest.map_or((0.0, u64::MAX), |disk| {
            let (all, free) = (disk.total_space(), disk.available_space());
            (share(all.saturating_sub(free), all), free)
        })
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sampler({})", self.node)
    }
}

/// The growth in bytes per second after so many more bytes in so many milliseconds.
fn grown(before: f64, bytes: f64, ms: f64) -> f64 {
    if ms <= 0.0 {
        return before;
    }
    let weight = 1.0 - (-ms / GROWTH_MS).exp();
    before + weight * (bytes * 1000.0 / ms - before)
}

/// What this processor can do to many numbers at once.
fn simd() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [("neon", true)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&str, bool); 0] = [];
    found.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}

/// Within how many milliseconds 95 % of what was answered was answered. If nothing was although something waited then and waits
/// now, it has waited for the whole time in between.
fn p95_ms(counts: &Counts, before: &Counts, between_ms: i64) -> f64 {
    let stuck = counts.waiting > 0 && before.waiting > 0;
    let answered = counts.latencies.since(&before.latencies).quantile_ms(0.95);
    answered.unwrap_or(if stuck { between_ms as f64 } else { 0.0 })
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 100.0 / whole as f64).clamp(0.0, 100.0) }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Moment, Sampler, Time, share};
    #[test]
    fn samples_are_measured_and_in_range() {
        let dir = tempfile::tempdir().unwrap();
        let mut sampler = Sampler::new(("n1".into(), true), Time(5), dir.path());
        let moment = |ms| Moment { t: Time(ms), at: Time(ms) };
        let first =
            sampler.sample(moment(1_000), Counts { connections: 3, records: 10, ..Counts::default() });
        assert_eq!((first.node.as_str(), first.started_at, first.at), ("n1", Time(5), Time(1_000)));
        assert!(first.encrypted);
        assert_eq!(first.connections, 3);
        assert_eq!((first.network_in, first.network_out), (0.0, 0.0), "one sample knows no rate");
        assert_eq!((first.records_per_second, first.error_rate), (0.0, 0.0), "nor what was written");
        let counts = Counts { connections: 0, records: 30, questions: 8, refusals: 2, ..Counts::default() };
        let second = sampler.sample(moment(3_000), counts);
        assert_eq!((second.records_per_second, second.error_rate), (10.0, 0.25));
        assert!(
            second.process_memory > 0 && second.available_memory <= second.total_memory && second.cores > 0
        );
        for percent in [second.cpu_percent, second.memory_percent, second.disk_percent] {
            assert!((0.0..=100.0).contains(&percent));
        }
        assert!((0.0..=1.0).contains(&second.load));
        assert!(second.memory_percent > 0.0 && second.network_in >= 0.0);
    }

    #[test]
    fn a_question_that_waits_all_the_time_is_slow() {
        let waiting = |waiting| Counts { waiting, ..Counts::default() };
        let p95 = |now, then| super::p95_ms(&waiting(now), &waiting(then), 5_000);
        assert_eq!([p95(1, 1), p95(1, 0), p95(0, 1), p95(0, 0)], [5_000.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!((share(1, 4), share(0, 0), share(5, 4)), (25.0, 0.0, 100.0));
    }
}
