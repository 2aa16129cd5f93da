//! The command line: starts the server, and asks a running one.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal as _, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::client::{Client, Failure};
use crate::cli::serve::Serve;

mod blocks;
pub mod client;
mod connections;
mod demo;
mod keeping;
mod nodes;
mod people;
pub mod place;
mod rooms;
pub mod serve;
mod torture;
mod trust;
mod workspaces;

/// What a command ends with, as documented in `--help`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// The server refused, or does not know what was named.
    Refused = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// No server was reached.
    Unreachable = 3,
    /// The admin token is missing or wrong.
    NotAllowed = 4,
    /// The settings are wrong.
    Settings = 5,
    /// The server could not start, or ended with an error.
    Server = 6,
    /// It is done, but the answer could not be written.
    Unwritten = 7,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the server refused, or does not know what was named
  2  wrong arguments
  3  no server was reached
  4  the admin token is missing or wrong
  5  the settings are wrong (serve, check-config)
  6  the server could not start, or ended with an error (serve)
  7  it is done, but the answer could not be written";

/// One realtime server for AI agents: five WebSocket APIs over one durable log.
#[derive(Parser, Debug)]
#[command(name = "roundtable", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Line {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Where the server is and how its answers are shown.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The data directory; a running server's address and the admin token are found there. Default: what the settings say
    /// when serving, else `data`.
    #[arg(long, global = true, value_name = "DIR", env = "ROUNDTABLE_DATA")]
    pub data: Option<PathBuf>,
    /// Address of the running server, such as http://127.0.0.1:3001, instead of the one noted in the data directory.
    #[arg(long, global = true, value_name = "URL", env = "ROUNDTABLE_SERVER")]
    pub server: Option<String>,
    /// The admin token, instead of the one in the data directory.
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "ROUNDTABLE_TOKEN",
        hide_env_values = true,
        // Drawn ones may begin so.
        allow_hyphen_values = true
    )]
    pub token: Option<String>,
    /// The workspace that a command about users, agents, keys, tokens, rooms or the log is for, instead of the default one;
    /// of connections and of what is checked only those of this workspace.
    #[arg(long, global = true, value_name = "NAME")]
    pub workspace: Option<String>,
    /// Certificates in PEM form to trust with an https:// server: its own, or those that vouch for it. The server whose
    /// data directory is here is known without.
    #[arg(long, global = true, value_name = "FILE", env = "ROUNDTABLE_CA")]
    pub ca: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start the server. The first start on a data directory makes its secrets and an administrator.
    #[command(after_help = EXIT_CODES)]
    Serve(serve::SettingArgs),
    /// Start a server on free ports in a temporary folder, let one client of each dialect join, and print who saw what.
    #[command(after_help = demo::EXIT_CODES)]
    Demo(demo::DemoArgs),
    /// Attack servers of its own, each in a temporary folder: kill, full disk, stalled readers and more. Says what it measured
    /// and which promise broke.
    #[command(after_help = torture::EXIT_CODES)]
    Torture(torture::TortureArgs),
    /// Say everything that is wrong with the settings, without starting.
    #[command(after_help = EXIT_CODES)]
    CheckConfig(serve::SettingArgs),
    /// Workspaces: tenants that are closed to each other.
    #[command(subcommand, after_help = EXIT_CODES)]
    Workspace(workspaces::WorkspaceCommand),
    /// Accounts of people.
    #[command(subcommand, after_help = EXIT_CODES)]
    User(people::UserCommand),
    /// Agents.
    #[command(subcommand, after_help = EXIT_CODES)]
    Agent(people::AgentCommand),
    /// API keys of users and MXF channel keys.
    #[command(subcommand, after_help = EXIT_CODES)]
    Key(people::KeyCommand),
    /// Signed tokens.
    #[command(subcommand, after_help = EXIT_CODES)]
    Token(people::TokenCommand),
    /// Rooms and what was said in them.
    #[command(subcommand, after_help = EXIT_CODES)]
    Room(rooms::RoomCommand),
    /// Watch the log, of one room or of all, until interrupted. Messages of ephemeral rooms are in no log.
    #[command(after_help = EXIT_CODES)]
    Tail(rooms::TailArgs),
    /// Say something in a room. Who speaks becomes a member.
    #[command(after_help = EXIT_CODES)]
    Send(rooms::SendArgs),
    /// Connections that are open now.
    #[command(subcommand, after_help = EXIT_CODES)]
    Connections(connections::ConnectionsCommand),
    /// Addresses that are refused because of what they did.
    #[command(subcommand, after_help = EXIT_CODES)]
    Block(blocks::BlockCommand),
    /// Node ids and the keys they belong to.
    #[command(subcommand, after_help = EXIT_CODES)]
    Node(nodes::NodeCommand),
    /// Draw a new admin token, shown once and noted in credentials.json where that is kept. The old one opens nothing any more;
    /// nobody's connection ends by it.
    #[command(after_help = EXIT_CODES)]
    AdminToken,
    /// Show the settings in force. What was changed by anybody is marked.
    #[command(after_help = EXIT_CODES)]
    Settings,
    /// Check that every record of the log is as it was written. Ends with 1 and the first that is not.
    #[command(after_help = EXIT_CODES)]
    Verify,
    /// Copy the log into a file while the server runs.
    #[command(after_help = EXIT_CODES)]
    Backup(keeping::BackupArgs),
}

impl Command {
    /// Whether it is about one workspace, rather than about the server.
    const fn is_of_one_workspace(&self) -> bool {
        match self {
            Self::User(_) | Self::Agent(_) | Self::Key(_) | Self::Token(_) | Self::Room(_) => true,
            Self::Tail(_) | Self::Send(_) | Self::Verify | Self::Connections(_) => true,
            Self::Serve(_)
            | Self::Demo(_)
            | Self::Torture(_)
            | Self::CheckConfig(_)
            | Self::Workspace(_)
            | Self::Backup(_)
            | Self::AdminToken
            | Self::Settings
            | Self::Block(_)
            | Self::Node(_) => false,
        }
    }
}

