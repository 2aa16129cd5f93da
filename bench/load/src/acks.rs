//! Acknowledged messages per second: each connection keeps its share of messages under way in a room of its own.
use crate::histogram::Histogram;
use crate::net::{Handler, Net};
use crate::opening::{Seat, open};
use crate::process::CpuTime;
use crate::report::Report;
use crate::target::{Outgoing, Protocol, acknowledgement};
use crate::{Common, tag};
use clap::Args;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Messages under way in all.
    #[arg(long)]
    inflight: usize,
    /// Connections they are spread over; each has a room of its own, so that fan-out costs nothing extra.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
}

/// Nothing acknowledged for this long means that the server lost a message.
const PATIENCE: Duration = Duration::from_secs(15);

struct Sender {
    next: u64,
    /// When each message under way was sent, by number modulo the window.
    sent: Vec<Instant>,
    /// How many may be sent now.
    credit: usize,
}

struct Acks {
    senders: Vec<Sender>,
    latencies: Histogram,
    done: u64,
    refused: u64,
    copies: u64,
    refusal: String,
    tags: tag::Tags,
}

impl Handler for Acks {
    fn text(&mut self, conn: usize, payload: &[u8], at: Instant) -> Result<(), String> {
        let Some((id, success)) = acknowledgement(payload) else {
            self.copies += u64::from(self.tags.find(payload).is_some());
            return Ok(());
        };
        let s = &mut self.senders[conn];
        let slot = id as usize % s.sent.len();
        if id >= s.next {
            return Err(format!("acknowledgement {id} of a message that was never sent"));
        }
        self.latencies.record(at.saturating_duration_since(s.sent[slot]).as_nanos() as u64);
        s.credit += 1;
        self.done += 1;
        if !success {
            self.refused += 1;
            self.refusal = String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned();
        }
        Ok(())
    }
}

pub fn run(common: &Common, o: &Options) -> Result<Report, String> {
    if !common.protocol.engineio() {
        return Err("only the Socket.IO protocols acknowledge".into());
    }
    let room = |i: usize| format!("{}-{i}", common.room_prefix);
    let seats: Vec<Seat> =
        (0..o.connections).map(|i| Seat { who: format!("sender-{i}"), room: room(i) }).collect();
    let mut net = Net::new(true)?;
    open(&mut net, common, &seats)?;
    let share = o.inflight.div_ceil(o.connections).max(1);
    let mut load = Acks {
        senders: (0..o.connections)
            // Acknowledgements may overtake each other a little: room for that in the ring of times.
            .map(|_| Sender { next: 0, sent: vec![Instant::now(); share * 4], credit: share })
            .collect(),
        latencies: Histogram::new(),
        done: 0,
        refused: 0,
        copies: 0,
        refusal: String::new(),
        tags: tag::Tags::new(),
    };
    drive(&mut net, &mut load, &seats, common.protocol, o.warmup)?;
    load.latencies.clear();
    (load.done, load.refused, load.copies) = (0, 0, 0);
    let began = Instant::now();
    let me = std::process::id();
    let (server, own) = (common.pid.map(CpuTime::read).transpose()?, CpuTime::read(me)?);
    drive(&mut net, &mut load, &seats, common.protocol, o.seconds)?;
    let seconds = began.elapsed().as_secs_f64();
    if load.refused > 0 {
        return Err(format!("{} of {} messages refused: {}", load.refused, load.done, load.refusal));
    }
    let mut r = Report::default();
    r.put("acks_per_s", load.done as f64 / seconds);
    r.put("copies_per_ack", load.copies as f64 / load.done as f64);
    if let (Some(pid), Some(start)) = (common.pid, server) {
        let used = CpuTime::read(pid)?.since(&start);
        r.put("cpu_us_per_ack", used.best().as_secs_f64() * 1e6 / load.done as f64);
        r.put("server_cpu_share", used.best().as_secs_f64() / seconds);
    }
    r.put("generator_cpu_share", CpuTime::read(me)?.since(&own).best().as_secs_f64() / seconds);
    r.put("p50_us", load.latencies.quantile(0.5) / 1e3);
    r.put("p99_us", load.latencies.quantile(0.99) / 1e3);
    Ok(r)
}

fn drive(
    net: &mut Net,
    load: &mut Acks,
    seats: &[Seat],
    protocol: Protocol,
    seconds: f64,
) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut progress = (0, Instant::now());
    let mut frame = String::new();
    while Instant::now() < end {
        for (conn, s) in load.senders.iter_mut().enumerate().filter(|(_, s)| s.credit > 0) {
            let room = seats[conn].room.as_str();
            let at = Instant::now();
            for _ in 0..std::mem::take(&mut s.credit) {
                let text = tag::text(conn, s.next, Protocol::text_len(room));
                frame.clear();
                protocol.message(&mut frame, &Outgoing { room, text: &text, ack: Some(s.next) });
                net.queue(conn, &frame);
                let slot = s.next as usize % s.sent.len();
                s.sent[slot] = at;
                s.next += 1;
            }
            net.flush(conn)?;
        }
        net.poll(Duration::from_millis(100), load)?;
        if progress.0 != load.done {
            progress = (load.done, Instant::now());
        }
        if progress.1.elapsed() > PATIENCE {
            return Err("no acknowledgement any more".into());
        }
    }
    Ok(())
}
