//! The demo: a server of its own in a temporary folder, and one conversation with a client of each dialect.

use std::fmt::Write as _;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::auth::first_start::FirstCredentials;
use crate::cli::place::{Bound, Place};
use crate::cli::{Exit, Target, Terminal, show};
use crate::config::{BareWs, Config, Sources};
use crate::demo::{Played, Stage, by_hand, play};
use crate::server::Server;

pub(super) const EXIT_CODES: &str = "Exit codes:
  0  everybody saw what they should
  1  somebody missed something, or it was interrupted before the end
  6  the server could not start";

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Stay up afterwards, and print how to join by hand.
    #[arg(long)]
    keep: bool,
}

/// The default listeners, on free ports.
const LISTENERS: [BareWs; 3] = [BareWs::Hive, BareWs::MegaBot, BareWs::Auto];

type Attempt<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(super) fn run(args: &DemoArgs, target: &Target, terminal: &mut Terminal<'_>) -> Exit {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.map_err(Into::into).and_then(|r| r.block_on(perform(args, target, terminal)));
    ended.unwrap_or_else(|error: Box<dyn std::error::Error + Send + Sync>| {
        terminal.note(&format!("roundtable: {error}"));
        Exit::Server
    })
}

/// Everything from the temporary folder to its end; it is gone whatever happens, but for `kill -9`.
async fn perform(args: &DemoArgs, target: &Target, terminal: &mut Terminal<'_>) -> Attempt<Exit> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stopped = async {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    tokio::pin!(stopped);
    let dir = tempfile::Builder::new().prefix("roundtable-demo-").tempdir()?;
    let sources = Sources {
        listen: LISTENERS.iter().map(|bare_ws| format!("127.0.0.1:0={}", bare_ws.as_str())).collect(),
        data: Some(dir.path().to_owned()),
        ..Sources::default()
    };
    let server = Server::start(&Config::load(&sources).map_err(|problems| problems.to_string())?).await?;
    let opened: Vec<_> = server.addresses.iter().copied().flatten().collect();
    let [agents, people, nodes] = *opened.as_slice() else { return Err("a port could not be opened".into()) };
    let credentials = FirstCredentials::read(dir.path())?.ok_or("the first start wrote no credentials")?;
    let stage = Stage { agents, people, nodes, credentials };
    let bound = |(address, bare_ws)| Bound { address, bare_ws, anonymous: true, tls: false };
    let place = Place::here(&opened.into_iter().zip(LISTENERS).map(bound).collect::<Vec<_>>());
    // So that the other commands find this server.
    place.write(dir.path())?;
    let exit = tokio::select! {
        () = &mut stopped => Exit::Refused,
        played = play(&stage) => {
            let told = show(terminal, target, &played, &in_words(&played, &place));
            if told.is_ok() && args.keep {
                let lines = by_hand::lines(&stage, &played.keys, dir.path());
                // With --json the standard output is one JSON value.
                if target.json { terminal.note(&lines) } else { terminal.say(&lines).unwrap_or_default() }
                stopped.await;
            }
            terminal.end(told, if played.problems.is_empty() { Exit::Done } else { Exit::Refused })
        }
    };
    server.stop().await;
    dir.close()?;
    Ok(exit)
}

fn in_words(played: &Played, place: &Place) -> String {
    let mut text = format!("Roundtable {} for this demo\n", place.version);
    for (dialect, address) in place.dialects() {
        let _ = writeln!(text, "  {dialect:<12} {address}");
    }
    text.push_str("\nWho said what\n");
    for said in &played.said {
        let _ = writeln!(text, "  {:<10} {}", said.who, said.text);
    }
    text.push_str("\nWho saw what\n");
    let mut row = |[who, dialect, event, from, role, words]: [&str; 6]| {
        let _ = writeln!(text, "  {who:<10} {dialect:<12} {event:<21} {from:<8} {role:<10} {words}");
    };
    row(["WHO", "DIALECT", "EVENT", "FROM", "ROLE", "TEXT"]);
    let mut seen: Vec<_> = played.seen.iter().collect();
    // What one client saw stays in its order.
    seen.sort_by_key(|seen| seen.who);
    for s in seen {
        row([s.who, s.dialect, &s.event, &s.from, &s.role, &s.text]);
    }
    for problem in &played.problems {
        let _ = write!(text, "\nWRONG: {problem}");
    }
    if played.problems.is_empty() {
        text.push_str("\nEverybody saw what they should, and all in the same order.");
    }
    text
}
