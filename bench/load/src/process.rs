//! What the kernel says about a process: processor time of all its threads, and memory.
use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Processor time used by a process, as two clocks that check each other.
pub struct CpuTime {
    threads: HashMap<String, u64>,
    ticks: u64,
}

/// Difference of two readings.
pub struct CpuUsed {
    /// From the scheduler, in nanoseconds, threads that live at the end.
    pub precise: Duration,
    /// utime + stime of the whole process in units of 10 ms, threads that ended included.
    pub ticks: Duration,
}

impl CpuTime {
    pub fn read(pid: u32) -> Result<Self, String> {
        let mut threads = HashMap::new();
        let dir = fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| format!("process {pid}: {e}"))?;
        for task in dir.flatten() {
            let line = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanos = line.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            threads.insert(task.file_name().to_string_lossy().into_owned(), nanos);
        }
        let stat =
            fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| format!("process {pid}: {e}"))?;
        // The command name may hold spaces and parentheses: count fields after its end.
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        Ok(CpuTime { threads, ticks })
    }

    /// Time used between `start` and `self`.
    pub fn since(&self, start: &CpuTime) -> CpuUsed {
        let grown =
            |(id, now): (&String, &u64)| now.saturating_sub(start.threads.get(id).copied().unwrap_or(0));
        CpuUsed {
            precise: Duration::from_nanos(self.threads.iter().map(grown).sum()),
            ticks: Duration::from_millis((self.ticks - start.ticks.min(self.ticks)) * 10),
        }
    }
}

impl CpuUsed {
    /// The precise clock, unless the kernel has none or threads ended meanwhile: then the coarse one.
    pub fn best(&self) -> Duration {
        if self.precise * 10 < self.ticks * 9 { self.ticks } else { self.precise }
    }
}

/// Resident and proportional memory in bytes.
pub struct Memory {
    pub rss: u64,
    pub pss: u64,
}

impl Memory {
    pub fn read(pid: u32) -> Result<Self, String> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            .map_err(|e| format!("memory of process {pid}: {e}"))?;
        let field = |name: &str| {
            let line = text.lines().find(|l| l.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        match (field("Rss:"), field("Pss:")) {
            (Some(rss), Some(pss)) => Ok(Memory { rss: rss * 1024, pss: pss * 1024 }),
            _ => Err(format!("memory of process {pid}: no Rss and Pss in smaps_rollup")),
        }
    }
}

/// The most memory in bytes that was resident since the process began.
pub fn most_resident(pid: u32) -> Result<u64, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|e| format!("memory of process {pid}: {e}"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or_else(|| format!("memory of process {pid}: no VmHWM in status"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::{CpuTime, Memory, most_resident};

    #[test]
    fn sees_its_own_work() {
        let me = std::process::id();
        let before = CpuTime::read(me).unwrap();
        let began = std::time::Instant::now();
        while began.elapsed().as_millis() < 60 {}
        let used = CpuTime::read(me).unwrap().since(&before).best();
        assert!((20..2_000).contains(&used.as_millis()), "{used:?}");
        assert!(Memory::read(me).unwrap().rss > 100_000);
        assert!(most_resident(me).unwrap() > 100_000);
    }
}
