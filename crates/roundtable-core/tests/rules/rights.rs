//! Who may ask for what: every command, of every kind of principal, with own, shared and foreign things. The table is the
//! data below; each cell is played, and `docs/rights.md` shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::rights_page::show;
use super::script::Play;
use roundtable_core::command::Command;
use roundtable_core::state::State;

/// The kinds of principals, each with somebody of it: the columns.
const WHO: [(&str, &str); 8] = [
    ("server", "system"),
    ("owner", "user:ann"),
    ("editor", "user:ed"),
    ("viewer", "user:vic"),
    ("agent", "agent:a"),
    ("guest", "guest:g"),
    ("visitor", "visitor:a/v"),
    ("node", "node:n"),
];

/// What is asked, about which thing, by whom it may be (`+`, `-`, and `.` where somebody of this kind has no such thing), and
/// how it is asked: a line of a play. `zoe` is a viewer whose things are foreign; `b` is an agent of hers.
const TABLE: &str = "
# The workspace
look at nothing | | + + + + + + + + | look
let time pass | | + - - - - - - - | tick
begin a workspace | | - - - - - - - - | create-workspace again
set the domain key | | + - - - - - - - | set-domain-key 11
begin a server process | | + + + + + + + + | start-server s2
# Accounts and credentials
add an account | a viewer | + + + - - - - - | add-user new viewer
add an account | an owner | + + - - - - - - | add-user new owner
change an account | its own | . + + - . . . . | change-user {me} disabled=false
change an account | a viewer's | + + + - - - - - | change-user zoe disabled=true
change an account | an owner's | + + - - - - - - | change-user ann disabled=false
remove an account | a viewer's | + + + - - - - - | remove-user zoe
remove an account | an owner's | + + - - - - - - | remove-user ann
add a key | for itself | . + + + . . . . | add-key new user {me}
add a key | for another user | + + + - - - - - | add-key new user zoe
add a key | for its own agent in its own room | . + + + + . . . | add-key new room {agent} {own}
add a key | for a foreign agent in its own room | . + + - - - - . | add-key new room b {own}
add a key | for its own agent in a foreign room | + + + - - - - - | add-key new room {agent} plaza
revoke a key | its own | . + + + . . . . | revoke-key key-{me}
revoke a key | another user's | + + + - - - - - | revoke-key key-zoe
revoke a token | its own | + + + + + + + + | revoke-token t 2000000 bearer={who}
revoke a token | another user's | + + + - - - - - | revoke-token t 2000000 bearer=user:zoe
note a visitor's token | | + + + - - - - - | note-token t visitor:b/w b
# Agents
register an agent | a new one | + + + + - - - - | register new
register an agent | its own again | . + + + + . . . | register {agent} role=lead
register an agent | a foreign one again | + + + - - - - - | register b role=lead
make an agent that others work for | | + + + - - + - - | host new
change an agent | its own | . + + + + . . . | update-agent {agent} role=lead
change an agent | a foreign one | + + + - - + - - | update-agent b role=lead
change what an agent is told at its start | its own | . + + + + . . . | update-agent {agent} config={}
change what an agent is told at its start | a foreign one | + + + - - - - - | update-agent b config={}
suspend an agent | a foreign one | + + + - - - - - | update-agent b suspended=true
set an agent's status | its own | . + + + + . . . | set-status {agent} busy
set an agent's status | a foreign one | + + + - - + - - | set-status b busy
pause an agent | its own | . + + + + . . . | pause-agent {agent}
pause an agent | a foreign one | + + + - - + - - | pause-agent b
let an agent go on | a foreign one | + + + - - + - - | resume-agent b
set an agent's secret | its own | . + + + + . . . | set-secret {agent}
set an agent's secret | a foreign one | + + + - - - - - | set-secret b
remove an agent | its own | . + + + + . . . | remove-agent {agent}
remove an agent | a foreign one | + + + - - + - - | remove-agent b
# Rooms
make a room | | + + + + + - - - | create-room new
make a room by entering it | an open one | + + + + + + - - | join new create
make a room by entering it | a private one | + + + + + + - - | join new create entry=private
enter a room | an open one | + + + + + + - - | join plaza
enter a room | one for members | + + + - - - - - | join den
enter a room | a private one | + + + - - - - - | join vault
enter a room | a private one that it is invited to | . + + + . . . . | join club
enter a room | a foreign agent's own | + + + + + - - - | join {theirs}
enter a room | a conversation of two others | + + + - - - - - | join {pair}
enter a room | for its own agent, an open one | . + + + + . . . | join plaza member=agent:{agent}
enter a room | for a foreign agent, an open one | + + + - - - - - | join plaza member=agent:b
bring in an agent | into its own room | . + + + + + - . | invite {own} agent:b
bring in an agent | into a room that it is in | . + + + + - . . | invite hall agent:b
bring in an agent | into a room that it is not in | + + + - - - - - | invite plaza agent:b
ask a user to come in | into its own room | . + + + + + - . | invite {own} user:zoe
ask a user to come in | into a room that it is not in | + + + - - - - - | invite plaza user:vic
enter an agent's own room | a foreign agent's | - + + + + - - - | enter-own b
open its conversation with an agent | its own agent's | - + + + - - + - | pair a
open its conversation with an agent | another agent's | - + + + - - - - | pair b
leave a room | a room that it is in | . + + + + + . . | leave hall
leave a room | its own conversation | . . . . . . + . | leave {own}
take somebody out of a room | of its own room | . + + + + + - . | leave {own} agent:c
take somebody out of a room | of a room that it is in | + + + - - - - - | leave hall user:zoe
change a room | its own | . + + + + + - . | update-room {own} name=x
change a room | a room that it is in | + + + - - - - - | update-room hall name=x
remove a room | its own | . + + - - - - . | remove-room {own}
remove a room | a foreign one | + + + - - - - - | remove-room plaza
sum up a room | its own | . + + + + + - . | summarise {own} x
sum up a room | a room that it is in | + + + - - - - - | summarise hall x
# Talking
say something | in its own room | . + + + + + + . | post {own} hi
say something | in a room that it is in | . + + + + + . . | post hall hi
say something | in an open room that it is not in | - - - - - - - - | post plaza hi
say something | in a private room that it is not in | - - - - - - - - | post vault hi
say something | as its own agent | . + + + + . . . | post hall hi from=agent:{agent}
say something | as a foreign agent that is there | + + + - - - - - | post hall hi from=agent:b
take back a message | its own | . + + + + + + . | delete {own} {mine} {who}
take back a message | of somebody else | + + + - - - - - | delete hall {said} user:zoe
say something to one agent | | + + + + + - - - | direct b psst
note what it has read | in its own room | . + + + + + + . | read {own} 1
note what it has read | in a room that it is not in | - - - - - - - - | read plaza 1
show that it types | in its own room | . + + + + + + . | type {own} on
show that it types | in a room that it is not in | - - - - - - - - | type plaza on
do something in a room | in its own room | . + + + + + + . | act {own} point
do something in a room | in a room that it is not in | - - - - - - - - | act plaza point
# Connections
be here | | + + + + + + + + | connect
be here for direct messages | | + + + + + + + + | connect-for-direct
be gone | | + + + + + + + + | disconnect
note what has reached it | | + + + + + + + + | reached 1
note that direct messages arrived | | + + + + + + + + | delivered 1
keep a seat | a new one | + + + + + + - - | keep-seat new
keep a seat | another's | - - - - - - - - | keep-seat seat-of-zoe
# Watching
raise an alert | | + - - - - - - - | raise cpu critical
clear an alert | | + - - - - - - - | clear memory
look after an alert | | + + + - - + - - | acknowledge {alert}
ask for alerts beyond a limit | | + + + - - + - - | set-threshold t9 name=new
no longer ask for alerts | | + + + - - + - - | remove-threshold t1
note something suspicious | in its own name | + + + + - - - + | notice suspicious {me}
note something suspicious | in another's name | + - - - - - - - | notice suspicious zoe
note an attack | | + - - - - - - - | notice intrusion 192.0.2.1
end blocks | | + - - - - - - - | unblock 192.0.2.1
say how the server is | | + - - - - - - - | set-health log
note a fault | | + - - - - - - - | note-fault log
tell what was measured | | + - - - - - - - | measure
mark a position | for who watches activity | + + + + - + - - | mark activity
mark a position | for who watches security | + + + + - - - + | mark security
report to all who watch | | + + + - - - - - | mark activity report
# Nodes
join the network | as itself | . . . . . . . + | join-network {me}
join the network | as another node | + - - - - - - - | join-network m
leave the network | as another node | + - - - - - - - | leave-network m
bind a node id to a key | its own, the first key | . . . . . . . + | set-node-key {me} k
bind a node id to a key | another's, the first key | + - - - - - - - | set-node-key m k
";

