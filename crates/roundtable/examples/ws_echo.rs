//! Sends every WebSocket message back, through exactly the product's transport: a target for the Autobahn suite.
//!
//! `cargo run --release --example ws_echo -- --port 3102`

use std::sync::Arc;

use clap::Parser;
use roundtable::transport::http::From;
use roundtable::transport::{Allowance, Doors, Entry, Farewell, Head, Settings, Way, alone};
use roundtable_core::delivery::Delivery;
use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_dialects::pace::Limit;
use roundtable_dialects::session::{
    Form, Identity, Input, Message, Messages, Opening, Output, Outputs, Refusal, Route, Scene, Session, Token,
};

#[derive(Parser)]
struct Arguments {
    /// The port on 127.0.0.1.
    #[arg(long, default_value_t = 3102)]
    port: u16,
}

/// Nobody is told apart here, and nobody is slowed down.
const UNLIMITED: Limit = Limit { per_second: u32::MAX, burst: u32::MAX };

/// Says everything back.
struct Echo;

impl Session for Echo {
    fn open(&mut self, _: &Opening<'_>, _: Scene<'_>, _: &mut Outputs) {}

    fn identified(&mut self, _: Result<&Identity, Refusal>, _: Scene<'_>, _: &mut Outputs) {}

    fn input(&mut self, input: Input<'_>, _: Scene<'_>, out: &mut Outputs) {
        match input {
            Input::Text(text) => out.push(Output::Send(Message::Text(text.to_owned()))),
            Input::Binary(bytes) => out.push(Output::Send(Message::Binary(bytes.to_vec().into()))),
            Input::Event { .. } | Input::Answer { .. } => {}
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

struct EchoDoor;

impl Doors for EchoDoor {
    fn way(&self, _: &Head, _: bool, _: &From) -> Way {
        Way::WebSocket(Entry {
            name: "echo",
            session: Box::new(Echo),
            encode: nothing,
            farewell: Farewell::Restart,
            ping_ms: 30_000,
        })
    }

    fn namespace(&self, _: &Opening<'_>) -> Option<Entry> {
        None
    }

    fn router(&self) -> axum::Router {
        axum::Router::new()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let Arguments { port } = Arguments::parse();
    // The suite sends messages of 16 MiB, and reads them only when it has written them all.
    let most = Allowance { message: 16 << 20, read: 64 << 10, queue: 64 << 20, pace: UNLIMITED };
    let settings = Settings { max_message: most.message, strangers: most, ..Settings::default() };
    let _running = alone::serve(([127, 0, 0, 1], port).into(), Arc::new(EchoDoor), settings).await?;
    std::future::pending().await
}
