//! Socket.IO over Engine.IO: packets there and back, and the namespaces of one connection with attachments on their way.

use std::borrow::Cow;

use roundtable_dialects::engineio::{Message, Packet as EnginePacket, Sid};
use roundtable_dialects::socketio::encode::{Address, ack, connect_error, event};
use roundtable_dialects::socketio::{
    Args, Attempt, Config, Kind, MAX_ATTACHMENTS, MAX_NAMESPACES, Namespaces, Packet, Slot, Step, encode,
};

use super::cut::operations;

const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Operations on one connection; texts are also taken as packets of their own.
pub fn run(data: &[u8]) {
    let config = Config { max_before_connect: 256, max_packet: 4_096, ..Config::default() };
    let mut connection = Connection {
        namespaces: Namespaces::new(0, &config),
        config,
        pending: Vec::new(),
        slots: Vec::new(),
    };
    for (what, rest) in operations(data).take(512) {
        let alive = match what % 8 {
            0..=3 => {
                let Ok(text) = std::str::from_utf8(rest) else { continue };
                alone(text);
                match EnginePacket::from_payload(text) {
                    Ok(EnginePacket::Message(Message::Text(text))) => connection.text(text),
                    Ok(EnginePacket::Message(Message::Binary(bytes))) => connection.binary(&bytes),
                    _ => connection.text(text),
                }
            }
            4 => connection.binary(rest),
            5 => connection.accept(),
            6 => connection.refuse(),
            _ => connection.disconnect(rest.len()),
        };
        assert!(connection.namespaces.connected().count() <= MAX_NAMESPACES);
        if !alive {
            break;
        }
    }
    let overdue = connection.namespaces.next_deadline();
    let inside = connection.namespaces.connected().next().is_some();
    assert_eq!(overdue.is_none(), inside, "who is in no namespace has to go");
}

/// A packet, written again, is the same.
fn alone(text: &str) {
    let Ok(packet) = Packet::parse(text) else { return };
    assert!(packet.namespace.starts_with('/'));
    let binary = matches!(packet.kind, Kind::BinaryEvent | Kind::BinaryAck);
    assert!(if binary {
        (1..=MAX_ATTACHMENTS).contains(&packet.attachments)
    } else {
        packet.attachments == 0
    });
    let Ok(args) = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(packet.data) else { return };
    let texts = args.iter().map(|arg| arg.get());
    let again = match packet.kind {
        Kind::Event | Kind::BinaryEvent => {
            let Some(Ok(name)) = args.first().map(|name| serde_json::from_str::<String>(name.get())) else {
                return;
            };
            let to = Address { namespace: packet.namespace, name: &name, ack: packet.ack };
            event(to, texts.skip(1).collect::<Vec<_>>(), packet.attachments)
        }
        Kind::Ack | Kind::BinaryAck => {
            ack(packet.namespace, packet.ack.unwrap(), texts.collect::<Vec<_>>(), packet.attachments)
        }
        _ => return,
    };
    let again = Packet::parse(again.strip_prefix('4').unwrap()).unwrap();
    assert_eq!(
        (again.kind, again.attachments, again.namespace, again.ack),
        (packet.kind, packet.attachments, packet.namespace, packet.ack)
    );
    let values = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    assert_eq!(values(again.data), values(packet.data));
}

struct Connection {
    namespaces: Namespaces,
    config: Config,
    pending: Vec<(Attempt, String)>,
    slots: Vec<Slot>,
}

impl Connection {
    fn text(&mut self, text: &str) -> bool {
        let mut asked = None;
        let alive = match self.namespaces.on_text(text, &self.config) {
            Step::Connect { attempt, namespace, .. } => {
                asked = Some((attempt, namespace.to_owned()));
                true
            }
            Step::Event(event) => {
                assert!(text.len() <= self.config.max_packet && event.args.attachments().is_empty());
                told(&event.name, &event.args);
                assert!(self.namespaces.sid(event.slot).is_some(), "an event of nobody's");
                true
            }
            Step::Ack(ack) => self.namespaces.sid(ack.slot).is_some(),
            Step::Disconnect(slot) => {
                assert!(self.namespaces.name(slot).is_none());
                true
            }
            Step::Complete(_) => panic!("text completes nothing"),
            Step::Nothing => true,
            Step::Close(_) => false,
        };
        if let Some((attempt, name)) = asked {
            assert_eq!(self.namespaces.name(attempt.slot()), Some(name.as_str()));
            self.pending.push((attempt, name));
        }
        alive
    }

    fn binary(&mut self, bytes: &[u8]) -> bool {
        match self.namespaces.on_binary(Cow::Borrowed(bytes), &self.config) {
            Step::Nothing => true,
            Step::Close(_) => false,
            Step::Complete(packet) => {
                match packet.read() {
                    Step::Event(event) => {
                        told(&event.name, &event.args);
                        let size: usize = event.args.attachments().iter().map(bytes::Bytes::len).sum();
                        assert!((1..=MAX_ATTACHMENTS).contains(&event.args.attachments().len()));
                        assert!(size <= self.config.max_packet, "attachments above the limit");
                    }
                    Step::Ack(ack) => assert!(!ack.args.attachments().is_empty()),
                    other => panic!("a whole packet reads as {other:?}"),
                }
                true
            }
            other => panic!("bytes lead to {other:?}"),
        }
    }

    fn accept(&mut self) -> bool {
        let Some((attempt, name)) = self.pending.pop() else { return true };
        let sid = Sid::from_random([self.slots.len() as u8; 15]);
        if let Some(packet) = self.namespaces.accept(attempt, sid) {
            assert_eq!(self.namespaces.name(attempt.slot()), Some(name.as_str()));
            assert_eq!(Packet::parse(&packet[1..]).unwrap().namespace, name);
            assert!(self.namespaces.accept(attempt, sid).is_none(), "accepted twice");
            self.slots.push(attempt.slot());
        }
        true
    }

    fn refuse(&mut self) -> bool {
        let Some((attempt, name)) = self.pending.pop() else { return true };
        if let Some(packet) = self.namespaces.refuse(attempt, "no \"way\"", Some("{}")) {
            assert_eq!(packet, connect_error(&name, "no \"way\"", Some("{}")));
            assert!(self.namespaces.name(attempt.slot()).is_none());
        }
        true
    }

    fn disconnect(&mut self, which: usize) -> bool {
        let Some(slot) = self.slots.get(which).copied() else { return true };
        let connected = self.namespaces.sid(slot).is_some();
        let packet = self.namespaces.disconnect(slot);
        assert_eq!(packet.is_some(), connected);
        assert!(packet.is_none_or(|packet| packet.starts_with("41")));
        true
    }
}

/// What a session may do with an event's arguments.
fn told(name: &str, args: &Args<'_>) {
    assert!(!RESERVED.contains(&name), "{name} is the library's own");
    for n in 0..args.len() + 1 {
        let _ = args.bytes(n);
        let _ = args.with_base64(n);
        assert_eq!(args.get(n).is_some(), n < args.len());
    }
    let again = encode::event(Address::new("/", name), args.iter(), 0);
    assert!(Packet::parse(&again[1..]).is_ok());
}