/// A name for every command; a new one does not compile without.
macro_rules! commands {
    ($($name:literal $pattern:pat,)*) => {
        const COMMANDS: &[&str] = &[$($name),*];

        fn name(command: &Command) -> &'static str {
            match command { $($pattern => $name,)* }
        }
    };
}

commands! {
    "Look" Command::Look,
    "Tick" Command::Tick,
    "CreateWorkspace" Command::CreateWorkspace(_),
    "SetDomainKey" Command::SetDomainKey(_),
    "StartServer" Command::StartServer(_),
    "JoinNetwork" Command::JoinNetwork(_),
    "LeaveNetwork" Command::LeaveNetwork(_),
    "SetNodeKey" Command::SetNodeKey(_),
    "AddUser" Command::AddUser(_),
    "ChangeUser" Command::ChangeUser(_),
    "RemoveUser" Command::RemoveUser(_),
    "AddKey" Command::AddKey(_),
    "RevokeKey" Command::RevokeKey(_),
    "RevokeToken" Command::RevokeToken(_),
    "NoteToken" Command::NoteToken(_),
    "RegisterAgent" Command::RegisterAgent(_),
    "HostAgent" Command::HostAgent(_),
    "UpdateAgent" Command::UpdateAgent(..),
    "SetAgentStatus" Command::SetAgentStatus(..),
    "PauseAgent" Command::PauseAgent(..),
    "ResumeAgent" Command::ResumeAgent(_),
    "SetAgentSecret" Command::SetAgentSecret(..),
    "RemoveAgent" Command::RemoveAgent(..),
    "CreateRoom" Command::CreateRoom(_),
    "JoinRoom" Command::JoinRoom(_),
    "Invite" Command::Invite(..),
    "EnterOwnRoom" Command::EnterOwnRoom(_),
    "OpenPair" Command::OpenPair(_),
    "LeaveRoom" Command::LeaveRoom(..),
    "UpdateRoom" Command::UpdateRoom(..),
    "RemoveRoom" Command::RemoveRoom(_),
    "Summarise" Command::Summarise(..),
    "MarkRead" Command::MarkRead(..),
    "Post" Command::Post(_),
    "DeleteMessage" Command::DeleteMessage(_),
    "Direct" Command::Direct(_),
    "MarkDelivered" Command::MarkDelivered(_),
    "Connect" Command::Connect(_),
    "ConnectForDirect" Command::ConnectForDirect,
    "MarkReached" Command::MarkReached(_),
    "Disconnect" Command::Disconnect,
    "KeepSeat" Command::KeepSeat(_),
    "Type" Command::Type(..),
    "Act" Command::Act(_),
    "RaiseAlert" Command::RaiseAlert(_),
    "AcknowledgeAlert" Command::AcknowledgeAlert(_),
    "ClearAlert" Command::ClearAlert(_),
    "SetThreshold" Command::SetThreshold(_),
    "RemoveThreshold" Command::RemoveThreshold(_),
    "SetHealth" Command::SetHealth(_),
    "NoteFault" Command::NoteFault(_),
    "Measure" Command::Measure(_),
    "Notice" Command::Notice(_),
    "LiftBlocks" Command::LiftBlocks(_),
    "Mark" Command::Mark(..),
}

