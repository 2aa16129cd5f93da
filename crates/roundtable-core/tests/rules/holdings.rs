//! How much of what stays there may be, and what ends by itself.

use roundtable_core::holdings::{Ceilings, Counts};
use roundtable_core::ids::{KeyId, Principal, RoomId};
use roundtable_core::limits;
use roundtable_core::state::State;

use super::script::{Play, assert_holdings, play};

const MANY: Counts = Counts { rooms: 99, agents: 99, keys: 99, tokens: 99, thresholds: 99, members: 99 };

fn room(play: &Play, id: &str) -> bool {
    play.state.room(&RoomId::new(id).unwrap()).is_some()
}

#[test]
fn each_makes_only_so_much_and_what_is_removed_makes_room() {
    let mut play = play("");
    let each = Counts { rooms: 2, agents: 1, keys: 1, tokens: 1, thresholds: 1, members: 1 };
    play.ceilings = Ceilings { each, all: MANY };
    play.lines(
        "
        user:vic create-room r1 -> room.created r1, room.joined r1 user:vic
        user:vic join r2 create -> room.created r2, room.joined r2 user:vic
        user:vic create-room r3 -> ! QuotaExceeded rooms
        user:vic join r3 create -> ! QuotaExceeded rooms
        // An existing one is entered all the same, and others have their own.
        user:vic join r2 -> nothing
        agent:a create-room r3 -> room.created r3, room.joined r3 agent:a
        system create-room r4 -> room.created r4
        user:ed remove-room r1 -> room.updated r1, room.removed r1
        user:vic create-room r5 -> room.created r5, room.joined r5 user:vic

        // vic has c already.
        user:vic register d -> ! QuotaExceeded agents
        agent:d register d -> agent.registered d
        user:vic remove-agent c -> agent.removed c
        user:vic register c -> agent.registered c

        user:vic add-key k1 user vic -> key.added
        user:vic add-key k2 room c r2 -> ! QuotaExceeded keys
        user:vic revoke-key k1 -> key.revoked
        user:vic add-key k2 room c r2 -> key.added

        user:vic invite r2 agent:a -> room.joined r2 agent:a
        user:vic invite r2 agent:b -> ! QuotaExceeded members
        agent:b join r2 -> room.joined r2 agent:b
        agent:a leave r2 -> room.left r2 agent:a
        user:vic invite r2 agent:d -> room.joined r2 agent:d

        user:ed note-token t1 visitor:a/v a 2000000 -> token.noted
        user:ed note-token t2 visitor:a/w a 2000000 -> ! QuotaExceeded tokens
        user:ed revoke-token t9 2000000 -> ! QuotaExceeded tokens
        system revoke-token t9 2000000 -> token.revoked

        user:ed set-threshold x1 name=one -> threshold.set
        user:ed set-threshold x2 name=two -> ! QuotaExceeded thresholds
        // One of the same name is replaced.
        user:ed set-threshold x3 name=one -> threshold.removed, threshold.set
        user:ed remove-threshold x3 -> threshold.removed
        user:ed set-threshold x2 name=two -> threshold.set
        ",
    );
    play.now = 10_000_000;
    play.lines("user:ed note-token t2 visitor:a/w a 4000000 -> token.noted");
}

#[test]
fn a_workspace_holds_only_so_much_whoever_makes_it() {
    let mut play = play("");
    let all = Counts { rooms: 2, agents: 4, keys: 1, tokens: 1, thresholds: 1, members: 1 };
    play.ceilings = Ceilings { each: MANY, all };
    play.lines(
        "
        user:vic create-room r1 -> room.created r1, room.joined r1 user:vic
        agent:a create-room r2 -> room.created r2, room.joined r2 agent:a
        guest:g join r3 create -> ! QuotaExceeded rooms
        user:vic pair b -> ! QuotaExceeded rooms
        user:ann enter-own a -> ! QuotaExceeded rooms
        agent:d register d -> agent.registered d
        agent:e register e -> ! QuotaExceeded agents
        guest:g host e -> ! QuotaExceeded agents
        user:vic add-key k1 user vic -> key.added
        user:ed add-key k2 user ed -> ! QuotaExceeded keys
        system add-key k2 user ed -> key.added
        ",
    );
}

#[test]
fn what_somebody_leaves_behind_is_not_charged_to_who_takes_the_name() {
    let mut play = play(
        "
        user:vic create-room r1 -> room.created r1, room.joined r1 user:vic
        user:vic invite r1 agent:a -> room.joined r1 agent:a
        ",
    );
    let pair = play.ask("user:vic pair b");
    let pair = pair.split_whitespace().nth(1).unwrap().trim_end_matches(',').to_owned();
    play.lines(&format!(
        "
        system remove-user vic -> room.left {pair} user:vic, room.left r1 user:vic, user.removed vic
        system add-user vic viewer -> user.added vic
        "
    ));
    let vic = Principal::parse("user:vic").unwrap();
    assert_eq!(play.state.holdings().of(&vic), Counts::default());
    let left = play.state.holdings().of(&Principal::System);
    assert_eq!((left.rooms, left.agents, left.members), (2, 1, 2));
    play.lines(
        "
        system remove-room r1 -> room.updated r1, room.removed r1
        user:vic create-room r2 -> room.created r2, room.joined r2 user:vic
        ",
    );
    assert_eq!(play.state.holdings().of(&vic).rooms, 1);
}

