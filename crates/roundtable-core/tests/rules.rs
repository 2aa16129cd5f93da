//! The rules, as plays: commands in, events out. How to read a line is said in `rules/script.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is missing"
)]

#[path = "rules/holdings.rs"]
mod holdings;
#[path = "rules/rights.rs"]
mod rights;
#[path = "rules/rights_page.rs"]
mod rights_page;
#[path = "rules/script.rs"]
mod script;

use roundtable_core::access;
use roundtable_core::delivery::Topic;
use roundtable_core::ids::{AgentId, Principal, RoomId, UserId};
use script::{Play, play};

fn principal(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

#[test]
fn workspaces_and_accounts() {
    play(
        "
        system create-workspace again -> ! Conflict
        user:ann create-workspace mine -> ! Conflict
        user:ann look -> nothing

        // Who runs the workspace makes accounts, nobody above their own role.
        user:ed add-user eve editor -> user.added eve
        user:ed add-user top owner -> ! Forbidden
        user:ann add-user top owner -> user.added top
        user:ann add-user top viewer -> ! Conflict username
        user:vic add-user kim viewer -> ! Forbidden
        agent:a add-user kim viewer -> ! Forbidden
        guest:g add-user kim viewer -> ! Forbidden

        user:ed change-user ann role=viewer -> ! Forbidden
        user:ed change-user eve role=owner -> ! Forbidden
        user:ann change-user nobody disabled=true -> ! UserNotFound
        user:ann change-user ed disabled=true -> user.changed
        // A disabled account runs nothing any more.
        user:ed add-user kim viewer -> ! Forbidden
        ",
    );
}

#[test]
fn a_removed_account_leaves_nothing_to_who_takes_its_name() {
    let mut play = play(
        "
        user:vic create-room r -> room.created r, room.joined r user:vic
        user:vic add-key k1 user vic -> key.added
        user:vic/1 connect -> presence.connected user:vic first
        user:ed remove-user ann -> ! Forbidden
        user:vic remove-user vic -> ! Forbidden
        user:ed remove-user nobody -> ! UserNotFound
        user:ed remove-user vic -> key.revoked, room.left r user:vic, user.removed vic
        user:ed remove-user vic -> ! UserNotFound
        user:vic/1 disconnect -> presence.disconnected user:vic last
        user:ed add-user vic viewer -> user.added vic
        user:vic update-agent c role=cook -> ! Forbidden
        user:vic update-room r name=mine -> ! Forbidden
        ",
    );
    let vic = principal("user:vic");
    assert_eq!(play.state.rooms_of(&vic).count(), 0);
    assert!(play.state.presence(&vic).is_none(), "it was never here");
    play.lines("user:ed update-agent c role=cook -> agent.updated");
}

#[test]
fn a_domain_key_is_replaced_by_the_operator_alone() {
    let play = play(
        "
        user:ann set-domain-key 11 -> ! Forbidden
        system set-domain-key 11 -> workspace.key_set
        ",
    );
    assert_eq!(play.state.domain_key_hash, "11");
}

#[test]
fn a_removed_room_is_gone_and_its_id_with_it() {
    let mut play = play(
        "
        user:vic create-room r -> room.created r, room.joined r user:vic
        user:vic add-key k1 room z r -> key.added
        agent:a join r -> room.joined r agent:a
        user:vic remove-room r -> ! Forbidden
        user:ed remove-room nowhere -> ! RoomNotFound
        user:ed remove-room r -> key.revoked, room.updated r, room.removed r
        agent:a post r hi -> ! RoomNotFound
        agent:a join r -> ! RoomNotFound
        agent:a join r create -> ! RoomClosed roomId
        user:vic create-room r -> ! RoomClosed roomId
        user:ed remove-room r -> ! RoomNotFound
        ",
    );
    assert_eq!(play.state.rooms_of(&principal("user:vic")).count(), 0);
    play.lines("user:vic create-room s -> room.created s, room.joined s user:vic");
}

#[test]
fn keys_and_tokens() {
    let play = play(
        "
        user:vic add-key k1 user vic -> key.added
        user:vic add-key k1 user vic -> ! Conflict
        user:vic add-key k2 user ann -> ! Forbidden
        user:ed add-key k2 user vic -> key.added
        user:ed add-key k3 user nobody -> ! UserNotFound

        user:vic create-room r -> room.created r, room.joined r user:vic
        user:vic add-key k4 room z r -> key.added
        user:vic add-key k5 room c r -> key.added
        // A key makes its bearer an agent, so it is given to one's own agents only.
        user:vic add-key k6 room a r -> ! Forbidden
        user:vic add-key k6 room z nowhere -> ! RoomNotFound
        agent:b add-key k6 room b r -> ! Forbidden

        agent:b revoke-key k1 -> ! Forbidden
        user:vic revoke-key k9 -> ! KeyNotFound
        user:vic revoke-key k1 -> key.revoked
        user:vic revoke-key k1 -> nothing
        user:vic revoke-key k4 -> key.revoked
        user:ann revoke-key k2 -> key.revoked

        // A token is ended by its bearer, by who may act as it, and by who runs the workspace.
        user:vic revoke-token t 2000000 -> ! Forbidden
        agent:b revoke-token t 2000000 bearer=user:vic -> ! Forbidden
        guest:g revoke-token t 2000000 bearer=user:vic -> ! Forbidden
        user:vic revoke-token t 2000000 bearer=user:vic -> token.revoked
        user:vic revoke-token t 2000000 bearer=user:vic -> repeated
        user:vic revoke-token of-c 2000000 bearer=agent:c -> token.revoked
        user:ed revoke-token of-b 2000000 bearer=agent:b -> token.revoked
        system revoke-token any 2000000 -> token.revoked
        ",
    );
    assert!(play.state.token_revoked("t"));
    assert!(play.state.keys().filter(|key| !key.revoked).count() == 1);
}

#[test]
fn agents() {
    let mut play = play(
        "
        agent:a register a -> nothing
        agent:a register a role=lead -> agent.updated
        agent:a register d -> ! Forbidden
        agent:a register b role=lead -> ! Forbidden
        guest:g register g -> ! Forbidden
        user:vic register d name= -> ! InvalidField name
        user:vic register d name=x*201 -> ! InvalidField name
        user:vic register d can=cook proficiency=1.5 -> ! InvalidField capabilities
        user:vic register d metadata=[] -> ! InvalidField metadata
        user:vic register d name=x*200 can=cook -> agent.registered d

        // The owner speaks for an agent, and who runs the workspace; a stranger does not.
        user:vic update-agent c role=cook -> agent.updated
        user:vic update-agent c -> nothing
        user:vic update-agent a role=cook -> ! Forbidden
        user:ed update-agent c name=x*201 -> ! InvalidField name
        user:ed update-agent nobody role=cook -> ! AgentNotFound
        user:vic>agent:c look -> nothing
        user:vic>agent:a look -> ! Forbidden
        agent:a>agent:b look -> ! Forbidden
        guest:g>agent:a look -> ! Forbidden
        user:ed>agent:a look -> nothing
        system>agent:a look -> nothing
        user:ed>user:vic look -> ! Forbidden

        agent:a set-status a busy -> agent.status_changed a offline>busy set
        agent:a set-status a busy -> nothing
        agent:b set-status a away -> ! Forbidden
        agent:a set-secret a -> agent.secret_set
        agent:b set-secret a -> ! Forbidden

        user:vic update-agent c suspended=true -> ! Forbidden
        user:ed update-agent c suspended=true -> agent.updated
        agent:c/1 connect -> ! Suspended
        user:ed update-agent c suspended=false -> agent.updated
        agent:c/1 connect -> agent.status_changed c offline>online connected, presence.connected agent:c first

        agent:a remove-agent b -> ! Forbidden
        agent:b remove-agent b -> agent.removed b
        agent:b remove-agent b -> ! AgentNotFound
        agent:b register b -> agent.registered b
        ",
    );
    play.lines(
        r#"
        agent:a register a metadata={"x":1,"y":2} -> agent.updated
        agent:a update-agent a metadata={"y":3} -> agent.updated
        agent:a update-agent a metadata={"y":3} status=away -> agent.updated, agent.status_changed a busy>away set_by_agent
        agent:a update-agent a metadata={"y":3} status=away -> agent.updated
        // Metadata is merged; the same again is no change.
        agent:a register a metadata={"x":1} -> nothing
        "#,
    );
    let card = &play.state.agent(&AgentId::new("a").unwrap()).unwrap().card;
    assert_eq!(card.metadata.as_str(), r#"{"x":1,"y":3}"#);
    assert_eq!(card.role.as_deref(), Some("lead"), "a role is kept when a client registers without one");
}

#[test]
fn nobody_gains_a_room_by_taking_an_agents_name() {
    let play = play(
        "
        agent:a create-room p entry=private -> room.created p, room.joined p agent:a
        agent:b join p by-key -> room.joined p agent:b
        agent:a direct b psst -> message.direct agent:a>agent:b psst
        agent:b remove-agent b -> room.left p agent:b, agent.removed b
        user:vic register b -> agent.registered b
        user:vic>agent:b post p hello -> ! RoomNotFound

        // Not registered, but it takes part: by a key, in a room, on a connection.
        user:ed add-key k room z p -> key.added
        user:vic register z -> ! Forbidden
        user:ed revoke-key k -> key.revoked
        user:vic register z -> agent.registered z
        agent:y join p by-key -> room.joined p agent:y
        user:vic register y -> ! Forbidden
        agent:y register y -> agent.registered y
        agent:x/1 connect -> presence.connected agent:x first
        user:vic register x -> ! Forbidden
        user:ed register x -> agent.registered x

        // In rooms of one's own the name opens nothing new.
        user:vic create-room mine -> room.created mine, room.joined mine user:vic
        user:vic add-key l room w mine -> key.added
        user:vic register w -> agent.registered w
        ",
    );
    assert!(play.state.waiting(&principal("agent:b")).is_empty(), "what waited was for somebody else");
}

#[test]
fn agents_without_a_connection() {
    play(
        "
        user:vic host h -> ! Forbidden
        agent:a host h -> ! Forbidden
        user:ed host a -> ! Conflict agentId
        user:ed host h -> agent.registered h
        agent:a set-status h paused -> ! Forbidden
        user:ed set-status h paused -> agent.status_changed h online>paused set
        // Paused is held by an operator: coming and going does not change it.
        agent:h/1 connect -> presence.connected agent:h first
        agent:h/1 disconnect -> presence.disconnected agent:h last
        guest:g host i -> agent.registered i
        guest:g set-status i failed -> agent.status_changed i online>failed set
        guest:g>agent:i look -> ! Forbidden
        ",
    );
}

#[test]
fn rooms_and_who_may_come_in() {
    play(
        "
        guest:g create-room r -> ! Forbidden
        node:n create-room r -> ! Forbidden
        agent:a create-room r name=x*201 -> ! InvalidField name
        agent:a create-room r metadata=1 -> ! InvalidField metadata
        agent:a create-room r -> room.created r, room.joined r agent:a
        agent:b create-room r -> ! Conflict roomId
        system create-room hall -> room.created hall
        agent:a create-room -> room.created 000003e8000000000000000f, room.joined 000003e8000000000000000f agent:a

        // Open to all but nodes; joining twice changes nothing.
        guest:g join r -> room.joined r guest:g
        guest:g join r -> nothing
        node:n join r -> ! Forbidden
        agent:b join nowhere -> ! RoomNotFound
        agent:b join new create -> room.created new, room.joined new agent:b
        node:n join newer create -> ! RoomNotFound
        user:vic join r member=agent:c -> room.joined r agent:c
        user:vic join r member=agent:b -> ! Forbidden
        user:vic join own member=agent:c create -> room.created own, room.joined own user:vic, room.joined own agent:c

        // Members only.
        agent:a create-room m entry=members -> room.created m, room.joined m agent:a
        agent:b join m -> ! Forbidden
        user:ed join m -> room.joined m user:ed
        agent:b join m by-key -> room.joined m agent:b

        // Private: nobody else learns that it exists.
        agent:a create-room p entry=private -> room.created p, room.joined p agent:a
        agent:b join p -> ! RoomNotFound
        agent:b post p hello -> ! RoomNotFound
        agent:b read p 1 -> ! RoomNotFound
        agent:b leave p -> ! RoomNotFound
        agent:b update-room p name=mine -> ! RoomNotFound
        user:ed join p -> room.joined p user:ed

        agent:a create-room small max=1 -> room.created small, room.joined small agent:a
        agent:b join small -> ! Conflict
        ",
    );
}

#[test]
fn leaving_changing_and_closing_rooms() {
    let play = play(
        "
        agent:a create-room r -> room.created r, room.joined r agent:a
        agent:b join r -> room.joined r agent:b
        guest:g join r -> room.joined r guest:g
        guest:g leave r -> room.left r guest:g
        guest:g leave r -> nothing
        agent:b leave nowhere -> ! RoomNotFound
        agent:b leave r agent:a -> ! Forbidden
        agent:a leave r agent:b -> room.left r agent:b

        agent:b update-room r name=mine -> ! Forbidden
        agent:a update-room r description=x*16385 -> ! InvalidField description
        agent:a update-room r name=ours -> room.updated r
        user:ed update-room r status=archived -> room.updated r
        agent:a post r hello -> ! RoomClosed
        agent:b join r -> ! RoomClosed
        agent:a update-room r status=active -> room.updated r
        agent:a post r hello -> message.posted r agent:a hello
        ",
    );
    let room = play.state.room(&RoomId::new("r").unwrap()).unwrap();
    assert_eq!((room.card.name.as_str(), room.messages, room.members.len()), ("ours", 1, 1));
    assert_eq!(room.seq, 10, "every record of the room has a number");
}

#[test]
fn messages_are_said_by_members() {
    let play = play(
        "
        agent:a create-room r -> room.created r, room.joined r agent:a
        agent:a post r hello -> message.posted r agent:a hello
        agent:b post r hello -> ! Forbidden
        agent:a post nowhere hello -> ! RoomNotFound
        agent:a post r -> ! InvalidField content
        agent:a post r x*1048577 -> ! TooLarge content
        agent:a post r hi from=agent:b -> ! Forbidden
        user:vic join r member=agent:c -> room.joined r agent:c
        user:vic post r hi from=agent:c -> message.posted r agent:c hi
        user:vic post r hi -> ! Forbidden

        // Signals of members: kept nowhere.
        agent:a type r on -> ~typing r agent:a true
        agent:b type r on -> ! Forbidden
        agent:a act r cursor -> ~action r agent:a cursor
        agent:a#e1 act r edit keep -> room.acted r agent:a edit
        agent:a#e1 act r edit keep -> repeated
        agent:a act r e*201 keep -> ! InvalidField action
        agent:b act nowhere cursor -> ! RoomNotFound

        // Ephemeral rooms hand messages out and log none.
        agent:a create-room e durability=ephemeral -> room.created e, room.joined e agent:a
        agent:a post e hello -> ~message e agent:a hello

        // Reading goes forward only.
        agent:a read r 9 -> room.read r agent:a 9
        agent:a read r 9 -> nothing
        agent:a read r 8 -> nothing
        agent:a read r 10 -> room.read r agent:a 10
        agent:a read r 9999 -> ! MessageNotFound
        agent:b read r 9 -> ! Forbidden
        ",
    );
    assert_eq!(play.state.messages, 2);
}

#[test]
fn messages_are_taken_back_by_who_said_them_and_by_who_runs_the_workspace() {
    let play = play(
        "
        agent:a create-room r -> room.created r, room.joined r agent:a
        user:vic join r member=agent:c -> room.joined r agent:c
        agent:a post r one -> message.posted r agent:a one
        user:vic post r two from=agent:c -> message.posted r agent:c two
        agent:a post r three -> message.posted r agent:a three
        agent:b delete r 12 agent:a -> ! Forbidden
        guest:g delete r 12 agent:a -> ! Forbidden
        user:vic delete r 12 agent:a -> ! Forbidden
        user:vic delete r 13 agent:c -> message.deleted r 13
        user:ed delete r 12 agent:a -> message.deleted r 12
        user:ed delete r 12 agent:a -> ! MessageNotFound
        agent:a delete r 9999 agent:a -> ! MessageNotFound
        agent:a delete nowhere 14 agent:a -> ! RoomNotFound
        agent:a delete r 14 agent:a -> message.deleted r 14

        // Who may change a room may sum it up.
        agent:b summarise r short -> ! Forbidden
        agent:a summarise r short -> room.summarised r
        system summarise r short -> nothing
        system summarise r s*16385 -> ! InvalidField summary
        ",
    );
    let room = play.state.room(&RoomId::new("r").unwrap()).unwrap();
    assert_eq!((room.messages, room.deleted.len()), (0, 3));
    assert!(room.last.as_ref().unwrap().start.is_empty(), "nothing of it is shown any more");
}

#[test]
fn a_client_id_has_one_effect_for_a_day() {
    play(
        "
        agent:a create-room r -> room.created r, room.joined r agent:a
        agent:b join r -> room.joined r agent:b
        agent:a#c1 post r hello -> message.posted r agent:a hello
        agent:a#c1 post r hello -> repeated
        // Another command: whatever it is, the name is taken, and nothing happens.
        agent:a#c1 post r hallo -> ! Conflict clientMessageId
        agent:a#c1 direct b hello -> ! Conflict clientMessageId
        agent:a#c1 post nowhere hello -> ! Conflict clientMessageId
        agent:a#c2 post r hello -> message.posted r agent:a hello
        agent:b#c1 post r hello -> message.posted r agent:b hello
        user:vic>agent:c#c1 join r -> room.joined r agent:c
        agent:c#c1 join r -> repeated
        // What makes no record has a first result too.
        agent:c#c2 join r -> nothing
        agent:c#c2 join r -> repeated
        agent:c#c2 leave r -> ! Conflict clientMessageId
        agent:a#c3 post r -> ! InvalidField content
        agent:a#c3 post r better -> message.posted r agent:a better
        wait 86400000
        agent:a#c1 post r hello -> repeated
        wait 1
        // More than a day later the name is new again.
        agent:a#c1 post r hello -> message.posted r agent:a hello
        agent:a#c1 post r hello -> repeated
        // Who may not ask any more is told so, unless that right ended with the very thing that was asked.
        agent:b#c3 leave r agent:b -> room.left r agent:b
        agent:b#c3 leave r agent:b -> repeated
        agent:b#c4 post r hello -> ! Forbidden
        agent:b join r -> room.joined r agent:b
        agent:b#c4 post r hello -> message.posted r agent:b hello
        agent:b leave r agent:b -> room.left r agent:b
        agent:b#c4 post r hello -> ! Forbidden
        agent:b#c4 post r hallo -> ! Conflict clientMessageId
        ",
    );
}

#[test]
fn a_client_id_of_whoever_had_the_name_before_is_not_in_the_way() {
    play(
        "
        agent:a create-room r -> room.created r, room.joined r agent:a
        agent:a#c1 post r hello -> message.posted r agent:a hello
        agent:a#c2 join r -> nothing
        user:ed remove-agent a -> room.left r agent:a, agent.removed a
        // Nobody has the name: nothing is forgotten yet.
        agent:a#c2 join r -> repeated
        agent:a#c3 register a -> agent.registered a
        agent:a#c3 register a -> repeated
        agent:a#c2 join r -> room.joined r agent:a
        agent:a#c1 post r hallo -> message.posted r agent:a hallo
        agent:a#c1 post r hallo -> repeated
        ",
    );
}

#[test]
fn the_first_results_id_comes_back_with_a_repeat() {
    use roundtable_core::engine::{Context, Outcome, decide};
    use roundtable_core::ids::ClientId;
    use roundtable_core::repeats::{Claim, ClientWrite};
    let mut play = play("agent:a create-room r -> room.created r, room.joined r agent:a");
    play.lines("agent:a#c1 post r hello -> message.posted r agent:a hello");
    let said = play.state.room(&RoomId::new("r").unwrap()).unwrap().last.clone().unwrap().id;
    let (id, actor) = (ClientId::new("c1").unwrap(), principal("agent:a"));
    let post =
        roundtable_core::messages::Post::text(RoomId::new("r").unwrap(), principal("agent:a"), "hello");
    let command = roundtable_core::command::Command::Post(Box::new(post));
    let first = play.firsts.get(&(actor.clone(), id.clone())).cloned();
    let ctx = Context {
        now: roundtable_core::time::Time(play.now),
        at: roundtable_core::time::Time(play.now),
        actor: actor.clone(),
        by: actor,
        connection: None,
        random: 77,
        client: Some(Claim { write: ClientWrite::of(id, &command), first }),
    };
    let again = decide(&play.state, &command, &ctx).unwrap().result();
    assert_eq!(again, Outcome::Repeated(Box::new(Outcome::Message(said))));
}

#[test]
fn presence_has_edges_at_the_first_and_the_last_connection() {
    play(
        "
        agent:a/1 connect -> agent.status_changed a offline>online connected, presence.connected agent:a first
        agent:a/1 connect -> nothing
        agent:a/2 connect web -> presence.connected agent:a
        // What reached it goes forward only, and nobody tells it for others.
        agent:a/2 reached 9 -> presence.reached
        agent:a/2 reached 9 -> nothing
        agent:a/2 reached 8 -> nothing
        agent:a/2 reached 9999 -> ! InvalidField upto
        agent:b/3 reached 9 -> nothing
        agent:a/1 disconnect -> presence.disconnected agent:a
        agent:a/1 disconnect -> nothing
        agent:a/2 disconnect -> agent.status_changed a online>offline connection_lost, presence.disconnected agent:a last
        agent:a/3 connect -> agent.status_changed a offline>online connected, presence.connected agent:a first
        agent:a set-status a busy -> agent.status_changed a online>busy set
        agent:a/3 disconnect -> agent.status_changed a busy>offline connection_lost, presence.disconnected agent:a last
        agent:a connect -> ! Internal
        user:ann/4 connect -> presence.connected user:ann first
        guest:g/5 connect -> presence.connected guest:g first

        // After a restart nobody is here, and everybody can come again.
        agent:a/6 connect -> agent.status_changed a offline>online connected, presence.connected agent:a first
        system start-server s -> server.started
        agent:a/6 disconnect -> nothing
        agent:a/7 connect -> agent.status_changed a offline>online connected, presence.connected agent:a first
        user:ann/8 connect -> presence.connected user:ann first
        ",
    );
}

#[test]
fn a_node_id_belongs_to_the_key_that_was_first() {
    play(
        "
        node:n set-node-key n k1 -> node.key_set n k1
        node:n set-node-key n k1 -> nothing
        node:n set-node-key n k2 -> ! Forbidden
        node:n set-node-key n -> ! Forbidden
        node:n set-node-key m k1 -> ! Forbidden
        user:ann set-node-key m k1 -> ! Forbidden
        node:m set-node-key m k1 -> node.key_set m k1

        // The operator binds anew, or lets the next key be the first.
        system set-node-key n k3 -> node.key_set n k3
        node:n set-node-key n k1 -> ! Forbidden
        system set-node-key n -> node.key_set n -
        system set-node-key n -> nothing
        node:n set-node-key n k4 -> node.key_set n k4
        ",
    );
}

#[test]
fn a_server_start_ends_the_stay_of_nodes_that_nobody_saw_leave() {
    play(
        "
        node:n join-network n -> node.joined
        node:n join-network n -> nothing
        node:m join-network n -> ! Forbidden
        node:m leave-network n -> ! Forbidden
        node:m leave-network m -> nothing
        node:m join-network m -> node.joined
        node:n leave-network n -> node.left n leave
        agent:a start-server s -> nothing
        system start-server s -> server.started, node.left m timeout
        ",
    );
}

fn system_adds(play: &mut Play, n: u32) {
    play.lines(&format!("system add-user u{n} viewer -> user.added u{n}"));
}

#[test]
fn twenty_first_entries_make_one_own_room() {
    let mut play = play("user:ann enter-own nobody -> ! AgentNotFound");
    let mut rooms = std::collections::BTreeSet::new();
    for n in 0..20 {
        system_adds(&mut play, n);
        let follows = play.ask(&format!("user:u{n} enter-own a"));
        rooms.insert(follows.split_whitespace().nth(1).unwrap().trim_end_matches(',').to_owned());
        let made = follows.contains("room.created");
        assert_eq!(made, n == 0, "{follows}");
        assert!(follows.contains(&format!("user:u{n}")), "{follows}");
    }
    assert_eq!(rooms.len(), 1);
    let room = RoomId::new(rooms.first().unwrap()).unwrap();
    assert_eq!(play.state.room(&room).unwrap().members.len(), 21, "twenty and the agent itself");
    play.lines("user:u0 enter-own a -> nothing");
    for stranger in ["guest:g", "node:n", "visitor:a/v"] {
        play.lines(&format!("{stranger} enter-own a -> ! Forbidden"));
        play.lines(&format!("{stranger} join {room} -> ! Forbidden"));
    }
    // Archived, it is kept for reading; the next entry makes a new one.
    play.lines(&format!("user:ed update-room {room} status=archived -> room.updated {room}"));
    let follows = play.ask("user:u0 enter-own a");
    assert!(follows.starts_with("room.created") && !follows.contains(room.as_str()), "{follows}");
}

#[test]
fn direct_messages_wait_for_their_addressee() {
    let mut play = play(
        "
        agent:a direct b psst -> message.direct agent:a>agent:b psst
        agent:a direct nobody psst -> ! AgentNotFound
        agent:a direct b -> ! InvalidField content
        guest:g direct b psst -> ! Forbidden
        agent:a direct b psst from=agent:c -> ! Forbidden
        user:vic direct b psst from=agent:c -> message.direct agent:c>agent:b psst
        agent:b delivered 7 -> nothing
        agent:b delivered 8 -> message.delivered 8
        agent:b delivered 8 -> nothing
        agent:a delivered 9 -> nothing
        agent:b delivered 99 -> message.delivered 99
        ",
    );
    let b = principal("agent:b");
    assert!(play.state.waiting(&b).is_empty());
    for n in 0..1_000 {
        assert_eq!(play.ask("agent:a direct b more"), "message.direct agent:a>agent:b more", "{n}");
    }
    play.lines(
        "
        agent:a direct b more -> ! Conflict
        wait 604800001
        // A week later they are given up.
        agent:a tick -> ! Forbidden
        system tick -> message.expired agent:b
        system tick -> nothing
        agent:a direct b late -> message.direct agent:a>agent:b late
        ",
    );
    assert_eq!(play.state.waiting(&b).len(), 1);
}

#[test]
fn what_arrived_or_was_for_somebody_who_is_gone_does_not_expire() {
    let play = play(
        "
        agent:a direct b early -> message.direct agent:a>agent:b early
        agent:a direct c other -> message.direct agent:a>agent:c other
        agent:c delivered 99 -> message.delivered 99
        wait 604800000
        system tick -> message.expired agent:b
        agent:a direct b again -> message.direct agent:a>agent:b again
        agent:b remove-agent b -> agent.removed b
        ",
    );
    assert_eq!(play.state.next_deadline(), None, "nothing waits");
}

#[test]
fn seats_alerts_security_and_marks() {
    let play = play(
        "
        guest:g/1 keep-seat s -> seat.kept
        guest:h/2 keep-seat s -> ! Forbidden
        guest:g keep-seat s -> ! Forbidden

        // One alert per source is active; a new level is a new alert.
        system raise cpu warning -> alert.raised cpu warning
        system raise cpu warning -> nothing
        system raise cpu critical -> alert.raised cpu critical
        system raise disk info -> alert.raised disk info
        user:ann raise cpu warning -> ! Forbidden
        user:ann clear cpu -> ! Forbidden
        system clear cpu -> alert.cleared cpu alert-13
        system clear cpu -> nothing

        system notice suspicious 10.0.0.1 -> security.noticed
        system notice blocked 10.0.0.1 -> ! InvalidField until
        system notice blocked 10.0.0.1 until=1000000 -> ! InvalidField until
        system notice blocked 10.0.0.1 until=1000001 -> security.noticed
        agent:a notice suspicious 10.0.0.1 -> ! Forbidden

        // Who may watch a feed takes positions for it; reports are the operators'.
        user:vic mark activity -> feed.marked
        guest:g mark activity -> feed.marked
        agent:a mark activity -> ! Forbidden
        guest:g mark security -> ! Forbidden
        guest:g mark activity report -> ! Forbidden
        user:vic mark activity report -> ! Forbidden
        user:ann mark activity report -> feed.marked
        system mark activity report -> feed.marked
        ",
    );
    use roundtable_core::time::Time;
    assert!(play.state.blocked("10.0.0.1", None, Time(1_000_000)).is_some());
    assert!(play.state.blocked("10.0.0.1", Some("a:1"), Time(1_000_000)).is_some(), "it holds everywhere");
    assert!(play.state.blocked("10.0.0.1", None, Time(1_000_001)).is_none(), "a block ends by itself");
    assert_eq!(play.state.alerts().count(), 1);
}

#[test]
fn thresholds_end_with_their_alerts() {
    let play = play(
        "
        user:vic set-threshold t1 name=busy -> ! Forbidden
        agent:a set-threshold t1 name=busy -> ! Forbidden
        guest:g set-threshold t1 -> ! InvalidField name
        guest:g set-threshold t1 name=busy limit=NaN -> ! InvalidField threshold
        guest:g set-threshold t1 name=busy -> threshold.set
        system raise threshold:t1 warning -> alert.raised threshold:t1 warning

        // The same name replaces; what the old one raised is over.
        user:ed set-threshold t2 name=busy -> alert.cleared threshold:t1 alert-13, threshold.removed, threshold.set
        user:ed remove-threshold t1 -> ! InvalidField alert_id
        user:vic remove-threshold t2 -> ! Forbidden
        user:ed remove-threshold t2 -> threshold.removed
        ",
    );
    assert_eq!(play.state.thresholds().len(), 0);
    let ended: Vec<&str> = play.state.ended_alerts().map(|(alert, _)| alert.raised.source.as_str()).collect();
    assert_eq!(ended, ["threshold:t1"]);
}

#[test]
fn a_pause_ends_at_its_time_or_before() {
    let mut play = play(
        "
        guest:g host h -> agent.registered h
        guest:g pause-agent h 1000000 -> ! InvalidField until
        user:vic pause-agent h 1005000 -> ! Forbidden
        guest:g pause-agent h 1005000 -> agent.status_changed h online>paused paused
        guest:g pause-agent h 1005000 -> nothing
        guest:g pause-agent h 1009000 -> agent.status_changed h paused>paused paused
        wait 5000
        system tick -> nothing
        wait 4000
        system tick -> agent.status_changed h paused>online resumed
        system tick -> nothing

        user:vic pause-agent c 1020000 -> agent.status_changed c offline>paused paused
        user:vic resume-agent c -> agent.status_changed c paused>offline resumed
        user:vic resume-agent c -> nothing
        agent:a pause-agent a 1020000 -> agent.status_changed a offline>paused paused
        user:ann remove-agent a -> agent.removed a
        user:ann pause-agent b -> agent.status_changed b offline>paused paused
        ",
    );
    assert_eq!(play.state.next_deadline(), None, "nobody goes on by itself any more");
    play.lines("user:ann pause-agent b 1030000 -> agent.status_changed b paused>paused paused");
    assert_eq!(play.state.next_deadline(), Some(roundtable_core::time::Time(1_030_000)));
}

#[test]
fn an_intrusion_is_answered_with_one_block_that_ends() {
    use roundtable_core::time::Time;
    let mut play = play(
        "
        system notice intrusion 10.0.0.2 place=a:1 until=1300000 -> security.noticed, security.noticed
        // What is blocked is not blocked again, but elsewhere.
        system notice intrusion 10.0.0.2 place=a:1 until=1400000 -> security.noticed
        system notice intrusion 10.0.0.2 place=b:2 until=1200000 -> security.noticed, security.noticed
        system notice intrusion 10.0.0.3 -> security.noticed
        system notice intrusion 10.0.0.3 until=5 -> ! InvalidField until
        user:ann unblock 10.0.0.2 -> ! Forbidden
        system unblock 10.0.0.9 -> nothing
        ",
    );
    let until =
        |play: &Play, place| play.state.blocked("10.0.0.2", Some(place), Time(1_000_000)).map(|b| b.until);
    assert_eq!((until(&play, "a:1"), until(&play, "b:2")), (Some(Time(1_300_000)), Some(Time(1_200_000))));
    assert_eq!(until(&play, "c:3"), None, "a block holds where the attack was");
    assert_eq!((play.state.next_deadline(), play.state.intrusions), (Some(Time(1_200_000)), 4));
    play.lines(
        "
        wait 200000
        system tick -> block.ended
        system tick -> nothing
        system unblock 10.0.0.2 -> block.ended
        ",
    );
    assert_eq!((play.state.blocks().len(), play.state.next_deadline()), (0, None));
}

#[test]
fn an_alert_of_one_feed_is_active_for_its_watchers_alone() {
    use roundtable_core::feeds::Feed::{Activity, Monitoring};
    let play = play(
        "
        system raise memory warning feed=activity -> alert.raised memory warning
        system raise disk warning -> alert.raised disk warning
        system clear memory -> alert.cleared memory alert-8
        system raise cpu critical feed=monitoring -> alert.raised cpu critical
        ",
    );
    let active = |feed| play.state.alerts_for(feed).map(|a| a.raised.source.as_str()).collect::<Vec<_>>();
    assert_eq!((active(Activity), active(Monitoring)), (vec!["disk"], vec!["cpu", "disk"]));
}

#[test]
fn who_may_receive_what() {
    let play = play(
        "
        user:vic create-room p entry=private -> room.created p, room.joined p user:vic
        user:vic join p member=agent:c -> room.joined p agent:c
        ",
    );
    let room = Topic::Room(RoomId::new("p").unwrap());
    let may = |who: &str, topic: &Topic| access::may_receive(&play.state, &principal(who), topic);
    for (who, expected) in [
        ("user:vic", true),
        ("agent:c", true),
        ("system", true),
        ("agent:a", false),
        ("guest:g", false),
        ("node:n", false),
    ] {
        assert_eq!(may(who, &room), expected, "{who}");
    }
    assert!(!may("user:vic", &Topic::Room(RoomId::new("nowhere").unwrap())));
    let direct = Topic::Principal(principal("agent:c"));
    for (who, expected) in [("agent:c", true), ("user:vic", true), ("user:ed", true), ("agent:a", false)] {
        assert_eq!(may(who, &direct), expected, "{who}");
    }
    let vic = Topic::Principal(Principal::User(UserId::new("vic").unwrap()));
    assert!(!may("user:ann", &vic), "not even the owner of the workspace");
}

#[test]
fn a_visitor_talks_with_one_agent_and_is_nowhere_else() {
    let mut play = play(
        "
        user:vic create-room r -> room.created r, room.joined r user:vic
        visitor:a/v pair b -> ! Forbidden
        visitor:a/v pair nobody -> ! Forbidden
        guest:v pair a -> ! Forbidden
        agent:b pair a -> ! Forbidden
        user:vic pair nobody -> ! AgentNotFound
        ",
    );
    let made = play.ask("visitor:a/v pair a");
    let room = made.split_whitespace().nth(1).unwrap().trim_end_matches(',').to_owned();
    assert_eq!(
        made,
        format!("room.created {room}, room.joined {room} visitor:a/v, room.joined {room} agent:a")
    );
    play.lines(&format!(
        "
        visitor:a/v pair a -> nothing
        visitor:a/v post {room} hello -> message.posted {room} visitor:a/v hello
        visitor:a/v type {room} on -> ~typing {room} visitor:a/v true
        visitor:b/v post {room} hello -> ! Forbidden
        guest:v join {room} -> ! Forbidden
        user:vic join {room} -> ! Forbidden
        user:ed join {room} -> room.joined {room} user:ed
        visitor:a/v invite {room} agent:b -> ! Forbidden
        visitor:a/v update-room {room} name=mine -> ! Forbidden
        visitor:a/v summarise {room} x -> ! Forbidden
        visitor:a/v leave {room} agent:a -> ! Forbidden
        visitor:a/v join r -> ! Forbidden
        visitor:a/v join new create -> ! RoomNotFound
        visitor:a/v create-room new -> ! Forbidden
        visitor:a/v remove-agent a -> ! Forbidden
        visitor:a/v host h -> ! Forbidden
        visitor:a/v direct a psst -> ! Forbidden
        visitor:a/v mark activity -> ! Forbidden
        visitor:a/v/1 keep-seat s -> ! Forbidden
        visitor:a/v set-threshold t1 name=busy -> ! Forbidden
        visitor:a/v notice suspicious v -> ! Forbidden
        "
    ));
    // The agent that left is brought in when the conversation is opened again; closed, it is followed by a new one.
    play.lines(&format!("agent:a leave {room} -> room.left {room} agent:a"));
    play.lines(&format!("visitor:a/v pair a -> room.joined {room} agent:a"));
    play.lines(&format!("user:ed update-room {room} status=closed -> room.updated {room}"));
    let next = play.ask("visitor:a/v pair a");
    assert!(next.starts_with("room.created") && !next.contains(&room), "{next}");
    assert_eq!(play.state.rooms_of(&principal("visitor:a/v")).count(), 2);
}

#[test]
fn a_key_does_not_undo_leaving() {
    play(
        "
        user:vic create-room p entry=private -> room.created p, room.joined p user:vic
        user:ed add-key kp room a p -> key.added
        agent:a join p by-key -> room.joined p agent:a
        agent:a leave p -> room.left p agent:a
        agent:a join p by-key -> ! RoomNotFound
        user:vic invite p agent:a -> room.joined p agent:a
        user:vic leave p agent:a -> room.left p agent:a
        agent:a join p by-key -> ! RoomNotFound
        // One that it gets when it has none any more is a new invitation.
        user:ed revoke-key kp -> key.revoked
        user:ed add-key kq room a p -> key.added
        agent:a join p by-key -> room.joined p agent:a
        user:vic create-room o -> room.created o, room.joined o user:vic
        user:ed add-key ko room a o -> key.added
        agent:a join o by-key -> room.joined o agent:a
        agent:a leave o -> room.left o agent:a
        // Into an open one it may come without a key.
        agent:a join o -> room.joined o agent:a
        ",
    );
}

#[test]
fn who_takes_a_removed_agents_name_is_somebody_else() {
    let mut play = play(
        "
        agent:a create-room p entry=private -> room.created p, room.joined p agent:a
        user:ed add-key k room a p -> key.added
        user:ann join p -> room.joined p user:ann
        agent:a post p old -> message.posted p agent:a old
        ",
    );
    let said = play.state.head.0;
    let (mine, theirs) = (play.ask("visitor:a/v pair a"), play.ask("user:vic pair a"));
    let [mine, theirs] =
        [mine, theirs].map(|made| made.split_whitespace().nth(1).unwrap().trim_end_matches(',').to_owned());
    play.lines("agent:a post p x#m -> message.posted p agent:a x#m");
    let removed = play.ask("user:ed remove-agent a");
    assert!(removed.ends_with("agent.removed a"), "{removed}");
    assert!(play.state.key(&roundtable_core::ids::KeyId::new("k").unwrap()).unwrap().revoked);
    assert_eq!(play.state.rooms_of(&principal("visitor:a/v")).count(), 0);
    for room in [&mine, &theirs] {
        let room = play.state.room(&RoomId::new(room).unwrap()).unwrap();
        assert_eq!(room.status, roundtable_core::rooms::RoomStatus::Closed);
    }
    play.lines(&format!(
        "
        agent:a register a -> agent.registered a
        agent:a join p -> ! RoomNotFound
        agent:a update-room p name=mine -> ! RoomNotFound
        user:ann invite p agent:a -> room.joined p agent:a
        agent:a update-room p name=mine -> ! Forbidden
        agent:a delete p {said} agent:a -> ! Forbidden
        visitor:a/v post {mine} hello -> ! Forbidden
        "
    ));
    let again = play.ask("visitor:a/v pair a");
    assert!(again.starts_with("room.created") && !again.contains(&mine), "{again}");
}

#[test]
fn an_id_has_one_bearer_of_whatever_kind() {
    let play = play(
        "
        user:ed add-user a viewer -> ! Conflict username
        user:ed register vic -> ! Conflict agentId
        user:ed host ed -> ! Conflict agentId
        agent:vic register vic -> ! Conflict agentId
        system set-node-key vic k -> ! Conflict node_id
        node:a set-node-key a k -> ! Conflict node_id
        system set-node-key n k -> node.key_set n k
        user:ed add-user n viewer -> ! Conflict username
        user:vic create-room r -> room.created r, room.joined r user:vic
        user:vic add-key k1 room ann r -> ! Conflict agentId

        // The server's own.
        user:ann add-user admin viewer -> ! Conflict username
        user:ann add-user System viewer -> ! Conflict username
        system add-user server viewer -> ! Conflict username
        system register admin -> ! Conflict agentId
        user:ann register system -> ! Conflict agentId
        system add-user admin owner -> user.added admin
        ",
    );
    assert_eq!(play.state.doubles().count(), 0);
}

#[test]
fn doubles_of_before_are_told_and_keep_working() {
    let mut play = play("agent:a create-room r -> room.created r, room.joined r agent:a");
    // As 0.1.0 allowed it.
    let body = r#"{"user":"a","role":"viewer"}"#;
    play.state.apply(&roundtable_core::event::Record {
        offset: play.state.head.next(),
        room_seq: None,
        at: roundtable_core::time::Time(play.now),
        t: roundtable_core::time::Time(play.now),
        actor: Principal::System,
        room: None,
        client: None,
        event: roundtable_core::event::Event::read("user.added", body).unwrap(),
    });
    assert_eq!(play.state.doubles().collect::<Vec<_>>(), ["a"]);
    play.lines(
        "
        agent:a register a role=lead -> agent.updated
        agent:a post r hi -> message.posted r agent:a hi
        user:a join r -> room.joined r user:a
        ",
    );
}

#[test]
fn nodes_bind_a_few_ids_for_a_while_and_the_operator_any_for_good() {
    let mut play = play("");
    for n in 0..16 {
        play.lines(&format!("node:n{n} set-node-key n{n} k{n} from=192.0.2.0 -> node.key_set n{n} k{n}"));
    }
    play.lines(
        "
        node:n16 set-node-key n16 k from=192.0.2.0 -> ! RateLimited
        node:m set-node-key m k from=198.51.100.0 -> node.key_set m k
        node:n0 set-node-key n0 k0 from=192.0.2.0 -> nothing
        system set-node-key n1 k1 -> node.key_set n1 k1
        system set-node-key n1 k1 -> nothing
        node:n16 set-node-key n16 k from=192.0.2.0 -> node.key_set n16 k
        wait 86400000
        node:n0 set-node-key n0 k0 from=192.0.2.0 -> node.key_set n0 k0
        wait 2505600000
        ",
    );
    // Thirty days after each was proved last, but for the one that the operator bound and the one that was proved again.
    let ended = play.ask("system tick");
    assert_eq!(ended.matches("node.key_set").count(), 16, "{ended}");
    let left: Vec<&str> = play.state.node_keys().map(|(id, _)| id.as_str()).collect();
    assert_eq!(left, ["n0", "n1"]);
    play.lines("wait 86400000");
    assert_eq!(play.ask("system tick"), "node.key_set n0 -");
}
