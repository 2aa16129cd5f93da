//! Chat: where it goes, who sees what, what is refused.

use super::*;
use crate::pace::Limit;

#[test]
fn others_in_the_session_see_what_is_said_and_the_sender_sees_nothing() {
    let mut world = World::new();
    let (ann, _) = world.enter("token=for-ann");
    let (ben, _) = world.enter("token=for-ben&platform=desktop");
    for n in [ann, ben] {
        world.send(n, "join", "session_join", json!({"session_id": "lobby"}));
        world.heard(n);
    }
    let payload =
        json!({"content": "Hi", "session_id": "lobby", "attachments": ["a.png"], "user_id": "root"});
    world.send(ann, "m1", "chat_send", payload);
    assert!(world.heard(ann).is_empty() || world.contents(ann).is_empty());
    let frame = world.heard(ben).pop().unwrap();
    assert_eq!(frame["type"], "chat_receive");
    let id = frame["payload"]["message_id"].as_str().unwrap().to_owned();
    assert_eq!(
        frame["payload"],
        json!({
            "content": "Hi", "sender": "user", "platform": "web", "timestamp": 1_700_000_000,
            "message_id": id, "session_id": "lobby", "request_id": "m1", "user_id": "ann",
            "attachments": ["a.png"],
        })
    );
    assert_eq!(frame["metadata"], json!({"user_id": "ann", "session_id": "lobby", "platform": "web"}));
    assert_eq!(frame["id"], format!("msg_{id}"));
}

#[test]
fn who_asks_for_it_learns_that_a_message_is_on_the_disk_and_a_repeat_is_always_told() {
    let mut world = World::new();
    let (ann, _) = world.enter("token=for-ann");
    let say = |world: &mut World, id: &str, ack: bool, session: Option<&str>| {
        let mut payload = json!({"content": "Hi"});
        if let Some(session) = session {
            payload["session_id"] = session.into();
        }
        let metadata = json!({"ack": ack});
        let frame = json!({"id": id, "type": "chat_send", "payload": payload, "metadata": metadata});
        world.say(ann, &frame.to_string());
        let sent: Vec<Value> =
            world.told(ann).into_iter().filter(|(kind, _)| kind == "chat_sent").map(|(_, p)| p).collect();
        let last = world.log.iter().rev().find(|record| matches!(record.event, Event::MessagePosted(_)));
        (sent, last.map(|record| record.offset.0).unwrap())
    };
    // The first message makes the room: it comes by only after the room is followed.
    let (sent, at) = say(&mut world, "m1", true, None);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0]["request_id"], "m1");
    assert!(
        sent[0]["session_id"].as_str().unwrap().starts_with("chat_"),
        "the room, not the secret: {sent:?}"
    );
    assert_eq!((&sent[0]["cursor"], &sent[0]["repeated"]), (&json!(format!("1:{at}")), &json!(false)));
    assert_eq!(sent[0]["message_id"].as_str().unwrap().len(), 24);
    let (silent, _) = say(&mut world, "m2", false, None);
    assert!(silent.is_empty(), "clients that do not ask never see it: {silent:?}");
    let (again, at) = say(&mut world, "m2", false, None);
    assert_eq!((&again[0]["repeated"], &again[0]["cursor"]), (&json!(true), &json!(format!("1:{at}"))));
    world.send(ann, "join", "session_join", json!({"session_id": "lobby"}));
    let (sent, at) = say(&mut world, "m3", true, Some("lobby"));
    assert_eq!((&sent[0]["cursor"], &sent[0]["session_id"]), (&json!(format!("1:{at}")), &json!("lobby")));
}

#[test]
fn another_connection_of_the_same_user_gets_a_copy() {
    let mut world = World::new();
    let (one, _) = world.enter("token=for-ann");
    let (two, _) = world.enter("token=for-ann");
    for n in [one, two] {
        world.send(n, "join", "session_join", json!({"session_id": "lobby"}));
    }
    world.heard(two);
    world.send(one, "m1", "chat_send", json!({"content": "from one", "session_id": "lobby"}));
    assert_eq!(world.contents(two), ["from one"]);
}

