//! Settings: one documented type for all of them, filled from a file, the environment and the command line.

use std::path::PathBuf;

pub use crate::config::listen::{BareWs, Listener, Listeners, TlsFiles};
use crate::config::values::{AgentName, Count, LogLevel, NodeName};
pub use crate::config::values::{LogFormat, Networks, Origins, Percent, Rate, Size, Span};

pub mod dialects;
pub mod example;
pub mod listen;
pub mod load;
pub mod quotas;
pub mod reload;
pub mod section;
pub mod values;

pub use crate::config::load::{Problems, Sources};
use crate::config::quotas::Quotas;
use crate::config::section::{config, section};

section! {
    /// The process, its listeners and who may reach them.
    Server {
        /// Name of this server process: 1 to 128 characters of A-Z a-z 0-9 . _ : @ -. Empty: one is drawn at the first
        /// start and kept in the data directory.
        node: NodeName = NodeName::default(),
        /// Where to listen: `ADDRESS:PORT=MEANING`, MEANING being what a bare `/ws` is there: `hive`, `megabot` or `auto`
        /// (MegaBot if the request carries a token, a key or MegaBot's query values, else Hive). Port 0 takes a free one.
        /// `=metrics` makes a listener for Prometheus and watchdogs: `/livez`, `/readyz` and `/metrics` for everybody who
        /// reaches it, and nothing else.
        /// `/no-guests` at the end asks for a credential there although the address is a loopback one; so does
        /// `{ address = "127.0.0.1:3000", bare_ws = "megabot", anonymous = false }`. With
        /// `tls = { certificate = "FILE", key = "FILE" }` in it, both in PEM form, it speaks TLS and nothing else; new files are
        /// taken while the server runs. With `proxy_protocol = true` each connection must begin with a header of the PROXY
        /// protocol, version 1 or 2, from one of `trusted_proxies`.
        listen: Listeners = Listeners::default(),
        /// Threads that own connections, at most 256. 0: one per core.
        shards: u16 = 0,
        /// Origins of web pages that may connect besides the server's own, each `scheme://host[:port]`. `"*"` lets all in.
        allowed_origins: Origins = Origins::default(),
        /// Reverse proxies in front of this server, each an address or a network such as `10.0.0.0/8`. Whom they name in
        /// `X-Forwarded-For`, `Forwarded` or the PROXY protocol is the client: limits, blocks and logs go by its address, and it
        /// is no guest unless it is on this machine. Empty: such headers are ignored, and everybody behind a proxy is one
        /// address.
        trusted_proxies: Networks = Networks::default(),
        /// How long a client may take to send the head of a request: a socket that never speaks is not kept.
        header_timeout: Span = Span::of_ms(10_000),
        /// How long the body of a request may take: whoever keeps it unfinished holds memory and a socket. Of somebody known it
        /// may go on for as long as 1 KiB a second arrives. Who has shown no credential in the head has `header_timeout` at most.
        body_timeout: Span = Span::of_ms(30_000),
        /// How long a connection is kept after an answer for the next request. Longer than the pools of proxies keep it, so that
        /// none of them sends into a connection that ends.
        keep_alive: Span = Span::of_ms(75_000),
        /// How long a stop waits for what is under way before connections are cut.
        drain_timeout: Span = Span::of_ms(5_000),
        /// Open connections and polling sessions of one address, loopback ones not counted: one machine shall not use up the
        /// sockets. `off` for any number.
        connections_per_address: Rate = Rate::of(1_000),
        /// Largest body of a REST request, 1 KiB to 64 MiB. Logins, and whoever shows no credential in the head where one is
        /// needed, have `limits.unauthenticated_message`.
        max_body: Size = Size::of_bytes(1 << 20),
        /// Bytes of all bodies of requests in memory together, at least four times `max_body`; one address has a quarter of it,
        /// and so have all who show no credential. Over it a body waits in its sender's hands.
        bodies: Size = Size::of_bytes(64 << 20),
        /// REST requests of one address that are worked on at the same time, 1 to 128; further ones wait for their turn.
        requests_per_address: Count = Count::of(8),
    }
}

