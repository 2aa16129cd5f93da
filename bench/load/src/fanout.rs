//! Rooms in which every message reaches all members: deliveries per second, processor time and latency of each.
use crate::histogram::Histogram;
use crate::net::{Handler, Net};
use crate::opening::{Seat, open};
use crate::process::CpuTime;
use crate::report::Report;
use crate::target::{Outgoing, Protocol};
use crate::{Common, tag};
use clap::{Args, ValueEnum};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Connections in each room that get every message.
    #[arg(long, default_value_t = 100)]
    receivers: usize,
    /// Messages each sender may have under way.
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// When a message is no longer under way.
    #[arg(long, value_enum, default_value = "own")]
    done: Done,
    /// Where in the room the senders sit (or their observers).
    #[arg(long, value_enum, default_value = "first")]
    sender_at: Place,
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// Senders in each room.
    #[arg(long, default_value_t = 1)]
    senders: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
}

/// Many servers write in the order in which members joined, so it matters when a sender gets its own copy.
#[derive(Clone, Copy, ValueEnum)]
enum Place {
    /// Senders joined first.
    First,
    Middle,
    Last,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Done {
    /// When its sender has its own copy, or where senders get none, an observer in the same room: what a client can know.
    Own,
    /// When every receiver has it.
    All,
}

/// How many messages of one sender the slowest receiver may be behind.
const LAG: usize = 1024;

/// No delivery for this long means that the server lost a copy.
const PATIENCE: Duration = Duration::from_secs(15);

/// A message under way.
#[derive(Clone)]
struct UnderWay {
    missing: usize,
    sent: Instant,
}

struct Sender {
    conn: usize,
    /// Whose copy ends a message if the sender's own copy (or the observer's) does.
    observer: usize,
    next: u64,
    credit: usize,
    /// By number modulo length; a slot is free when nothing is missing.
    under_way: Vec<UnderWay>,
}

struct Fanout {
    senders: Vec<Sender>,
    tags: tag::Tags,
    latencies: Histogram,
    done: Done,
    delivered: u64,
    completed: u64,
    /// Senders that may send again.
    free: Vec<usize>,
}

impl Handler for Fanout {
    fn text(&mut self, conn: usize, payload: &[u8], at: Instant) -> Result<(), String> {
        let Some((sender, number)) = self.tags.find(payload) else { return Ok(()) };
        let s =
            self.senders.get_mut(sender).ok_or_else(|| format!("a message of unknown sender {sender}"))?;
        let slot = number as usize % s.under_way.len();
        let u = &mut s.under_way[slot];
        if number >= s.next || u.missing == 0 {
            return Err(format!("connection {conn} got message {number} of sender {sender} once too often"));
        }
        u.missing -= 1;
        self.delivered += 1;
        self.latencies.record(at.saturating_duration_since(u.sent).as_nanos() as u64);
        let (own, all) = (conn == s.observer, u.missing == 0);
        self.completed += u64::from(all);
        s.credit += usize::from(if self.done == Done::Own { own } else { all });
        if own || all {
            self.free.push(sender);
        }
        Ok(())
    }
}

/// Who sits where, and each sender with its observer. Where a sender gets no copy, it has a seat besides the receivers.
fn seats(common: &Common, o: &Options) -> (Vec<Seat>, Vec<(usize, usize)>) {
    let (mut seats, mut senders) = (Vec::new(), Vec::new());
    for r in 0..o.rooms {
        let room = format!("{}-{r}", common.room_prefix);
        let first = seats.len();
        for i in 0..o.receivers {
            let name = if common.identities == 0 { i } else { i % common.identities };
            seats.push(Seat { who: format!("member-{r}-{name}"), room: room.clone() });
        }
        for i in 0..o.senders {
            let place = match o.sender_at {
                Place::First => i,
                Place::Middle => o.receivers / 2 + i,
                Place::Last => o.receivers - 1 + i,
            };
            let observer = first + place % o.receivers;
            if common.protocol.echoes() {
                senders.push((observer, observer));
            } else {
                senders.push((seats.len(), observer));
                seats.push(Seat { who: format!("sender-{r}-{i}"), room: room.clone() });
            }
        }
    }
    (seats, senders)
}

/// Copies of each message that arrive: without an echo, the other senders of the room get one too.
fn copies(common: &Common, o: &Options) -> usize {
    if common.protocol.echoes() { o.receivers } else { o.receivers + o.senders - 1 }
}

pub fn run(common: &Common, o: &Options) -> Result<Report, String> {
    let (seats, senders) = seats(common, o);
    let mut net = Net::new(common.protocol.engineio())?;
    let opening = open(&mut net, common, &seats)?;
    let idle = UnderWay { missing: 0, sent: Instant::now() };
    let mut load = Fanout {
        free: (0..senders.len()).collect(),
        senders: senders
            .into_iter()
            .map(|(conn, observer)| Sender {
                conn,
                observer,
                next: 0,
                credit: o.window,
                under_way: vec![idle.clone(); LAG.max(o.window)],
            })
            .collect(),
        tags: tag::Tags::new(),
        latencies: Histogram::new(),
        done: o.done,
        delivered: 0,
        completed: 0,
    };
    let mut drive =
        Drive { net: &mut net, seats: &seats, protocol: common.protocol, copies: copies(common, o) };
    drive.run(&mut load, o.warmup)?;
    load.latencies.clear();
    (load.delivered, load.completed) = (0, 0);
    let me = std::process::id();
    let (server, own) = (common.pid.map(CpuTime::read).transpose()?, CpuTime::read(me)?);
    let began = Instant::now();
    drive.run(&mut load, o.seconds)?;
    let seconds = began.elapsed().as_secs_f64();
    if load.delivered == 0 {
        return Err("no message was delivered in the time measured".into());
    }
    let mut r = Report::default();
    r.put("deliveries_per_s", load.delivered as f64 / seconds);
    r.put("messages_per_s", load.completed as f64 / seconds);
    if let (Some(pid), Some(start)) = (common.pid, server) {
        let used = CpuTime::read(pid)?.since(&start);
        r.put("cpu_us_per_delivery", used.best().as_secs_f64() * 1e6 / load.delivered as f64);
        r.put("cpu_us_per_delivery_by_ticks", used.ticks.as_secs_f64() * 1e6 / load.delivered as f64);
        r.put("server_cpu_share", used.best().as_secs_f64() / seconds);
    }
    r.put("generator_cpu_share", CpuTime::read(me)?.since(&own).best().as_secs_f64() / seconds);
    r.put("p50_us", load.latencies.quantile(0.5) / 1e3);
    r.put("p99_us", load.latencies.quantile(0.99) / 1e3);
    r.put("opening_s", opening.took.as_secs_f64());
    Ok(r)
}

struct Drive<'a> {
    net: &'a mut Net,
    seats: &'a [Seat],
    protocol: Protocol,
    copies: usize,
}

