//! Coming back: the same session, what was missed once and in order, nothing of anybody else.

use super::*;

struct Pair {
    world: World,
    ann: usize,
    session: String,
    ben: usize,
}

/// Ann and Ben in one room, Ann's session known.
fn pair() -> Pair {
    let mut world = World::new();
    let (ann, session) = world.enter("token=for-ann");
    let (ben, _) = world.enter("token=for-ben");
    for n in [ann, ben] {
        world.send(n, "join", "session_join", json!({"session_id": "lobby"}));
        world.wait(2_000);
    }
    world.pong(ann);
    world.wait(10_000);
    world.heard(ann);
    Pair { world, ann, session, ben }
}

impl Pair {
    fn ben_says(&mut self, text: &str) {
        self.world.wait(1_000);
        let payload = json!({"session_id": "lobby", "content": text});
        self.world.send(self.ben, text, "chat_send", payload);
    }

    fn ann_again(&mut self) -> Vec<(String, Value)> {
        self.ann = self.world.connect(&format!("token=for-ann&session_id={}", self.session));
        self.world.told(self.ann)
    }
}

#[test]
fn what_was_missed_comes_once_and_before_anything_new() {
    let mut pair = pair();
    pair.world.cut(pair.ann);
    for text in ["one", "two"] {
        pair.ben_says(text);
    }
    let told = pair.ann_again();
    assert_eq!(told[0].1["session_id"], json!(pair.session));
    assert_eq!(told[0].1["resumed"], true);
    let contents: Vec<_> = told.iter().filter_map(|t| t.1["content"].as_str()).collect();
    assert_eq!(contents, ["one", "two"]);
    pair.ben_says("three");
    assert_eq!(pair.world.contents(pair.ann), ["three"]);
    let payload = json!({"session_id": "lobby", "content": "back"});
    pair.world.send(pair.ann, "back", "chat_send", payload);
    assert_eq!(pair.world.contents(pair.ben), ["back"]);
}

#[test]
fn only_what_is_not_proven_to_have_arrived_is_sent_again_with_the_same_id() {
    let mut pair = pair();
    pair.ben_says("proven");
    pair.world.pong(pair.ann);
    pair.ben_says("lost on the way");
    let lost = pair.world.heard(pair.ann).pop().unwrap();
    pair.world.cut(pair.ann);
    pair.ben_says("said while away");
    let again = pair.world.connect(&format!("token=for-ann&session_id={}", pair.session));
    let frames = pair.world.heard(again);
    let chat: Vec<_> = frames.iter().filter(|f| f["type"] == "chat_receive").collect();
    assert_eq!(chat.len(), 2, "{chat:?}");
    assert_eq!(*chat[0], lost);
    assert_eq!(chat[1]["payload"]["content"], "said while away");
}

#[test]
fn entering_again_proves_nothing_to_have_arrived() {
    let mut pair = pair();
    pair.ben_says("lost on the way");
    pair.world.send(pair.ann, "again", "session_join", json!({"session_id": "lobby"}));
    pair.world.heard(pair.ann);
    pair.world.cut(pair.ann);
    let told = pair.ann_again();
    let contents: Vec<_> = told.iter().filter_map(|t| t.1["content"].as_str()).collect();
    assert_eq!(contents, ["lost on the way"]);
}

#[test]
fn who_may_not_enter_again_just_now_still_hears_the_room() {
    let mut pair = pair();
    pair.world.full = true;
    pair.world.send(pair.ann, "again", "session_join", json!({"session_id": "lobby"}));
    pair.world.full = false;
    assert_eq!(pair.world.told(pair.ann)[0].1["error"], "unavailable");
    pair.ben_says("still there?");
    assert_eq!(pair.world.contents(pair.ann), ["still there?"]);
}

#[test]
fn a_burst_is_probed_at_once_and_then_at_intervals() {
    let mut pair = pair();
    pair.ben_says("one");
    let first = pair.world.clients[pair.ann].probe.expect("probed at once");
    for text in ["two", "three"] {
        let payload = json!({"session_id": "lobby", "content": text});
        pair.world.send(pair.ben, text, "chat_send", payload);
    }
    assert_eq!(pair.world.clients[pair.ann].probe, Some(first));
    pair.world.pong(pair.ann);
    assert_eq!(pair.world.clients[pair.ann].probe, None);
    pair.world.wait(1_000);
    assert_eq!(pair.world.clients[pair.ann].probe, Some(first + 1));
    pair.world.pong(pair.ann);
    pair.world.wait(5_000);
    assert_eq!(pair.world.clients[pair.ann].probe, None, "all has arrived");
}