section! {
    /// Where the history is kept and how often it is written.
    Storage {
        /// The data directory: log, secrets, credentials.
        dir: PathBuf = PathBuf::from("data"),
        /// How often the state is saved beside the log, so that a start reads little of it.
        snapshot_interval: Span = Span::of_ms(60_000),
        /// How long a message of a `relaxed` room may wait for the disk.
        relaxed_sync: Span = Span::of_ms(1_000),
        /// What the log of one workspace may take on the disk, about. Beyond it what its clients say is refused; reading, coming
        /// and going stay possible.
        workspace_bytes: Size = Size::of_bytes(256 << 30),
        /// What one agent, user or guest may write to it in a minute, about. At least 4 MiB, so that any message fits.
        principal_bytes_per_minute: Size = Size::of_bytes(256 << 20),
    }
}

section! {
    /// What the server tells about itself on standard error.
    Logging {
        /// `error`, `warn`, `info`, `debug`, `trace`, and levels of parts, such as `info,log=debug,transport=debug`; parts are
        /// `admin`, `auth`, `config`, `jobs`, `log`, `probes`, `runner`, `server`, `telemetry`, `tls`, `transport` and `watch`.
        /// A filter of Rust's `tracing` does too. Tokens and keys never appear.
        level: LogLevel = LogLevel::default(),
        /// `text` for people, `json` for programs.
        format: LogFormat = LogFormat::Text,
    }
}

section! {
    /// Credentials and how long they last.
    Auth {
        /// Loopback listeners let Hive and MegaBot clients in without credentials. Behind a reverse proxy on the same
        /// machine everybody looks local unless `server.trusted_proxies` names it: do that, or set this to false.
        anonymous: bool = true,
        /// Life of an MXF token.
        mxf_token: Span = Span::of_ms(24 * 3_600_000),
        /// Life of an AIWM token.
        aiwm_token: Span = Span::of_ms(24 * 3_600_000),
        /// Life of a Hive and MegaBot token.
        login_token: Span = Span::of_ms(3_600_000),
        /// Life of the refresh token that comes with it.
        refresh_token: Span = Span::of_ms(30 * 24 * 3_600_000),
        /// Life of an Open-A.G.I token.
        openagi_token: Span = Span::of_ms(3_600_000),
        /// Failed passwords and agents' secrets of one address for one account in `failure_window`, after which a further one
        /// is read only every 10 s: guessing shall not pay, and whoever knows it gets in. `off` for no limit.
        failures: Rate = Rate::of(10),
        /// The window of `failures`.
        failure_window: Span = Span::of_ms(15 * 60_000),
        /// Passwords checked at the same time, 1 to 64; each takes 19 MiB and some 20 ms of a core.
        password_checks: Count = Count::of(2),
    }
}

section! {
    /// Rules that watch the server's own traffic, by address (IPv6 by its /64). What they find goes to the subscribers of
    /// Open-A.G.I's `security_events`; a block holds at the listener where it was earned. At most 10,000 each, or `off`.
    Security {
        /// Wrong passwords, secrets, keys and tokens of one address in `login_window` from which on it is suspicious.
        suspicious_logins: Rate = Rate::of(3),
        /// How many are still usual; one more is `brute_force`, and that address is blocked for `login_block`.
        failed_logins: Rate = Rate::of(5),
        /// The window of both, and of `spoofing`.
        login_window: Span = Span::of_ms(300_000),
        /// How long an address is blocked after `brute_force`, `invalid_signature` or `replay`: Open-A.G.I refuses it whatever it
        /// shows; elsewhere good tokens and keys open, and passwords are read one a second, of one account every 10 s.
        login_block: Span = Span::of_ms(300_000),
        /// Connections of one address in `connection_window`, loopback ones not counted; one more is `ddos`. Clients behind one
        /// gateway are one address, and so are those behind a proxy that `server.trusted_proxies` does not name.
        connections: Rate = Rate::of(100),
        /// The window of `connections`.
        connection_window: Span = Span::of_ms(60_000),
        /// How long new connections of an address are closed at once after `ddos`.
        connection_block: Span = Span::of_ms(60_000),
        /// Messages of one address that were refused because they came too fast, in `refused_window`; one more is `flooding`.
        refused_messages: Rate = Rate::of(50),
        /// The window of `refused_messages`.
        refused_window: Span = Span::of_ms(60_000),
        /// How often the same signed message may come in `replay_window`; once more is `replay`.
        replays: Rate = Rate::of(2),
        /// The window of `replays`.
        replay_window: Span = Span::of_ms(300_000),
        /// Tokens of one address with a signature that is not ours, in `forged_window`; one more is `invalid_signature`.
        forged_tokens: Rate = Rate::of(5),
        /// The window of `forged_tokens`.
        forged_window: Span = Span::of_ms(300_000),
        /// Frames of one address that are none, in `malformed_window`, from which on it is suspicious.
        malformed_frames: Rate = Rate::of(20),
        /// The window of `malformed_frames`.
        malformed_window: Span = Span::of_ms(60_000),
        /// Whether a payload in somebody else's name is told as `spoofing`, once per address in `login_window`. It is refused
        /// in any case.
        spoofing: bool = true,
        /// Whether answers that take more than two standard deviations longer than usual, for three samples on end, are told
        /// as suspicious.
        anomaly: bool = true,
    }
}