/// The workspace in which everything is asked, and what each kind calls its own there.
struct Place {
    play: Play,
    /// In the order of the columns.
    own: [Own; WHO.len()],
}

/// What the braces of the lines stand for.
type Own = BTreeMap<&'static str, String>;

fn made(play: &mut Play, line: &str) -> String {
    let follows = play.ask(line);
    let room = follows.split_whitespace().nth(1).unwrap_or_else(|| panic!("{line}: {follows}"));
    room.trim_end_matches(',').to_owned()
}

/// What is there before anybody is asked; `zoe` has what is foreign.
const BEGINNING: &str = "
        system create-workspace home
        system add-user ann owner
        system add-user ed editor
        system add-user vic viewer
        system add-user zoe viewer
        agent:a register a
        user:zoe register b
        user:zoe register c
        system raise memory warning
        user:ann set-threshold t1 name=old
        user:zoe/99 connect
        user:zoe/99 keep-seat seat-of-zoe
        user:zoe add-key key-zoe user zoe
        user:zoe create-room hall
        user:zoe join hall member=agent:b
        user:zoe create-room plaza
        user:zoe create-room den entry=members
        user:zoe create-room vault entry=private
        user:zoe create-room club entry=private
        guest:g join own-g create entry=private
        guest:g join hall
        guest:g invite own-g agent:c
        agent:a create-room own-a
        agent:a join hall
        agent:a invite own-a agent:c
