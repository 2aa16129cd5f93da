//! Opens connections, waits, and tells what each costs the server in memory.
use crate::Common;
use crate::net::{Handler, Net};
use crate::opening::{Seat, open};
use crate::process::{CpuTime, Memory};
use crate::report::Report;
use clap::Args;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Members per room: everybody is in a room, as real clients are.
    #[arg(long, default_value_t = 10)]
    room_size: usize,
    /// Seconds to wait before measuring, so that memory given back by the server counts as given back.
    #[arg(long, default_value_t = 6.0)]
    settle: f64,
}

struct Ignore;

impl Handler for Ignore {
    fn text(&mut self, _conn: usize, _payload: &[u8], _at: Instant) -> Result<(), String> {
        Ok(())
    }
}

pub fn run(common: &Common, o: &Options) -> Result<Report, String> {
    let pid = common.pid.ok_or("idle needs --pid: it reads the server's memory")?;
    let before = Memory::read(pid)?;
    let seats: Vec<Seat> = (0..o.connections)
        .map(|i| Seat {
            who: format!("idle-{i}"),
            room: format!("{}-{}", common.room_prefix, i / o.room_size.max(1)),
        })
        .collect();
    let mut net = Net::new(common.protocol.engineio())?;
    let took = open(&mut net, common, &seats)?.took;
    let peak = Memory::read(pid)?;
    let settled = Instant::now() + Duration::from_secs_f64(o.settle);
    let cpu = CpuTime::read(pid)?;
    while Instant::now() < settled {
        net.poll(Duration::from_millis(200), &mut Ignore)?;
    }
    let used = CpuTime::read(pid)?.since(&cpu).best();
    let after = Memory::read(pid)?;
    let each = |now: u64, then: u64| (now as f64 - then as f64) / 1024.0 / o.connections as f64;
    let mut r = Report::default();
    r.put("connections", o.connections as f64);
    r.put("rss_kib_each", each(after.rss, before.rss));
    r.put("pss_kib_each", each(after.pss, before.pss));
    r.put("rss_kib_each_right_after_opening", each(peak.rss, before.rss));
    r.put("rss_mib_before", before.rss as f64 / 1_048_576.0);
    r.put("rss_mib_after", after.rss as f64 / 1_048_576.0);
    r.put("opened_per_s", o.connections as f64 / took.as_secs_f64());
    r.put("idle_cpu_share", used.as_secs_f64() / o.settle);
    Ok(r)
}
