//! What the official Engine.IO and Socket.IO protocol suites expect of a server, through exactly the product's transport.
//!
//! `cargo run --release --example protocol_suite -- --socketio-port 3100 --engineio-port 3101`

use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use roundtable::transport::http::From;
use roundtable::transport::{Allowance, Doors, Entry, Farewell, Head, Settings, Way, alone};
use roundtable_core::delivery::Delivery;
use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_dialects::session::{
    Form, Identity, Input, Message, Messages, Opening, Output, Outputs, Refusal, Route, Scene, Session, Token,
};
use roundtable_dialects::{engineio, socketio};
use serde_json::value::RawValue;

#[derive(Parser)]
struct Arguments {
    /// The port of Socket.IO on 127.0.0.1, path `/socket.io/`.
    #[arg(long, default_value_t = 3100)]
    socketio_port: u16,
    /// The port of Engine.IO on 127.0.0.1, path `/engine.io/`.
    #[arg(long, default_value_t = 3101)]
    engineio_port: u16,
}

/// Engine.IO port: every message is sent back. Socket.IO port: the events that the suite names.
#[derive(Default)]
struct Suite {
    asked: u64,
}

fn joined(args: &[&RawValue]) -> String {
    args.iter().map(|arg| arg.get()).collect::<Vec<_>>().join(",")
}

impl Suite {
    /// The answer to an event; `None` for one the suite does not know.
    fn answer(
        &mut self,
        name: &str,
        args: String,
        attachments: Vec<Bytes>,
        ack: Option<u64>,
    ) -> Option<Message> {
        match (name, ack) {
            ("message", _) => Some(Message::BinaryEvent("message-back", args, attachments)),
            ("message-with-ack", Some(id)) => Some(Message::BinaryAck(id, args, attachments)),
            ("emit-with-ack", _) => {
                self.asked += 1;
                Some(Message::Question("emit-with-ack", args, attachments, self.asked))
            }
            _ => None,
        }
    }
}

impl Session for Suite {
    fn open(&mut self, opening: &Opening<'_>, _: Scene<'_>, out: &mut Outputs) {
        out.push(Output::Accept);
        if opening.path.starts_with("/socket.io") {
            let auth = opening.auth.map_or("{}", RawValue::get);
            out.push(Output::Send(Message::Event("auth", auth.to_owned())));
        }
    }

    fn identified(&mut self, _: Result<&Identity, Refusal>, _: Scene<'_>, _: &mut Outputs) {}

    fn input(&mut self, input: Input<'_>, _: Scene<'_>, out: &mut Outputs) {
        match input {
            Input::Text(text) => out.push(Output::Send(Message::Text(text.to_owned()))),
            Input::Binary(bytes) => out.push(Output::Send(Message::Binary(bytes.to_vec().into()))),
            Input::Event { name, args, attachments, ack } => {
                out.extend(self.answer(name, joined(args), attachments.to_vec(), ack).map(Output::Send));
            }
            Input::Answer { number, args, attachments } if number <= self.asked => {
                let (args, attachments) = (joined(args), attachments.to_vec());
                out.push(Output::Send(Message::BinaryEvent("emit-with-ack", args, attachments)));
            }
            Input::Answer { .. } => {}
        }
    }

    fn replied(&mut self, _: Token, _: Result<&Outcome, &Error>, _: Scene<'_>, _: &mut Outputs) {}

    fn route(&mut self, _: &Delivery<'_>, _: Scene<'_>) -> Route {
        Route::Skip
    }

    fn closed(&mut self, _: Scene<'_>, _: &mut Outputs) {}
}

/// Nothing is delivered here, so there is nothing to share.
fn nothing(_: Form, _: &Delivery<'_>, _: Scene<'_>) -> Messages {
    Messages::new()
}

fn entry() -> Entry {
    Entry {
        name: "suite",
        session: Box::new(Suite::default()),
        encode: nothing,
        farewell: Farewell::Restart,
        ping_ms: 0,
    }
}

struct SuiteDoor;

impl Doors for SuiteDoor {
    fn way(&self, head: &Head, _: bool, _: &From) -> Way {
        match head.path.as_str() {
            "/socket.io/" => Way::SocketIo,
            "/engine.io/" => Way::Engine(entry()),
            _ => Way::Rest,
        }
    }

    fn namespace(&self, opening: &Opening<'_>) -> Option<Entry> {
        ["/", "/custom"].contains(&opening.namespace).then(entry)
    }

    fn router(&self) -> axum::Router {
        axum::Router::new()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let Arguments { socketio_port, engineio_port } = Arguments::parse();
    let settings = Settings {
        engine: engineio::Config {
            ping_interval: 300,
            ping_timeout: 200,
            max_payload: 1_000_000,
            ..engineio::Config::default()
        },
        sockets: socketio::Config { connect_timeout: 1_000, ..socketio::Config::default() },
        strangers: Allowance { message: 1_000_000, ..Allowance::STRANGER },
        origins: vec!["*".into()],
        ..Settings::default()
    };
    let door: Arc<dyn Doors> = Arc::new(SuiteDoor);
    let address = |port| ([127, 0, 0, 1], port).into();
    let _sockets = alone::serve(address(socketio_port), Arc::clone(&door), settings.clone()).await?;
    let _engine = alone::serve(address(engineio_port), door, settings).await?;
    std::future::pending().await
}
