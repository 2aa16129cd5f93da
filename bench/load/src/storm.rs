//! Clients in rooms are all cut by the server's death and come back at once when it is there again.
use crate::Common;
use crate::net::{Handler, Net};
use crate::opening::{Seat, open};
use crate::process::{CpuTime, most_resident};
use crate::report::Report;
use crate::returning::Returning;
use crate::tag;
use crate::target::{Before, Outgoing, Protocol};
use clap::Args;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Members per room.
    #[arg(long, default_value_t = 10)]
    room_size: usize,
    /// Seconds between the opening and the cut.
    #[arg(long, default_value_t = 2.0)]
    settle: f64,
}

/// How long the end of a process may take to reach its clients.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts the connections that end.
#[derive(Default)]
struct Ends {
    expected: bool,
    ended: usize,
}

impl Handler for Ends {
    fn text(&mut self, _conn: usize, _payload: &[u8], _at: Instant) -> Result<(), String> {
        Ok(())
    }

    fn failed(&mut self, conn: usize, reason: String) -> Result<(), String> {
        self.ended += 1;
        if self.expected { Ok(()) } else { Err(format!("connection {conn}: {reason}")) }
    }
}

pub fn run(common: &Common, o: &Options) -> Result<Report, String> {
    let room_size = o.room_size.max(2);
    let seats: Vec<Seat> = (0..o.connections)
        .map(|i| Seat {
            who: format!("storm-{i}"),
            room: format!("{}-{}", common.room_prefix, i / room_size),
        })
        .collect();
    let mut net = Net::new(common.protocol.engineio())?;
    let sessions = open(&mut net, common, &seats)?.sessions;
    let before: Vec<Before> =
        sessions.into_iter().map(|session| Before { session, place: String::new() }).collect();
    let pid = cut(&mut net, o)?;
    let me = std::process::id();
    let (server, own) = (CpuTime::read(pid)?, CpuTime::read(me)?);
    let mut returning = Returning::new(common, &seats, &before);
    returning.come(&mut net, 0..seats.len())?;
    let took = returning.wait(&mut net)?.as_secs_f64();
    let used = CpuTime::read(pid)?.since(&server).best().as_secs_f64();
    let own = CpuTime::read(me)?.since(&own).best().as_secs_f64();
    let mut r = Report::default();
    r.put("back_s", took);
    r.put("p50_s", returning.times.quantile(0.5) / 1e9);
    r.put("p99_s", returning.times.quantile(0.99) / 1e9);
    let (refused, most) = returning.refused();
    r.put("refused", refused as f64);
    r.put("refused_most", most as f64);
    r.put("server_cpu_s", used);
    r.put("server_cpu_share", used / took);
    r.put("generator_cpu_share", own / took);
    r.put("peak_mib", most_resident(pid)? as f64 / 1_048_576.0);
    speak(&mut net, &mut returning, common.protocol, (&seats, room_size))?;
    Ok(r)
}

/// Asks for the server's death and waits for its successor; the successor's process id.
fn cut(net: &mut Net, o: &Options) -> Result<u32, String> {
    let mut ends = Ends::default();
    let settled = Instant::now() + Duration::from_secs_f64(o.settle);
    while Instant::now() < settled {
        net.poll(Duration::from_millis(100), &mut ends)?;
    }
    ends.expected = true;
    println!("cut");
    std::io::stdout().flush().map_err(|e| format!("standard output: {e}"))?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| format!("standard input: {e}"))?;
    let pid = line.trim().parse().map_err(|_| "no process id on standard input after \"cut\"".to_string())?;
    let patience = Instant::now() + PATIENCE;
    while ends.ended < o.connections {
        net.poll(Duration::from_millis(20), &mut ends)?;
        if Instant::now() > patience {
            return Err(format!("only {} of {} connections ended", ends.ended, o.connections));
        }
    }
    Ok(pid)
}

/// The proof that all are where they were: one message in each room reaches everybody there.
fn speak(
    net: &mut Net,
    returning: &mut Returning<'_>,
    protocol: Protocol,
    (seats, room_size): (&[Seat], usize),
) -> Result<(), String> {
    let mut frame = String::new();
    for conn in 0..seats.len() {
        if conn % room_size != 0 || protocol.echoes() {
            returning.due(conn, 0..1);
        }
    }
    for (conn, seat) in seats.iter().enumerate().step_by(room_size) {
        let text = tag::text(conn, 0, Protocol::text_len(&seat.room));
        frame.clear();
        protocol.message(&mut frame, &Outgoing { room: &seat.room, text: &text, ack: None });
        net.queue(conn, &frame);
        net.flush(conn)?;
    }
    returning.wait(net).map_err(|e| format!("after all were back, a message in each room: {e}"))?;
    Ok(())
}
