//! Transcripts: what clients send and get, line by line, as `conformance/README.md` describes.
//!
//! [`parse`] reads a file, [`play`] carries it out on a [`Theatre`]: rules and sessions in memory, or a running server.

use crate::session::{Family, Output};

pub mod frame;
pub mod line;
pub mod pattern;
pub mod setup;

pub use line::{Door, Line, Step, parse};
pub use pattern::Names;
pub use setup::SetUp;

/// What a client got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Got {
    /// A message in its readable form (see [`frame::shown`]).
    Frame(String),
    /// The end: `1008 Missing token` on a plain WebSocket, nothing more on Socket.IO and where the line was cut.
    End(String),
}

impl Got {
    /// As it stands in a transcript, after the client's name.
    pub fn line(&self) -> String {
        match self {
            Self::Frame(text) => format!("< {text}"),
            Self::End(text) => format!("x {text}").trim_end().to_owned(),
        }
    }
}

/// Where a transcript is played. Failures are sentences for a person.
pub trait Theatre {
    /// Something that is there before the clients, or that the server itself does. New names go into `names`.
    fn set_up(&mut self, what: &SetUp, names: &mut Names) -> Result<(), String>;
    /// Time passes, in milliseconds.
    fn wait(&mut self, ms: i64) -> Result<(), String>;
    /// A client comes; one of the same name that is gone makes room.
    fn open(&mut self, client: &str, door: &Door) -> Result<(), String>;
    /// A client sends something, as the transcript has it.
    fn send(&mut self, client: &str, text: &str) -> Result<(), String>;
    /// A client goes.
    fn leave(&mut self, client: &str) -> Result<(), String>;
    /// The next thing a client got; `None` if nothing comes.
    fn next(&mut self, client: &str) -> Option<Got>;
    /// Something that somebody got already and no line has asked for.
    fn left_over(&mut self) -> Option<(String, Got)>;
}

/// Plays a transcript to its end. Fails with the line's number and what is wrong.
pub fn play(lines: &[Line], theatre: &mut impl Theatre, names: &mut Names) -> Result<(), String> {
    for line in lines {
        let number = line.number;
        step(line, theatre, names).map_err(|why| format!("{number}: {}\n  {why}", line.text))?;
    }
    nothing_left(theatre).map_err(|why| format!("at the end: {why}"))
}

/// Fails if somebody got something that no line expects.
fn nothing_left(theatre: &mut impl Theatre) -> Result<(), String> {
    match theatre.left_over() {
        Some((client, got)) => Err(format!("not in the transcript: {client} {}", got.line())),
        None => Ok(()),
    }
}

/// Does what one line says; expectations are compared.
fn step(line: &Line, theatre: &mut impl Theatre, names: &mut Names) -> Result<(), String> {
    match &line.step {
        Step::Remark | Step::Skip(_) | Step::OverSockets(..) => Ok(()),
        Step::Expect(client, pattern) => {
            let got = theatre.next(client).ok_or("nothing came")?;
            names
                .matches(pattern, &got.line())
                .map_err(|why| format!("{why}\n  got: {client} {}", got.line()))
        }
        Step::Nothing(_) => nothing_left(theatre),
        other => {
            nothing_left(theatre)?;
            act(other, theatre, names)
        }
    }
}

/// Does what one line says that expects nothing.
pub fn act(step: &Step, theatre: &mut impl Theatre, names: &mut Names) -> Result<(), String> {
    match step {
        Step::Remark | Step::Skip(_) | Step::OverSockets(..) | Step::Expect(..) | Step::Nothing(_) => Ok(()),
        Step::SetUp(what) => theatre.set_up(what, names),
        Step::Wait(ms) => theatre.wait(*ms),
        Step::Open(client, door) => theatre.open(client, &Door::parse(&names.filled(door)?)?),
        Step::Send(client, text) => theatre.send(client, &names.filled(text)?),
        Step::Leave(client) => theatre.leave(client),
    }
}

/// The family of a token by its name in a transcript.
pub fn family(name: &str) -> Option<Family> {
    match name {
        "mxf" => Some(Family::Mxf),
        "aiwm" => Some(Family::Aiwm),
        "open-agi" => Some(Family::OpenAgi),
        "login" => Some(Family::Login),
        "refresh" => Some(Family::Refresh),
        _ => None,
    }
}

/// What a session sends, ends or answers its client with, in readable form; `None` for what no client sees. `plain` tells a
/// plain WebSocket from Socket.IO.
pub fn seen(output: &Output, plain: bool) -> Option<Got> {
    use crate::session::Ending;
    Some(match output {
        Output::Send(message) => Got::Frame(frame::shown(message)),
        Output::Accept => Got::Frame("connect".into()),
        Output::Refuse { message, data } => Got::Frame(frame::refusal(message, data.as_deref())),
        Output::End(Ending::Close(code, reason)) if plain => Got::End(format!("{code} {reason}")),
        Output::End(_) => Got::End(String::new()),
        _ => return None,
    })
}