/// What a command reads and writes.
pub struct Terminal<'a> {
    /// Answers.
    pub out: &'a mut dyn Write,
    /// Everything else.
    pub err: &'a mut dyn Write,
    /// Passwords.
    pub input: &'a mut dyn BufRead,
    /// A person sits at the input: nothing is read from there.
    pub interactive: bool,
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Terminal(interactive: {})", self.interactive)
    }
}

impl Terminal<'_> {
    /// A line for a program or for a person. Fails with [`Failure::Closed`] when nobody reads any more, and with
    /// [`Failure::Unwritten`] when it cannot be written.
    fn say(&mut self, line: &str) -> Result<(), Failure> {
        let said = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        said.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Unwritten { happened: None, why: error.to_string() },
        })
    }

    /// Ends a command: what could not be done, or not be written, is noted.
    fn end(&mut self, ended: Result<(), Failure>, done: Exit) -> Exit {
        match ended {
            Ok(()) | Err(Failure::Closed) => done,
            Err(failure) => {
                self.note(&format!("roundtable: {failure}"));
                failure.exit()
            }
        }
    }

    /// A note beside the answer. That it cannot be written changes nothing.
    fn note(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }
}

/// Runs the command line of this process. `serve` starts the server.
pub fn main(serve: Serve) -> std::process::ExitCode {
    let stdin = io::stdin();
    let interactive = stdin.is_terminal();
    let (mut out, mut err, mut input) = (io::stdout(), io::stderr(), stdin.lock());
    let mut terminal = Terminal { out: &mut out, err: &mut err, input: &mut input, interactive };
    run(std::env::args_os(), &mut terminal, serve).into()
}

/// Runs one command line.
pub fn run(args: impl IntoIterator<Item = OsString>, terminal: &mut Terminal<'_>, serve: Serve) -> Exit {
    let line = match Line::try_parse_from(args) {
        Ok(line) => line,
        Err(error) => {
            let text = error.render().to_string();
            if error.use_stderr() {
                terminal.note(text.trim_end());
                return Exit::Usage;
            }
            let said = terminal.say(text.trim_end());
            return terminal.end(said, Exit::Done);
        }
    };
    let Line { target, command } = line;
    if target.workspace.is_some() && !command.is_of_one_workspace() {
        terminal.note("roundtable: --workspace has no meaning for this command");
        return Exit::Usage;
    }
    let answered = match command {
        Command::Serve(args) => return serve::start(&args, &target, terminal, serve),
        Command::Demo(args) => return demo::run(&args, &target, terminal),
        Command::Torture(args) => return torture::run(&args, &target, terminal),
        Command::CheckConfig(args) => return serve::check(&args, &target, terminal),
        Command::Workspace(command) => command.run(&target, terminal),
        Command::User(command) => command.run(&target, terminal),
        Command::Agent(command) => command.run(&target, terminal),
        Command::Key(command) => command.run(&target, terminal),
        Command::Token(command) => command.run(&target, terminal),
        Command::Room(command) => command.run(&target, terminal),
        Command::Tail(args) => rooms::tail(&args, &target, terminal),
        Command::Connections(command) => command.run(&target, terminal),
        Command::Send(args) => rooms::send(&args, &target, terminal),
        Command::Block(command) => command.run(&target, terminal),
        Command::Node(command) => command.run(&target, terminal),
        Command::AdminToken => keeping::admin_token(&target, terminal),
        Command::Settings => keeping::settings(&target, terminal),
        Command::Verify => keeping::verify(&target, terminal),
        Command::Backup(args) => keeping::backup(&args, &target, terminal),
    };
    terminal.end(answered, Exit::Done)
}

/// A client for the server that the arguments name.
fn client(target: &Target) -> Result<Client, Failure> {
    Client::find(target)
}

/// Prints an answer: as JSON, or in words.
fn show(
    terminal: &mut Terminal<'_>,
    target: &Target,
    answer: &impl serde::Serialize,
    words: &str,
) -> Result<(), Failure> {
    if !target.json {
        return terminal.say(words);
    }
    let text = serde_json::to_string(answer).map_err(|error| Failure::Answer(error.to_string()))?;
    terminal.say(&text)
}

/// Prints the answer to something that changed the server. If it cannot be written, it has happened all the same, and
/// `happened` says so: the answer itself, unless that holds a secret.
fn done(
    terminal: &mut Terminal<'_>,
    target: &Target,
    (answer, words): (&impl serde::Serialize, &str),
    happened: &str,
) -> Result<(), Failure> {
    show(terminal, target, answer, words).map_err(|failure| match failure {
        Failure::Unwritten { why, .. } => Failure::Unwritten { happened: Some(happened.to_owned()), why },
        other => other,
    })
}

/// The same where the answer in words is what happened.
fn changed(
    terminal: &mut Terminal<'_>,
    target: &Target,
    answer: &impl serde::Serialize,
    words: &str,
) -> Result<(), Failure> {
    done(terminal, target, (answer, words), words)
}

/// Prints a list: as one JSON value, or a line for each.
fn list(
    terminal: &mut Terminal<'_>,
    target: &Target,
    answer: &impl serde::Serialize,
    mut lines: impl Iterator<Item = String>,
) -> Result<(), Failure> {
    if target.json {
        return show(terminal, target, answer, "");
    }
    lines.try_for_each(|line| terminal.say(&line))
}

#[cfg(test)]
mod tests;