section! {
    /// What one connection may take.
    Limits {
        /// Bytes waiting for a client that reads slowly; past it the client gets what it misses from the log, as fast as it
        /// reads. One message of any size fits besides. At least 64 KiB.
        queue: Size = Size::of_bytes(1 << 20),
        /// Bytes waiting for all clients together; past it no queue grows beyond 16 KiB. At least 16 MiB.
        all_queues: Size = Size::of_bytes(256 << 20),
        /// How long a client may take no byte of what waits for it before its connection is closed.
        stall_timeout: Span = Span::of_ms(30_000),
        /// Commands of one connection that wait for the log; past it the socket is not read.
        unfinished_commands: Count = Count::of(64),
        /// Work for one connection in a second, on average: bytes that are read, eight for each byte that was inflated, 256 for a
        /// frame. Past it the socket is not read for a while. 1 MiB to 1 GiB.
        bytes_per_second: Size = Size::of_bytes(32 << 20),
        /// Largest message before the client has said who it is: strangers get little memory.
        unauthenticated_message: Size = Size::of_bytes(16 << 10),
    }
}

section! {
    /// Plain WebSockets (Hive, MegaBot, Open-A.G.I).
    Websocket {
        /// Largest message from a client, after inflation.
        max_message: Size = Size::of_bytes(1 << 20),
        /// How often a ping is sent.
        ping_interval: Span = Span::of_ms(30_000),
        /// Unanswered pings after which a client counts as gone.
        missed_pings: Count = Count::of(2),
        /// Whether permessage-deflate is agreed to.
        compression: bool = true,
        /// Messages from this size on are compressed; smaller ones gain nothing.
        compress_from: Size = Size::of_bytes(1 << 10),
        /// How long a client may take to answer a close frame.
        close_timeout: Span = Span::of_ms(5_000),
    }
}

section! {
    /// Socket.IO (MXF, AIWM).
    Socketio {
        /// How often a ping is sent.
        ping_interval: Span = Span::of_ms(25_000),
        /// How long the answer may take. Agents that block longer need more.
        ping_timeout: Span = Span::of_ms(20_000),
        /// How long a client may take to enter its first namespace.
        connect_timeout: Span = Span::of_ms(45_000),
        /// How long the change from polling to WebSocket may take.
        upgrade_timeout: Span = Span::of_ms(10_000),
        /// Largest packet or poll from a client.
        max_payload: Size = Size::of_bytes(1 << 20),
    }
}

section! {
    /// MXF.
    Mxf {
        /// How long a connection may stay without having proved who it is.
        auth_timeout: Span = Span::of_ms(60_000),
        /// Messages per minute of one agent, over all its connections; `off` for any number.
        messages_per_minute: Rate = Rate::of(100),
        /// Memory operations per minute of one agent, over all its connections; `off` for any number.
        memory_per_minute: Rate = Rate::of(200),
        /// Up to how many members of a channel coming, going and status are told to the others: the traffic grows with the
        /// square of the members.
        announced_members: Count = Count::of(100),
        /// Agents that one user's connection may speak for: each is remembered for as long as the connection lives.
        agents_per_connection: Count = Count::of(256),
        /// `agent:register` of a user makes a channel that does not exist.
        create_channels: bool = true,
    }
}

section! {
    /// AIWM.
    Aiwm {
        /// How often a raw WebSocket is pinged.
        ping_interval: Span = Span::of_ms(25_000),
        /// Typing that is not renewed ends after this.
        typing_timeout: Span = Span::of_ms(10_000),
        /// Most missed messages of one conversation that a client gets when it comes back, at most 200: what a page of the
        /// log holds.
        replay: Count = Count::of(200),
        /// On namespace `/` every event goes out as `message:new` and as `message_new`, which Python's decorators need.
        underscore_names: bool = true,
    }
}