impl Drive<'_> {
    fn run(&mut self, load: &mut Fanout, seconds: f64) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut progress = (load.delivered, Instant::now());
        while Instant::now() < end {
            for sender in std::mem::take(&mut load.free) {
                self.send(sender, &mut load.senders[sender])?;
            }
            self.net.poll(Duration::from_millis(100), load)?;
            if progress.0 != load.delivered {
                progress = (load.delivered, Instant::now());
            }
            if progress.1.elapsed() > PATIENCE {
                let missing: usize = load.senders.iter().flat_map(|s| &s.under_way).map(|u| u.missing).sum();
                return Err(format!("nothing arrives any more; {missing} copies are missing"));
            }
        }
        Ok(())
    }

    /// Sends as many messages as the window has room for, in one write.
    fn send(&mut self, sender: usize, s: &mut Sender) -> Result<(), String> {
        let room = self.seats[s.conn].room.as_str();
        let (mut frame, at) = (String::new(), Instant::now());
        while s.credit > 0 {
            let slots = s.under_way.len();
            let u = &mut s.under_way[s.next as usize % slots];
            if u.missing > 0 {
                // Somebody is far behind: go on when that copy has arrived.
                break;
            }
            *u = UnderWay { missing: self.copies, sent: at };
            let text = tag::text(sender, s.next, Protocol::text_len(room));
            frame.clear();
            self.protocol.message(&mut frame, &Outgoing { room, text: &text, ack: None });
            self.net.queue(s.conn, &frame);
            s.next += 1;
            s.credit -= 1;
        }
        self.net.flush(s.conn)
    }
}