#[test]
fn own_words_do_not_come_back() {
    let mut pair = pair();
    let payload = json!({"session_id": "lobby", "content": "mine"});
    pair.world.send(pair.ann, "mine", "chat_send", payload.clone());
    pair.world.cut(pair.ann);
    assert_eq!(pair.ann_again().iter().filter(|t| t.0 == "chat_receive").count(), 0);
    pair.world.cut(pair.ann);
    let (other, _) = pair.world.enter("token=for-ann");
    pair.world.send(other, "join2", "session_join", json!({"session_id": "lobby"}));
    pair.world.send(other, "other", "chat_send", json!({"session_id": "lobby", "content": "elsewhere"}));
    let told = pair.ann_again();
    let contents: Vec<_> = told.iter().filter_map(|t| t.1["content"].as_str()).collect();
    assert_eq!(contents, ["elsewhere"]);
}

#[test]
fn nobody_elses_session_is_resumed_and_nothing_tells_that_it_exists() {
    let mut pair = pair();
    pair.world.cut(pair.ann);
    for query in ["token=for-ben", "user_id=ada", ""] {
        for session in [pair.session.as_str(), "sess_unknown"] {
            let n = pair.world.connect(&format!("{query}&session_id={session}"));
            let told = pair.world.told(n);
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].1["resumed"], false);
            assert_ne!(told[0].1["session_id"], json!(session));
        }
    }
}

#[test]
fn two_connections_may_share_a_session() {
    let mut world = World::new();
    let (one, session) = world.enter("token=for-ann");
    let two = world.connect(&format!("token=for-ann&session_id={session}"));
    assert_eq!(world.heard(two)[0]["payload"]["resumed"], true);
    for (from, to) in [(two, one), (one, two)] {
        let text = format!("from {from}");
        world.send(from, &text, "chat_send", json!({"content": text}));
        world.heard(from);
        assert_eq!(world.contents(to), [text]);
    }
    world.cut(one);
    world.cut(two);
    let again = world.connect(&format!("token=for-ann&session_id={session}"));
    assert_eq!(world.heard(again).len(), 1);
}

#[test]
fn what_was_done_together_is_not_missed_but_cursors_are() {
    let mut pair = pair();
    pair.world.cut(pair.ann);
    for action in ["cursor_move", "text_edit"] {
        let payload = json!({"session_id": "lobby", "action": action, "data": 1});
        pair.world.send(pair.ben, action, "collaborative_action", payload);
    }
    let told = pair.ann_again();
    let done: Vec<_> = told.iter().filter(|t| t.0 == "collaborative_action").collect();
    assert_eq!(done.len(), 1);
    let expected = json!({"session_id": "lobby", "action": "text_edit", "data": 1, "user_id": "ben"});
    assert_eq!(done[0].1, expected);
}

#[test]
fn a_guest_comes_back_by_the_session_alone_but_not_under_another_name() {
    let mut world = World::new();
    let (ada, session) = world.enter("user_id=ada");
    world.cut(ada);
    for (query, resumed, name) in
        [("", true, "ada"), ("user_id=ada&", true, "ada"), ("user_id=eve&", false, "eve")]
    {
        let n = world.connect(&format!("{query}session_id={session}"));
        let payload = world.heard(n)[0]["payload"].clone();
        assert_eq!((&payload["resumed"], &payload["user_id"]), (&json!(resumed), &json!(name)));
        world.cut(n);
    }
}

#[test]
fn a_session_survives_the_end_of_the_server() {
    let mut pair = pair();
    pair.ben_says("one");
    pair.world.pong(pair.ann);
    pair.world.wait(10_000);
    // The process dies: nobody says goodbye, and a new one begins.
    for n in [pair.ann, pair.ben] {
        pair.world.clients[n].topics.clear();
        pair.world.clients[n].wake = None;
    }
    let started = ServerStarted { node: NodeId::new("n").unwrap(), version: "1".into() };
    pair.world.system(Command::StartServer(started)).unwrap();
    pair.ben = pair.world.enter("token=for-ben").0;
    pair.world.send(pair.ben, "join again", "session_join", json!({"session_id": "lobby"}));
    pair.ben_says("two");
    let told = pair.ann_again();
    let contents: Vec<_> = told.iter().filter_map(|t| t.1["content"].as_str()).collect();
    assert_eq!(contents, ["two"]);
}