section! {
    /// Hive.
    Hive {
        /// How often the status goes to every dashboard.
        status_interval: Span = Span::of_ms(10_000),
        /// How often the lists go to connections of the older front-end.
        lists_interval: Span = Span::of_ms(5_000),
        /// Memory use from which on dashboards are warned, percent; critical as in `alerts`.
        memory_warning: Percent = Percent::of(85.0),
        /// Agents made per minute and address, loopback ones not counted; `off` for any number.
        agents_per_minute: Rate = Rate::of(10),
        /// Requests for the status per minute and address, loopback ones not counted; `off` for any number.
        status_per_minute: Rate = Rate::of(60),
    }
}

section! {
    /// Open-A.G.I.
    Openagi {
        /// How often each metric goes to its subscribers.
        metric_interval: Span = Span::of_ms(5_000),
        /// A connection that has sent nothing for so long is subscribed to `network_events`.
        grace: Span = Span::of_ms(10_000),
        /// Frames of one connection that are read in a second; `off` for any number.
        frames_per_second: Rate = Rate::of(100),
        /// REST requests per minute and address; `off` for any number.
        requests_per_minute: Rate = Rate::of(100),
        /// Off loopback a node proves with a signature that it has a key. True: it gets a token only after the operator has
        /// bound its id to that key (`roundtable node bind`). False: the first key that is proved is bound, whoever comes.
        approve_nodes: bool = false,
        /// REST requests per hour and address; `off` for any number.
        requests_per_hour: Rate = Rate::of(1_000),
    }
}

section! {
    /// MegaBot.
    Megabot {
        /// Frames per second of one connection, on average; `off` for any number.
        frames_per_second: Rate = Rate::of(10),
        /// Frames that may come at once: clients' timers jitter.
        frame_burst: Count = Count::of(20),
        /// Messages inside of batches per second of one connection; `off` for any number.
        batched_per_second: Rate = Rate::of(200),
        /// Most messages of one batch.
        batch: Count = Count::of(100),
        /// The agent that answers in a connection's own session where no other agent is. Empty: nobody does.
        agent: AgentName = AgentName::default(),
        /// How long an answer to a chat message may take before the sender is told that none came.
        answer_timeout: Span = Span::of_ms(60_000),
        /// Most missed frames that a session gets when it is taken up again; of more, the newest.
        replay: Count = Count::of(1_000),
    }
}

section! {
    /// Measured figures of this process and its machine.
    Figures {
        /// How often they are taken.
        interval: Span = Span::of_ms(5_000),
    }
}

section! {
    /// When figures become alerts. A value is well again `hysteresis` points below its threshold.
    Alerts {
        /// Processor use, percent.
        cpu_warning: Percent = Percent::of(80.0),
        /// Processor use, percent.
        cpu_critical: Percent = Percent::of(90.0),
        /// Memory use, percent, for the subscribers of Open-A.G.I; `hive.memory_warning` is for dashboards.
        memory_warning: Percent = Percent::of(80.0),
        /// Memory use, percent.
        memory_critical: Percent = Percent::of(95.0),
        /// Use of the disk with the data directory, percent.
        disk_warning: Percent = Percent::of(90.0),
        /// Use of the disk with the data directory, percent.
        disk_critical: Percent = Percent::of(95.0),
        /// How long the disk lasts at the rate at which the log grew in the last ten minutes or so.
        disk_left_warning: Span = Span::of_ms(24 * 3_600_000),
        /// The same.
        disk_left_critical: Span = Span::of_ms(4 * 3_600_000),
        /// Milliseconds within which 95 % of what is asked is answered.
        latency_warning: Count = Count::of(100),
        /// The same.
        latency_critical: Count = Count::of(500),
        /// Milliseconds that a sync of the log takes on average, from which on the log counts as degraded.
        sync_warning: Count = Count::of(250),
        /// File descriptors of this process in use, percent of what the system grants.
        descriptors_warning: Percent = Percent::of(80.0),
        /// The same.
        descriptors_critical: Percent = Percent::of(95.0),
        /// Questions that wait for the engine, percent of 32,768.
        queue_warning: Percent = Percent::of(50.0),
        /// The same.
        queue_critical: Percent = Percent::of(90.0),
        /// So many points below a threshold an alert ends: a value at the edge shall not flicker.
        hysteresis: Percent = Percent::of(5.0),
    }
}

config! {
    /// Every setting there is.
    Config {
        server: Server,
        storage: Storage,
        quotas: Quotas,
        logging: Logging,
        auth: Auth,
        security: Security,
        limits: Limits,
        websocket: Websocket,
        socketio: Socketio,
        mxf: Mxf,
        aiwm: Aiwm,
        hive: Hive,
        openagi: Openagi,
        megabot: Megabot,
        figures: Figures,
        alerts: Alerts,
    }
}

