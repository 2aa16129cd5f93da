//! Engine.IO: packets and payloads there and back, and one session through anything that requests, sockets and time can do.

use roundtable_dialects::engineio::payload::{Outgoing, decode, encode, encode_last};
use roundtable_dialects::engineio::{
    Action, Config, Engine, Get, InvalidPacket, Message, Mode, Packet, Post, Sid, Step,
};

use super::cut::operations;

/// First byte: 0 to 127 a payload, else operations on a session.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    if *first < 128 {
        if let Ok(body) = std::str::from_utf8(rest) {
            payloads(body, usize::from(*first) * 8 + 1);
        }
        return;
    }
    Life::new(first & 1 != 0).lead(rest);
}

fn payloads(body: &str, limit: usize) {
    let packets: Vec<Result<Packet<'_>, InvalidPacket>> = decode(body).collect();
    assert_eq!(packets.len(), body.split('\u{1e}').count());
    let mut texts = Vec::new();
    for packet in packets.iter().flatten() {
        match packet {
            Packet::Message(Message::Text(text)) => texts.push(Ok(format!("4{text}"))),
            Packet::Message(Message::Binary(bytes)) => texts.push(Err(bytes.to_vec())),
            _ => {}
        }
    }
    let queue: Vec<Outgoing<'_>> = texts
        .iter()
        .map(|text| match text {
            Ok(text) => Outgoing::Text(text.as_bytes()),
            Err(bytes) => Outgoing::Binary(bytes),
        })
        .collect();
    let (mut rest, mut back) = (&queue[..], Vec::new());
    while !rest.is_empty() {
        let (body, taken) = encode(rest.iter().copied(), limit);
        assert!(taken >= 1 && (taken == 1 || body.len() <= limit), "{} bytes, at most {limit}", body.len());
        back.extend(read(&body));
        rest = &rest[taken..];
    }
    assert_eq!(back, texts);
    let last = encode_last(queue.iter().copied());
    assert_eq!(read(&last), texts);
    assert_eq!(decode(std::str::from_utf8(&last).unwrap()).last(), Some(Ok(Packet::Close)));
}

fn read(body: &[u8]) -> Vec<Result<String, Vec<u8>>> {
    let packets = decode(std::str::from_utf8(body).unwrap());
    let message = |packet| match packet {
        Ok(Packet::Message(Message::Text(text))) => Some(Ok(format!("4{text}"))),
        Ok(Packet::Message(Message::Binary(bytes))) => Some(Err(bytes.into_owned())),
        Ok(Packet::Close) => None,
        other => panic!("{other:?}"),
    };
    packets.filter_map(message).collect()
}

struct Life {
    engine: Engine,
    config: Config,
    now: u64,
    polls: bool,
    posting: bool,
}

impl Life {
    fn new(websocket: bool) -> Self {
        let (config, sid) = (Config::default(), Sid::from_random([7; 15]));
        let engine = Engine::open(sid, websocket, 0, &config);
        assert!(engine.open_packet(&config).starts_with("0{"));
        Self { engine, config, now: 0, polls: false, posting: false }
    }

    fn lead(&mut self, data: &[u8]) {
        for (what, rest) in operations(data).take(512) {
            let text = std::str::from_utf8(rest).unwrap_or("");
            let (now, config) = (self.now, self.config.clone());
            match what % 11 {
                0 => self.poll(!rest.is_empty()),
                1 => {
                    self.polls = false;
                    self.take(|engine| drop_borrow(engine.on_poll_aborted()));
                }
                2 => self.post(text),
                3 => self.posting = self.engine.on_post_start() == Post::Read,
                4 => {
                    let open = self.engine.on_upgrade_open(now, &config);
                    assert!(!open || self.engine.mode() == Mode::Probing);
                }
                5 => self.take(|engine| drop_borrow(engine.on_ws_text(text, now, &config))),
                6 => self.take(|engine| drop_borrow(engine.on_ws_binary(rest))),
                7 => self.take(|engine| drop_borrow(engine.on_ws_closed())),
                8 => self.take(|engine| drop_borrow(engine.close(now, &config))),
                9 => {
                    if self.engine.take_poll() {
                        assert!(std::mem::take(&mut self.polls), "an answer for no poll");
                    }
                }
                _ => self.pass(1_000 * rest.len() as u64),
            }
            let over = self.engine.mode() == Mode::Closed;
            assert_eq!(self.engine.next_deadline().is_none(), over, "a deadline exactly while it lives");
        }
    }

    /// A step: a poll is answered only if one waits, and the end is said once.
    fn take(&mut self, act: impl FnOnce(&mut Engine) -> (bool, bool)) {
        let before = self.engine.mode();
        let (answers, ends) = act(&mut self.engine);
        if answers {
            assert!(std::mem::take(&mut self.polls), "an answer for no poll");
        }
        assert!(!ends || before != Mode::Closed, "it ended twice");
        assert_eq!(before != Mode::Closed && self.engine.mode() == Mode::Closed, ends, "the end is told");
        if ends {
            assert!(!self.polls, "a poll is left behind");
        }
    }

    fn poll(&mut self, queued: bool) {
        let waiting = self.polls;
        match self.engine.on_poll_get(queued, self.now) {
            Get::Wait => {
                assert!(!waiting && !queued);
                self.polls = true;
            }
            Get::Close(error, answer, _) => {
                assert!(error.status() == 400 && answer.is_some() == waiting);
                self.polls = false;
            }
            Get::Packets => assert!(queued),
            Get::Last => assert_eq!(self.engine.mode(), Mode::Closed),
            Get::Noop | Get::Refuse(_) => {}
        }
    }

    fn post(&mut self, body: &str) {
        if !self.posting {
            match self.engine.on_post_start() {
                Post::Read => {}
                Post::Close(_, answer, _) => {
                    assert_eq!(answer.is_some(), std::mem::take(&mut self.polls));
                    return;
                }
                Post::Refuse(_) => return,
            }
        }
        self.posting = false;
        let (now, config) = (self.now, self.config.clone());
        for packet in decode(body) {
            let mut ended = false;
            self.take(|engine| {
                let (answers, ends) = drop_borrow(engine.on_post_packet(packet, now, &config));
                ended = ends;
                (answers, ends)
            });
            if ended {
                return;
            }
        }
        self.engine.on_post_end();
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        let (now, config) = (self.now, self.config.clone());
        let mut steps = 0;
        while self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.take(|engine| drop_borrow(engine.on_tick(now, &config)));
            steps += 1;
            assert!(steps < 8, "the same deadline again and again");
        }
    }
}

/// Whether a step answers the poll that waits, and whether it ends the session.
fn drop_borrow(step: Step<'_>) -> (bool, bool) {
    (step.waiting_poll.is_some(), matches!(step.action, Action::Closed(_)))
}