#[test]
fn a_day_later_it_is_a_new_session() {
    let mut pair = pair();
    pair.world.cut(pair.ann);
    pair.world.now = pair.world.now.plus(24 * 3_600_000 + 1);
    pair.ben_says("tick");
    assert_eq!(pair.ann_again()[0].1["resumed"], false);
}

#[test]
fn a_room_that_closed_meanwhile_is_told() {
    let mut pair = pair();
    pair.world.cut(pair.ann);
    let card = RoomCard { entry: Entry::Private, ..RoomCard::default() };
    let secret = RoomId::new("secret").unwrap();
    pair.world.system(Command::CreateRoom(CreateRoom { room: Some(secret.clone()), card })).unwrap();
    let seat = pair.world.own_room(&pair.session);
    let keep = roundtable_core::seats::KeepSeat {
        secret: None,
        seat,
        epoch: EPOCH,
        seen: pair.world.state.head,
        rooms: [(secret, pair.world.state.head)].into(),
    };
    let who = pair.world.clients[pair.ann].principal.clone();
    let connection = Some(pair.world.clients[pair.ann].connection);
    pair.world.act(&who, connection, &Command::KeepSeat(keep), None).unwrap();
    let told = pair.ann_again();
    assert_eq!((told.len(), told[1].0.as_str()), (2, "notification"));
}

#[test]
fn of_too_much_the_newest_comes_and_the_loss_is_told() {
    let mut pair = pair();
    pair.world.settings.missed_frames = 3;
    pair.world.send(pair.ann, "own", "chat_send", json!({"content": "in the own room"}));
    pair.world.heard(pair.ann);
    pair.world.cut(pair.ann);
    // The other room has its share.
    let own = pair.world.own_room(&pair.session);
    let agent = pair.world.agent("helper", Some(own.as_str()));
    pair.world.post(&agent, own.as_str(), |post| post.content = Content::Text("first".into()));
    for text in ["one", "two"] {
        pair.ben_says(text);
    }
    pair.world.post(&agent, own.as_str(), |post| post.content = Content::Text("last".into()));
    let told = pair.ann_again();
    let kinds: Vec<_> = told.iter().take(2).map(|t| t.0.as_str()).collect();
    assert_eq!(kinds, ["connection_established", "notification"]);
    assert_eq!((&told[0].1["resumed"], &told[1].1["title"]), (&json!(true), &json!("Messages lost")));
    let mut contents: Vec<_> = told.iter().filter_map(|t| t.1["content"].as_str()).collect();
    contents.sort_unstable();
    assert_eq!(contents, ["last", "one", "two"]);
    pair.ben_says("three");
    assert_eq!(pair.world.contents(pair.ann), ["three"]);
}

#[test]
fn exactly_as_much_as_is_kept_is_no_loss() {
    let mut pair = pair();
    pair.world.settings.missed_frames = 2;
    pair.world.cut(pair.ann);
    for text in ["one", "two"] {
        pair.ben_says(text);
        // What makes no frame does not count.
        pair.world.pong(pair.ben);
        pair.world.wait(10_000);
    }
    let told = pair.ann_again();
    let kinds: Vec<_> = told.iter().map(|t| t.0.as_str()).collect();
    assert_eq!(kinds, ["connection_established", "chat_receive", "chat_receive"]);
}

#[test]
fn a_room_that_cannot_be_entered_while_the_log_is_full_waits_for_that() {
    let mut pair = pair();
    pair.world.cut(pair.ann);
    pair.ben_says("missed");
    pair.world.full = true;
    let told = pair.ann_again();
    assert_eq!((told.len(), &told[1].1["title"]), (2, &json!("Session waits")), "{told:?}");
    pair.world.wait(3_000);
    assert_eq!(pair.world.told(pair.ann), [], "told once");
    pair.world.full = false;
    pair.world.wait(1_000);
    assert_eq!(pair.world.contents(pair.ann), ["missed"]);
    pair.ben_says("new");
    assert_eq!(pair.world.contents(pair.ann), ["new"]);
}

#[test]
fn a_room_that_waits_is_entered_once_by_asking_for_it() {
    let mut pair = pair();
    pair.world.cut(pair.ann);
    pair.ben_says("missed");
    pair.world.full = true;
    pair.ann_again();
    pair.world.full = false;
    pair.world.send(pair.ann, "join again", "session_join", json!({"session_id": "lobby"}));
    pair.world.wait(5_000);
    assert_eq!(pair.world.contents(pair.ann), ["missed"]);
    pair.ben_says("new");
    assert_eq!(pair.world.contents(pair.ann), ["new"]);
}