impl Config {
    /// Fills the settings from their sources. Fails with everything that is wrong, not only the first.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        load::load(sources)
    }

    /// What no single key can say: settings that contradict one another.
    fn contradictions(&self) -> Vec<String> {
        let mut found = self.server.listen.problems();
        let ms = |count: Count| f64::from(count.get());
        let a = &self.alerts;
        for (low, value, high, most) in [
            ("alerts.cpu_warning", a.cpu_warning.get(), "alerts.cpu_critical", a.cpu_critical.get()),
            (
                "alerts.memory_warning",
                a.memory_warning.get(),
                "alerts.memory_critical",
                a.memory_critical.get(),
            ),
            (
                "hive.memory_warning",
                self.hive.memory_warning.get(),
                "alerts.memory_critical",
                a.memory_critical.get(),
            ),
            ("alerts.disk_warning", a.disk_warning.get(), "alerts.disk_critical", a.disk_critical.get()),
            (
                "alerts.latency_warning",
                ms(a.latency_warning),
                "alerts.latency_critical",
                ms(a.latency_critical),
            ),
            (
                "alerts.descriptors_warning",
                a.descriptors_warning.get(),
                "alerts.descriptors_critical",
                a.descriptors_critical.get(),
            ),
            ("alerts.queue_warning", a.queue_warning.get(), "alerts.queue_critical", a.queue_critical.get()),
        ] {
            if value > most {
                found.push(format!("{low} ({value}) lies above {high} ({most})"));
            }
        }
        let s = &self.security;
        for (name, most) in [
            ("suspicious_logins", s.suspicious_logins),
            ("failed_logins", s.failed_logins),
            ("connections", s.connections),
            ("refused_messages", s.refused_messages),
            ("replays", s.replays),
            ("forged_tokens", s.forged_tokens),
            ("malformed_frames", s.malformed_frames),
        ] {
            if most.most().is_some_and(|most| most > 10_000) {
                found.push(format!("security.{name} must be at most 10000, or off"));
            }
        }
        self.out_of_range(&mut found);
        found
    }

    fn out_of_range(&self, found: &mut Vec<String>) {
        let unheard =
            |listener: &&Listener| listener.proxy_protocol && self.server.trusted_proxies.is_empty();
        for listener in self.server.listen.as_slice().iter().filter(unheard) {
            let at = listener.address;
            found.push(format!(
                "server.listen: {at} takes the PROXY protocol, and server.trusted_proxies names nobody"
            ));
        }
        if self.server.shards > 256 {
            found.push("server.shards must be at most 256".into());
        }
        if self.storage.principal_bytes_per_minute.bytes() < 4 << 20 {
            found.push("storage.principal_bytes_per_minute must be at least 4MiB".into());
        }
        if self.alerts.disk_left_warning < self.alerts.disk_left_critical {
            found.push("alerts.disk_left_warning lies below alerts.disk_left_critical".into());
        }
        if self.auth.password_checks.get() > 64 {
            found.push("auth.password_checks must be at most 64".into());
        }
        if self.limits.queue.bytes() < 64 << 10 {
            found.push("limits.queue must be at least 64KiB".into());
        }
        if !(1 << 20..=1 << 30).contains(&self.limits.bytes_per_second.bytes()) {
            found.push("limits.bytes_per_second must be 1MiB to 1GiB".into());
        }
        if self.limits.all_queues.bytes() < 16 << 20 {
            found.push("limits.all_queues must be at least 16MiB".into());
        }
        if self.limits.stall_timeout.ms() < 1_000 {
            found.push("limits.stall_timeout must be at least 1s".into());
        }
        if self.websocket.compress_from.bytes() < 1 << 10 {
            found.push("websocket.compress_from must be at least 1KiB".into());
        }
        if !(1 << 10..=64 << 20).contains(&self.server.max_body.bytes()) {
            found.push("server.max_body must be 1KiB to 64MiB".into());
        }
        if self.server.bodies.bytes() < self.server.max_body.bytes().saturating_mul(4) {
            found.push("server.bodies must be at least four times server.max_body".into());
        }
        if !(1..=128).contains(&self.server.requests_per_address.get()) {
            found.push("server.requests_per_address must be 1 to 128".into());
        }
        if self.aiwm.replay.get() > 200 {
            found.push("aiwm.replay must be at most 200".into());
        }
    }
}

#[cfg(test)]
mod tests;