#[test]
fn an_agents_answer_is_the_assistants() {
    let mut world = World::new();
    let (ann, _) = world.enter("token=for-ann");
    world.send(ann, "join", "session_join", json!({"session_id": "lobby"}));
    let agent = world.agent("coder", Some("lobby"));
    world.heard(ann);
    world.send(ann, "m1", "chat_send", json!({"content": "Build it", "metadata": 1, "session_id": "lobby"}));
    let Some(Event::MessagePosted(asked)) = world.log.last().map(|r| r.event.clone()) else { panic!() };
    world.post(&agent, "lobby", |post| post.reply_to = Some(asked.id.to_string()));
    let payload = world.heard(ann).pop().unwrap()["payload"].clone();
    assert_eq!(payload["sender"], "assistant");
    assert_eq!(payload["platform"], "megabot");
    assert_eq!(payload["agent_id"], "coder");
    assert_eq!(payload["request_id"], "m1");
    assert!(payload.get("user_id").is_none());
    world.post(&agent, "lobby", |post| post.kind = roundtable_core::messages::MessageKind::Thinking);
    assert!(world.heard(ann).is_empty());
}

#[test]
fn where_nobody_can_answer_the_command_agent_does() {
    let mut world = World::new();
    let (ada, session) = world.enter("user_id=ada");
    world.send(ada, "m1", "chat_send", json!({"content": "Hello?"}));
    world.send(ada, "m2", "chat_send", json!({"content": "/WHO"}));
    let told = world.told(ada);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].1["sender"], "system");
    let own = world.own_room(&session);
    assert_eq!((&told[0].1["request_id"], &told[0].1["session_id"]), (&json!("m1"), &json!(own.as_str())));
    assert!(told[0].1["content"].as_str().unwrap().starts_with("No agent or model is configured"));
    assert_eq!(told[1].1["content"], "In this session: ada. Agents online: nobody.");
    let room = world.state.room(&own).unwrap();
    assert_eq!((room.card.entry, room.messages), (Entry::Private, 2));
    world.agent("coder", Some(own.as_str()));
    world.send(ada, "m3", "chat_send", json!({"content": "Hello?"}));
    assert_eq!(world.contents(ada), Vec::<String>::new());
}

#[test]
fn the_named_agent_is_brought_in_and_else_the_configured_one() {
    let mut world = World::new();
    world.settings.default_agent = Some(AgentId::new("helper").unwrap());
    world.agent("tester", None);
    let (ada, session) = world.enter("user_id=ada");
    world.send(ada, "m0", "chat_send", json!({"content": "Anybody?"}));
    assert_eq!(world.told(ada)[0].1["sender"], "system");
    let (helper, own) = (world.agent("helper", None), world.own_room(&session));
    world.send(ada, "m1", "chat_send", json!({"content": "Somebody?"}));
    world.post(&helper, own.as_str(), |_| ());
    let told = world.told(ada);
    assert_eq!(told.len(), 1, "who is brought in and not connected has not come yet: {told:?}");
    assert_eq!((&told[0].1["agent_id"], &told[0].1["request_id"]), (&json!("helper"), &json!("m1")));
    world.send(ada, "m2", "chat_send", json!({"content": "You", "agent_id": "tester"}));
    let members = world.state.room(&own).unwrap().members.len();
    assert_eq!(members, 3);
}

#[test]
fn a_missing_answer_is_told_once() {
    let mut world = World::new();
    let (ada, session) = world.enter("user_id=ada");
    world.send(ada, "m0", "chat_send", json!({"content": "x"}));
    let own = world.own_room(&session);
    let agent = world.agent("coder", Some(own.as_str()));
    world.send(ada, "m1", "chat_send", json!({"content": "answered"}));
    world.post(&agent, own.as_str(), |_| ());
    assert_eq!(world.heard(ada).pop().unwrap()["payload"]["request_id"], "m1");
    world.send(ada, "m2", "chat_send", json!({"content": "not answered", "agent_id": "coder"}));
    world.wait(59_999);
    assert!(world.told(ada).is_empty());
    world.wait(1);
    let told = world.told(ada);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(error_of(&told[0]), ("agent_timeout", "No answer came in time", 504, Some("m2")));
    world.wait(120_000);
    assert!(world.told(ada).is_empty());
    world.send(ada, "m3", "chat_send", json!({"content": "x", "agent_id": "nobody"}));
    assert_eq!(error_of(&world.told(ada)[0]).2, 404);
}

#[test]
fn the_same_id_has_one_effect_even_from_another_connection() {
    let mut world = World::new();
    let (one, _) = world.enter("token=for-ann");
    let (two, _) = world.enter("token=for-ann");
    let (ben, _) = world.enter("token=for-ben");
    for n in [one, two, ben] {
        world.send(n, "join", "session_join", json!({"session_id": "lobby"}));
    }
    world.heard(ben);
    let say = json!({"content": "once", "session_id": "lobby"});
    for n in [one, one, two] {
        world.send(n, "m1", "chat_send", say.clone());
    }
    assert_eq!(world.contents(ben), ["once"]);
    let long = "i".repeat(1_000);
    world.send(one, &long, "chat_send", say.clone());
    world.send(one, &long, "chat_send", say);
    assert_eq!(world.contents(ben), ["once"]);
}

