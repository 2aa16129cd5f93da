//! Clients that were away while much was said in their room come back and get it all, in order.
use crate::net::{Handler, Net};
use crate::opening::{Seat, open};
use crate::process::{CpuTime, most_resident};
use crate::report::Report;
use crate::returning::Returning;
use crate::target::{Before, Outgoing, Protocol};
use crate::{Common, tag};
use clap::Args;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Clients that come back, all of the same room.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Messages that each of them missed.
    #[arg(long, default_value_t = 10_000)]
    missed: u64,
    /// Seconds between their going and the first message, so that the server knows that they are gone.
    #[arg(long, default_value_t = 1.0)]
    settle: f64,
}

/// Who speaks, and who hears that it was said.
const SENDER: usize = 0;
const OBSERVER: usize = 1;
const FIRST_CLIENT: usize = 2;

/// Messages under way while the others are away.
const WINDOW: u64 = 64;

/// No message for this long means that the server lost one.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is said before the clients go and while they are away.
struct Said {
    tags: tag::Tags,
    protocol: Protocol,
    /// Messages each connection has.
    has: Vec<u64>,
    places: Vec<String>,
}

impl Handler for Said {
    fn text(&mut self, conn: usize, payload: &[u8], _at: Instant) -> Result<(), String> {
        let Some((_, number)) = self.tags.find(payload) else { return Ok(()) };
        self.has[conn] = number + 1;
        if conn >= FIRST_CLIENT {
            self.places[conn] = self.protocol.place(payload).unwrap_or_default();
        }
        Ok(())
    }
}

impl Said {
    /// Says the messages up to this number, and waits until all of `who` have them.
    fn say(&mut self, net: &mut Net, room: &str, to: u64, who: std::ops::Range<usize>) -> Result<(), String> {
        let mut next = self.has[OBSERVER];
        let (mut frame, mut progress) = (String::new(), (next, Instant::now()));
        while next < to || who.clone().any(|conn| self.has[conn] < to) {
            while next < to && next < self.has[OBSERVER] + WINDOW {
                let text = tag::text(SENDER, next, Protocol::text_len(room));
                frame.clear();
                self.protocol.message(&mut frame, &Outgoing { room, text: &text, ack: None });
                net.queue(SENDER, &frame);
                next += 1;
            }
            net.flush(SENDER)?;
            net.poll(Duration::from_millis(100), self)?;
            if progress.0 != self.has[OBSERVER] {
                progress = (self.has[OBSERVER], Instant::now());
            }
            if progress.1.elapsed() > PATIENCE {
                return Err(format!("only {} of {to} messages arrived", self.has[OBSERVER]));
            }
        }
        Ok(())
    }
}

pub fn run(common: &Common, o: &Options) -> Result<Report, String> {
    let pid = common.pid.ok_or("resume needs --pid: it reads the server's processor time")?;
    let room = format!("{}-0", common.room_prefix);
    let all = FIRST_CLIENT + o.clients;
    let seats: Vec<Seat> =
        (0..all).map(|i| Seat { who: format!("resume-{i}"), room: room.clone() }).collect();
    let mut net = Net::new(common.protocol.engineio())?;
    let sessions = open(&mut net, common, &seats)?.sessions;
    let mut said = Said {
        tags: tag::Tags::new(),
        protocol: common.protocol,
        has: vec![0; all],
        places: vec![String::new(); all],
    };
    // Some servers want to know the last message that a client has; so there is one.
    said.say(&mut net, &room, 1, OBSERVER..all)?;
    (FIRST_CLIENT..all).for_each(|conn| net.cut(conn));
    let settled = Instant::now() + Duration::from_secs_f64(o.settle);
    while Instant::now() < settled {
        net.poll(Duration::from_millis(100), &mut said)?;
    }
    // A sender that gets its own copies has to have them all, lest the rest comes in the time measured.
    let first = if common.protocol.echoes() { SENDER } else { OBSERVER };
    said.say(&mut net, &room, o.missed + 1, first..FIRST_CLIENT)?;
    let before: Vec<Before> =
        sessions.into_iter().zip(said.places).map(|(session, place)| Before { session, place }).collect();

    let me = std::process::id();
    let (server, own) = (CpuTime::read(pid)?, CpuTime::read(me)?);
    let mut returning = Returning::new(common, &seats, &before);
    (FIRST_CLIENT..all).for_each(|conn| returning.due(conn, 1..o.missed + 1));
    returning.come(&mut net, FIRST_CLIENT..all)?;
    let took = returning.wait(&mut net)?.as_secs_f64();
    let used = CpuTime::read(pid)?.since(&server).best().as_secs_f64();
    let own = CpuTime::read(me)?.since(&own).best().as_secs_f64();
    let messages = o.missed as f64 * o.clients as f64;
    let mut r = Report::default();
    r.put("resumed_s", took);
    r.put("p50_s", returning.times.quantile(0.5) / 1e9);
    r.put("messages_per_s", messages / took);
    r.put("server_cpu_s", used);
    r.put("cpu_us_per_message", used * 1e6 / messages);
    r.put("server_cpu_share", used / took);
    r.put("generator_cpu_share", own / took);
    r.put("refused", returning.refused().0 as f64);
    r.put("repeated", returning.repeated as f64);
    r.put("peak_mib", most_resident(pid)? as f64 / 1_048_576.0);
    Ok(r)
}
