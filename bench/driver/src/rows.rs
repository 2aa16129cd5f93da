//! What is measured: the rows of the table, each with its load and its servers.
use crate::Plan;
use crate::contender::{Contender, Dialect};

/// One row of the plan, which becomes one table.
pub struct Row {
    pub id: &'static str,
    pub title: String,
    /// Arguments of the generator after the common ones.
    pub load: Vec<String>,
    pub servers: Vec<Contender>,
    /// Rooms to be made beforehand.
    pub rooms: usize,
    /// Whether clients that come back shall get what they missed.
    pub recovery: bool,
    /// Whether server and generator get processors of their own.
    pub pin: bool,
    pub repeat: usize,
    /// Figures shown, with their headings.
    pub columns: &'static [(&'static str, &'static str)],
    /// The figure by which Roundtable is divided by the others, and whether less is better.
    pub compare: (&'static str, bool),
}

pub const fn megabot(durable: bool) -> Contender {
    Contender::Roundtable { dialect: Dialect::MegaBot, durable }
}

pub const fn mxf(durable: bool) -> Contender {
    Contender::Roundtable { dialect: Dialect::Mxf, durable }
}

const EVERYBODY: [Contender; 10] = [
    megabot(false),
    Contender::UWebSockets,
    Contender::Bun,
    Contender::TokioWebsockets,
    Contender::NodeWs,
    mxf(false),
    Contender::Socketioxide,
    Contender::NodeSocketIo,
    megabot(true),
    mxf(true),
];

const FANOUT: &[(&str, &str)] = &[
    ("cpu_us_per_delivery", "µs of processor per delivery"),
    ("deliveries_per_s", "deliveries/s"),
    ("p50_us", "p50 µs"),
    ("p99_us", "p99 µs"),
    ("server_cpu_share", "server busy"),
    ("generator_cpu_share", "generator busy"),
];

const ACKS: &[(&str, &str)] = &[
    ("acks_per_s", "acknowledged/s"),
    ("cpu_us_per_ack", "µs of processor each"),
    ("p50_us", "p50 µs"),
    ("p99_us", "p99 µs"),
    ("server_cpu_share", "server busy"),
    ("generator_cpu_share", "generator busy"),
];

const IDLE: &[(&str, &str)] = &[
    ("rss_kib_each", "KiB resident per connection"),
    ("pss_kib_each", "KiB proportional"),
    ("rss_mib_before", "MiB before"),
    ("rss_mib_after", "MiB after"),
    ("opened_per_s", "opened/s"),
    ("idle_cpu_share", "busy while idle"),
];

const STORM: &[(&str, &str)] = &[
    ("back_s", "s until the last is back"),
    ("p50_s", "p50 s"),
    ("refused", "attempts refused"),
    ("refused_most", "most of one client"),
    ("server_cpu_s", "s of processor"),
    ("peak_mib", "MiB at most"),
    ("away_s", "s away"),
    ("generator_cpu_share", "generator busy"),
];

const RESUME: &[(&str, &str)] = &[
    ("resumed_s", "s until the last has all"),
    ("messages_per_s", "messages/s"),
    ("server_cpu_s", "s of processor"),
    ("cpu_us_per_message", "µs of processor per message"),
    ("repeated", "came again"),
    ("peak_mib", "MiB at most"),
    ("generator_cpu_share", "generator busy"),
];

/// (id, rooms, receivers in each, under way for each sender)
const FANOUTS: [(&str, usize, usize, usize); 5] = [
    ("fanout-100-w1", 1, 100, 1),
    ("fanout-100-w16", 1, 100, 16),
    ("fanout-1000-w4", 1, 1_000, 4),
    ("fanout-5000-w2", 1, 5_000, 2),
    ("chat", 100, 10, 1),
];

pub fn all(plan: &Plan) -> Vec<Row> {
    let mut rows: Vec<Row> = FANOUTS.iter().map(|f| fanout(plan, *f)).collect();
    rows.push(acks(plan, "acks-64", 64));
    rows.push(acks(plan, "acks-1024", 1_024));
    rows.push(idle(plan));
    rows.push(storm(plan));
    rows.push(resume(plan, "resume-1", 1));
    rows.push(resume(plan, "resume-100", 100));
    rows.retain(|r| plan.only.is_empty() || plan.only.iter().any(|o| r.id.contains(o.as_str())));
    for row in &mut rows {
        let wanted = |c: &Contender| {
            let name = c.name().to_lowercase();
            plan.server.is_empty() || plan.server.iter().any(|s| name.contains(&s.to_lowercase()))
        };
        row.servers.retain(wanted);
    }
    rows
}

fn words(args: &str) -> Vec<String> {
    args.split_whitespace().map(str::to_owned).collect()
}

fn timing(plan: &Plan) -> String {
    format!("--seconds {} --warmup {}", plan.seconds, plan.warmup)
}

fn fanout(plan: &Plan, (id, rooms, receivers, window): (&'static str, usize, usize, usize)) -> Row {
    let title = if rooms == 1 {
        format!("Fan-out to {receivers}, {window} under way")
    } else {
        format!("Chat: {rooms} rooms of {receivers}, {window} under way in each")
    };
    Row {
        id,
        title,
        load: words(&format!(
            "fanout --rooms {rooms} --receivers {receivers} --window {window} --sender-at {} {}",
            plan.sender_at,
            timing(plan)
        )),
        servers: EVERYBODY.to_vec(),
        rooms,
        recovery: false,
        pin: true,
        repeat: plan.repeat,
        columns: FANOUT,
        compare: ("cpu_us_per_delivery", true),
    }
}

fn acks(plan: &Plan, id: &'static str, inflight: usize) -> Row {
    Row {
        id,
        title: format!("Acknowledged messages, {inflight} under way over 16 connections"),
        load: words(&format!("acks --inflight {inflight} --connections 16 {}", timing(plan))),
        servers: vec![
            mxf(true),
            Contender::Sqlite { batch: inflight },
            Contender::Sqlite { batch: 1 },
            Contender::Socketioxide,
            Contender::NodeSocketIo,
        ],
        rooms: 16,
        recovery: false,
        // The disk's side of the server works on a thread of its own; it may have a processor of its own as well.
        pin: false,
        repeat: plan.repeat,
        columns: ACKS,
        compare: ("acks_per_s", false),
    }
}

fn idle(plan: &Plan) -> Row {
    let n = plan.idle_connections;
    Row {
        id: "idle",
        title: format!("{n} idle connections, each a member of a room of 10"),
        load: words(&format!("idle --connections {n} --settle {}", plan.settle)),
        servers: EVERYBODY
            .into_iter()
            .filter(|c| !matches!(c, Contender::Roundtable { durable: false, .. }))
            .collect(),
        // Made beforehand: whoever made a room would be in it, and so hear all of them.
        rooms: n.div_ceil(10),
        recovery: false,
        pin: false,
        // Memory hardly varies from run to run.
        repeat: 1,
        columns: IDLE,
        compare: ("rss_kib_each", true),
    }
}

fn storm(plan: &Plan) -> Row {
    let n = plan.idle_connections;
    Row {
        id: "storm",
        title: format!("{n} clients in rooms of 10 come back at once after a crash"),
        load: words(&format!("storm --connections {n}")),
        servers: vec![
            megabot(true),
            mxf(true),
            Contender::UWebSockets,
            Contender::NodeWs,
            Contender::NodeSocketIo,
        ],
        rooms: n.div_ceil(10),
        recovery: false,
        pin: false,
        repeat: plan.repeat,
        columns: STORM,
        compare: ("back_s", true),
    }
}

fn resume(plan: &Plan, id: &'static str, clients: usize) -> Row {
    let who = if clients == 1 { "One client that".into() } else { format!("{clients} clients that each") };
    Row {
        id,
        title: format!("{who} missed 10,000 messages of a room"),
        load: words(&format!("resume --clients {clients} --missed 10000")),
        servers: vec![megabot(true), mxf(true), Contender::NodeSocketIo],
        rooms: 1,
        recovery: true,
        pin: false,
        repeat: plan.repeat,
        columns: RESUME,
        compare: ("resumed_s", true),
    }
}