#[test]
fn somebody_elses_session_is_closed() {
    let mut world = World::new();
    let (ann, session) = world.enter("token=for-ann");
    let (ben, _) = world.enter("token=for-ben");
    let forbidden = |world: &mut World, message: &str| {
        let told = world.told(ben);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(error_of(&told[0]), ("forbidden", message, 403, Some("x")));
    };
    world.send(ben, "x", "session_join", json!({"session_id": session}));
    forbidden(&mut world, "This session cannot be entered");
    world.send(ann, "m", "chat_send", json!({"content": "mine"}));
    world.clients[ben].session.recent.clear();
    world.send(ben, "x", "session_join", json!({"session_id": session}));
    forbidden(&mut world, "This session cannot be entered");
    world.send(ben, "x", "chat_send", json!({"content": "yours", "session_id": session}));
    forbidden(&mut world, "Not in this session");
    let text = format!(
        r#"{{"id":"x","type":"chat_send","payload":{{"content":"a"}},"metadata":{{"session_id":"{session}"}}}}"#
    );
    // A hint at a session that it is not in is no more than that: the message goes to its own.
    world.say(ben, &text);
    let told = world.told(ben);
    assert_eq!(told[0].0, "chat_receive", "{told:?}");
    world.send(ann, "own", "chat_send", json!({"content": "by secret", "session_id": session}));
    let own = world.own_room(&session);
    assert_eq!(world.state.room(&own).unwrap().messages, 2, "its own secret means its own room");
    world.send(ben, "x2", "session_join", json!({"session_id": own.as_str()}));
    assert_eq!(
        error_of(&world.told(ben)[0]),
        ("forbidden", "This session cannot be entered", 403, Some("x2"))
    );
}

#[test]
fn the_secret_of_a_seat_is_in_no_frame_but_the_greeting() {
    let mut world = World::new();
    let (ann, secret) = world.enter("token=for-ann");
    let (ben, _) = world.enter("token=for-ben");
    for n in [ann, ben] {
        world.send(n, "join", "session_join", json!({"session_id": "lobby"}));
    }
    world.send(ann, "m", "chat_send", json!({"content": "mine"}));
    world.send(ann, "l", "chat_send", json!({"content": "ours", "session_id": "lobby"}));
    world.send(ann, "a", "collaborative_action", json!({"session_id": secret, "action": "point"}));
    world.send(ann, "e", "chat_send", json!({"content": ""}));
    for n in [ann, ben] {
        let all = format!("{:?}", world.heard(n));
        assert!(!all.is_empty() && !all.contains(&secret), "{all}");
    }
    let again = world.connect(&format!("token=for-ann&session_id={secret}"));
    let greeting = world.heard(again).remove(0);
    assert_eq!(
        (&greeting["payload"]["session_id"], &greeting["payload"]["resumed"]),
        (&json!(secret), &json!(true))
    );
    assert_ne!(greeting["payload"]["room_id"], json!(secret));
    assert_eq!(greeting["metadata"]["session_id"], greeting["payload"]["room_id"]);
}

#[test]
fn a_batch_is_done_in_order_and_bad_items_do_not_stop_it() {
    let mut world = World::new();
    let (ann, _) = world.enter("token=for-ann");
    let (ben, _) = world.enter("token=for-ben");
    world.send(ben, "join", "session_join", json!({"session_id": "lobby"}));
    world.heard(ben);
    let item = |id: &str, kind: &str, payload: Value| json!({"id": id, "type": kind, "payload": payload});
    let say = |id: &str, text: &str| item(id, "chat_send", json!({"session_id": "lobby", "content": text}));
    let messages = json!([
        item("1", "session_join", json!({"session_id": "lobby"})),
        say("2", "one"),
        say("3", ""),
        item("4", "batch", json!({"messages": []})),
        say("5", "two"),
        7,
    ]);
    world.send(ann, "b", "batch", json!({"messages": messages}));
    assert_eq!(world.contents(ben), ["one", "two"]);
    let told = world.told(ann);
    let errors: Vec<_> = told.iter().filter(|t| t.0 == "error").map(error_of).collect();
    assert_eq!(
        errors,
        [
            ("validation_error", "Invalid chat message content", 400, Some("3")),
            ("validation_error", "Invalid payload: type", 400, Some("4")),
            ("validation_error", "Missing required message fields", 400, None),
        ]
    );
    world.send(ann, "empty", "batch", json!({"messages": []}));
    assert!(world.told(ann).is_empty());
    world.send(ann, "many", "batch", json!({"messages": vec![say("m", "x"); 101]}));
    assert_eq!(error_of(&world.told(ann)[0]).1, "Invalid payload: messages");
}