/// What a state says of itself survives its snapshot.
#[test]
fn holdings_are_in_the_snapshot() {
    let play = play(
        "
        user:vic create-room r1 -> room.created r1, room.joined r1 user:vic
        user:vic invite r1 agent:a -> room.joined r1 agent:a
        user:ed add-key k room a r1 -> key.added
        user:ed note-token t1 visitor:a/v a 2000000 -> token.noted
        ",
    );
    let json = serde_json::to_string(&play.state).unwrap();
    let read: State = serde_json::from_str(&json).unwrap();
    assert_eq!(read, play.state);
    assert_holdings(&read);
}

#[test]
fn a_room_that_nobody_used_ends_after_a_day_with_nobody_in_it() {
    let mut play = play(
        "
        user:vic create-room empty -> room.created empty, room.joined empty user:vic
        user:vic create-room said -> room.created said, room.joined said user:vic
        user:vic create-room keyed -> room.created keyed, room.joined keyed user:vic
        user:vic create-room kept -> room.created kept, room.joined kept user:vic
        user:vic create-room fleeting durability=ephemeral -> room.created fleeting, room.joined fleeting user:vic
        system create-room made -> room.created made
        user:vic post said hi -> message.posted said user:vic hi
        user:vic add-key k room c keyed -> key.added
        user:vic leave empty user:vic -> room.left empty user:vic
        user:vic leave said user:vic -> room.left said user:vic
        user:vic leave keyed user:vic -> room.left keyed user:vic
        user:vic leave fleeting user:vic -> room.left fleeting user:vic
        guest:g/1 connect -> presence.connected guest:g first
        guest:h/2 connect -> presence.connected guest:h first
        guest:g/1 join hall create -> room.created hall, room.joined hall guest:g
        guest:h/2 join hall -> room.joined hall guest:h
        guest:g/1 disconnect -> presence.disconnected guest:g last
        wait 86399999
        system tick -> nothing
        wait 1
        system tick -> room.removed empty
        system tick -> nothing
        guest:h/2 disconnect -> presence.disconnected guest:h last
        wait 43200000
        // Somebody comes for a moment: the day begins anew.
        guest:g/3 connect -> presence.connected guest:g first
        guest:g/3 disconnect -> presence.disconnected guest:g last
        wait 86399999
        system tick -> nothing
        wait 1
        ",
    );
    assert_eq!(play.state.next_deadline().map(|due| due.0), Some(play.now));
    play.lines("system tick -> room.removed hall");
    for id in ["said", "keyed", "kept", "fleeting", "made"] {
        assert!(room(&play, id), "{id}");
    }
    assert_eq!(play.state.rooms_of(&Principal::parse("guest:g").unwrap()).count(), 0);
    // Nothing was said under these ids, so they are free.
    play.lines(
        "
        user:vic create-room empty -> room.created empty, room.joined empty user:vic
        guest:g join hall create -> room.created hall, room.joined hall guest:g
        ",
    );
    assert_eq!(play.state.next_deadline().map(|due| due.0), Some(play.now + limits::UNUSED_ROOM_MS));
}

#[test]
fn a_restart_takes_the_guests_out_and_rooms_end_a_few_at_a_time() {
    let mut play = play("guest:g/1 connect -> presence.connected guest:g first");
    let most = limits::MAX_UNUSED_AT_ONCE;
    for n in 0..=most {
        assert!(play.ask(&format!("guest:g/1 join r{n} create")).starts_with("room.created"));
    }
    play.lines(
        "wait 86400000\n system tick -> nothing\n system start-server n -> server.started\n wait 86400000",
    );
    assert_eq!(play.ask("system tick").split(", ").count(), most);
    assert_eq!(play.ask("system tick").split(", ").count(), 1);
    play.lines("system tick -> nothing");
    assert_holdings(&play.state);
}

#[test]
fn revoked_keys_are_forgotten_beyond_the_newest() {
    let mut play = play("user:vic create-room r -> room.created r, room.joined r user:vic");
    for n in 0..limits::MAX_REVOKED_KEYS + 5 {
        assert_eq!(play.ask(&format!("user:vic add-key k{n} room x{n} r")), "key.added");
        assert_eq!(play.ask(&format!("user:vic revoke-key k{n}")), "key.revoked");
    }
    assert_eq!(play.state.keys().len(), limits::MAX_REVOKED_KEYS);
    assert_eq!(play.state.keys_to(&RoomId::new("r").unwrap()).count(), limits::MAX_REVOKED_KEYS);
    assert!(play.state.key(&KeyId::new("k4").unwrap()).is_none());
    assert_holdings(&play.state);
    play.lines("user:vic revoke-key k5 -> nothing\n user:vic revoke-key k4 -> ! KeyNotFound");
}