";

/// What each user has besides.
const OF_USER: &str = "
    user:USER register of-USER
    user:USER create-room own-USER
    user:USER invite own-USER agent:c
    user:USER join hall
    user:USER join hall member=agent:of-USER
    user:USER add-key key-USER user USER
    user:zoe invite club user:USER
";

fn all(play: &mut Play, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let follows = play.ask(line);
        assert!(!follows.starts_with('!'), "{line}: {follows}");
    }
}

fn place() -> Place {
    let mut play = Play::from(State::default(), 1_000_000);
    all(&mut play, BEGINNING);
    for user in ["ann", "ed", "vic"] {
        all(&mut play, &OF_USER.replace("USER", user));
    }
    all(&mut play, "user:zoe post hall foreign");
    let said = play.state.head.0.to_string();
    let theirs = made(&mut play, "user:zoe enter-own b");
    let pair = made(&mut play, "user:zoe pair b");
    let visited = made(&mut play, "visitor:a/v pair a");
    let alert = play.state.alert("memory").expect("an alert").raised.alert.to_string();
    let own = WHO.map(|(kind, who)| {
        let me = who.rsplit([':', '/']).next().unwrap_or(who);
        let room = if kind == "visitor" { visited.clone() } else { format!("own-{me}") };
        let agent = if kind == "agent" { me.to_owned() } else { format!("of-{me}") };
        let posted = play.ask(&format!("{who} post {room} mine"));
        let mine = if posted.starts_with('!') { 0 } else { play.state.head.0 };
        BTreeMap::from([
            ("who", who.to_owned()),
            ("me", me.to_owned()),
            ("own", room),
            ("agent", agent),
            ("mine", mine.to_string()),
            ("said", said.clone()),
            ("theirs", theirs.clone()),
            ("pair", pair.clone()),
            ("alert", alert.clone()),
        ])
    });
    Place { play, own }
}

impl Place {
    /// What becomes of a line that somebody asks, in a copy of the place.
    fn ask(&self, (who, own): (&str, &Own), line: &str) -> (Command, bool) {
        let mut line = line.to_owned();
        for (name, value) in own {
            line = line.replace(&format!("{{{name}}}"), value);
        }
        let mut play = Play::from(self.play.state.clone(), self.play.now + 1_000_000);
        let (_, command, decided) = play.decide(&format!("{who}/7 {line}"));
        (command, decided.is_ok())
    }
}

#[test]
fn every_command_is_for_whom_the_table_says() {
    let place = place();
    let (mut wrong, mut seen) = (String::new(), BTreeSet::new());
    let mut shown = String::new();
    for row in TABLE.lines().filter(|row| !row.is_empty()) {
        if let Some(title) = row.strip_prefix("# ") {
            let kinds = WHO.map(|(kind, _)| kind).join(" | ");
            let _ = write!(
                shown,
                "\n### {title}\n\n| may | whose, where | {kinds} |\n|{}\n",
                " --- |".repeat(WHO.len() + 2)
            );
            continue;
        }
        let mut parts = row.split('|').map(str::trim);
        let [what, thing, cells, line] = [(); 4].map(|()| parts.next().unwrap_or_else(|| panic!("{row}")));
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), WHO.len(), "{row}");
        let mut played = Vec::new();
        for ((cell, (_, who)), own) in cells.iter().zip(WHO).zip(&place.own) {
            if *cell == "." {
                played.push(".");
                continue;
            }
            let (command, allowed) = place.ask((who, own), line);
            seen.insert(name(&command));
            played.push(if allowed { "+" } else { "-" });
        }
        if played != cells {
            let _ = writeln!(wrong, "{what} | {thing} | {} | {line}", played.join(" "));
        }
        let words: Vec<&str> = cells
            .iter()
            .map(|cell| match *cell {
                "+" => "yes",
                "-" => "no",
                _ => "",
            })
            .collect();
        let _ = writeln!(shown, "| {what} | {thing} | {} |", words.join(" | "));
    }
    assert!(wrong.is_empty(), "these rows are played otherwise:\n{wrong}");
    let missing: Vec<_> = COMMANDS.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "commands without a row: {missing:?}");
    show("commands", &shown);
}