#[test]
fn too_many_frames_and_inner_messages_are_refused_and_the_connection_stays() {
    let mut world = World::new();
    let (ada, _) = world.enter("user_id=ada");
    let limit = world.clients[ada].session.frame_limit();
    assert_eq!(limit, Some(Limit { per_second: 10, burst: 20 }));
    for _ in 0..2 {
        world.run(ada, |session, scene, out| session.too_fast(100, scene, out));
    }
    world.say(ada, r#"{"type":"ping"}"#);
    let told = world.told(ada);
    for frame in &told[..2] {
        assert_eq!(error_of(frame), ("rate_limited", "Rate limit exceeded", 429, None), "it was not read");
        assert_eq!(frame.1["retry_after_ms"], 100);
    }
    assert_eq!(told[2].0, "pong");
    let pings = json!({"messages": vec![json!({"type": "ping"}); 100]});
    for n in 0..3 {
        world.send(ada, &format!("b{n}"), "batch", pings.clone());
    }
    let told = world.told(ada);
    assert_eq!(told.iter().filter(|t| t.0 == "pong").count(), 200);
    assert_eq!(error_of(told.last().unwrap()).3, Some("b2"));
    assert_eq!(told.last().unwrap().1["retry_after_ms"], 500);
}

#[test]
fn too_large_is_told_and_ends_the_connection() {
    let mut world = World::new();
    let (ada, _) = world.enter("user_id=ada");
    world.say(ada, &format!("\"{}\"", "x".repeat(1 << 20)));
    assert_eq!(error_of(&world.told(ada)[0]), ("message_too_large", "Message too large", 413, None));
    assert!(matches!(world.clients[ada].ended, Some(Ending::Close(1009, _))));
    let (bob, _) = world.enter("user_id=bob");
    world.run(bob, |s, scene, out| s.oversized(scene, out));
    assert_eq!(error_of(&world.told(bob)[0]).0, "message_too_large");
}

#[test]
fn binary_frames_are_gzip_or_nonsense() {
    use std::io::Write;
    let mut world = World::new();
    let (ada, _) = world.enter("user_id=ada");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(br#"{"type":"ping"}"#).unwrap();
    let packed = gzip.finish().unwrap();
    world.run(ada, |s, scene, out| s.input(Input::Binary(&packed), scene, out));
    world.run(ada, |s, scene, out| s.input(Input::Binary(b"{\"type\":\"ping\"}"), scene, out));
    let told = world.told(ada);
    assert_eq!(told[0].0, "pong");
    assert_eq!(error_of(&told[1]).0, "invalid_json");
}

#[test]
fn what_does_not_fit_into_one_frame_comes_in_pieces() {
    let mut world = World::new();
    let (ann, _) = world.enter("token=for-ann");
    world.send(ann, "join", "session_join", json!({"session_id": "lobby"}));
    let agent = world.agent("coder", Some("lobby"));
    world.heard(ann);
    let text = "\u{1}\"ü".repeat(200_000);
    world.post(&agent, "lobby", |post| {
        post.content = roundtable_core::messages::Content::Text(text.clone());
    });
    let told = world.told(ann);
    assert!(told.len() > 4 && told.iter().all(|t| t.0 == "chat_stream"));
    let joined: String = told.iter().map(|t| t.1["chunk"].as_str().unwrap()).collect();
    assert!(joined == text);
    for (n, (_, payload)) in told.iter().enumerate() {
        assert_eq!(payload["sequence"], n + 1);
        assert_eq!(payload["is_complete"], n + 1 == told.len());
        assert_eq!(payload["id"], told[0].1["id"]);
    }
}

#[test]
fn ephemeral_rooms_are_heard_too() {
    let mut world = World::new();
    let card = RoomCard { durability: Durability::Ephemeral, ..RoomCard::default() };
    let room = Some(RoomId::new("fast").unwrap());
    world.system(Command::CreateRoom(CreateRoom { room, card })).unwrap();
    let (ann, _) = world.enter("token=for-ann");
    let (ben, _) = world.enter("token=for-ben");
    for n in [ann, ben] {
        world.send(n, "join", "session_join", json!({"session_id": "fast"}));
    }
    world.heard(ben);
    world.send(ann, "m", "chat_send", json!({"session_id": "fast", "content": "now"}));
    assert_eq!(world.contents(ben), ["now"]);
}
