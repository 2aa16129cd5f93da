//! Sessions that several people are in, what they do together, and notices to operators.

use super::*;

fn join(world: &mut World, n: usize, room: &str) {
    world.clients[n].session.recent.clear();
    world.send(n, "join", "session_join", json!({"session_id": room}));
}

#[test]
fn who_joins_is_told_who_is_there_and_the_others_are_told_too() {
    let mut world = World::new();
    let (ann, _) = world.enter("token=for-ann");
    let (ada, _) = world.enter("user_id=ada&platform=mobile");
    join(&mut world, ann, "lobby");
    let alone = json!({
        "session_id": "lobby", "user_id": "ann", "participants": [{"user_id": "ann", "platform": "web"}],
    });
    assert_eq!(world.told(ann), [("session_joined".into(), alone)]);
    join(&mut world, ada, "lobby");
    let both = json!([{"user_id": "ann", "platform": "web"}, {"user_id": "ada", "platform": "mobile"}]);
    assert_eq!(world.told(ada)[0].1["participants"], both);
    let person = json!({"session_id": "lobby", "user_id": "ada", "platform": "mobile"});
    assert_eq!(world.told(ann), [("participant_joined".into(), person.clone())]);
    join(&mut world, ada, "lobby");
    assert_eq!(world.told(ada)[0].0, "session_joined");
    assert!(world.told(ann).is_empty());
    world.send(ada, "bye", "session_leave", json!({"session_id": "lobby"}));
    assert_eq!(world.told(ann), [("participant_left".into(), person)]);
    assert!(world.told(ada).is_empty());
    world.send(ada, "again", "session_leave", json!({"session_id": "lobby"}));
    assert_eq!(error_of(&world.told(ada)[0]), ("forbidden", "Not in this session", 403, Some("again")));
}

#[test]
fn somebody_has_left_when_the_last_connection_has() {
    let mut world = World::new();
    let (ben, _) = world.enter("token=for-ben");
    let clients: Vec<usize> = (0..3).map(|_| world.enter("token=for-ann").0).collect();
    for n in [ben, clients[0], clients[1]] {
        join(&mut world, n, "lobby");
    }
    world.heard(ben);
    world.send(clients[0], "bye", "session_leave", json!({"session_id": "lobby"}));
    assert!(world.told(ben).is_empty());
    world.send(ben, "m", "chat_send", json!({"session_id": "lobby", "content": "still there?"}));
    assert!(world.contents(clients[0]).is_empty());
    assert_eq!(world.contents(clients[1]), ["still there?"]);
    world.cut(clients[1]);
    let left = world.told(ben);
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].0.as_str(), &left[0].1["user_id"]), ("participant_left", &json!("ann")));
    world.cut(clients[2]);
    assert!(world.told(ben).is_empty());
}

#[test]
fn members_of_a_closed_room_are_present_while_they_are_connected() {
    let mut world = World::new();
    let card = RoomCard { entry: Entry::Members, ..RoomCard::default() };
    let room = RoomId::new("team").unwrap();
    world.system(Command::CreateRoom(CreateRoom { room: Some(room.clone()), card })).unwrap();
    for name in ["ann", "ben"] {
        let member = Principal::User(UserId::new(name).unwrap());
        let invite = JoinRoom { room: room.clone(), member, create: None, by_key: true };
        world.system(Command::JoinRoom(invite)).unwrap();
    }
    let (ann, _) = world.enter("token=for-ann");
    join(&mut world, ann, "team");
    world.heard(ann);
    let (ben, _) = world.enter("token=for-ben");
    join(&mut world, ben, "team");
    assert_eq!(world.told(ben)[0].0, "session_joined");
    world.cut(ben);
    let kinds: Vec<_> = world.told(ann).into_iter().map(|t| t.0).collect();
    assert_eq!(kinds, ["participant_joined", "participant_left"]);
    assert_eq!(world.state.room(&room).unwrap().members.len(), 2);
    let (ada, _) = world.enter("user_id=ada");
    join(&mut world, ada, "team");
    assert_eq!(error_of(&world.told(ada)[0]).0, "forbidden");
}

#[test]
fn who_is_put_out_of_a_session_is_told() {
    let mut world = World::new();
    let (ann, _) = world.enter("token=for-ann");
    join(&mut world, ann, "lobby");
    world.heard(ann);
    let who = world.clients[ann].principal.clone();
    world.system(Command::LeaveRoom(RoomId::new("lobby").unwrap(), who)).unwrap();
    let told = world.told(ann);
    assert_eq!((told.len(), told[0].0.as_str()), (1, "notification"));
    world.send(ann, "m", "chat_send", json!({"session_id": "lobby", "content": "x"}));
    assert_eq!(error_of(&world.told(ann)[0]).0, "forbidden");
}

#[test]
fn actions_reach_every_other_connection_in_one_order() {
    let mut world = World::new();
    let ids: Vec<usize> = ["for-ann", "for-ann", "for-ben"]
        .iter()
        .map(|token| world.enter(&format!("token={token}")).0)
        .collect();
    for n in &ids {
        join(&mut world, *n, "lobby");
    }
    let stranger = world.enter("user_id=ada").0;
    for n in &ids {
        world.heard(*n);
    }
    let data = json!({"position": {"line": 1}, "more": [null]});
    let act = |n: u8, data: &Value| json!({"session_id": "lobby", "action": format!("cursor_move{n}"), "data": data, "user_id": "root", "x": 1});
    world.send(ids[0], "a1", "collaborative_action", act(1, &data));
    world.send(ids[0], "a1", "collaborative_action", act(1, &data));
    world.send(ids[2], "a2", "collaborative_action", json!({"session_id": "lobby", "action": "file_open"}));
    let first = json!({"session_id": "lobby", "action": "cursor_move1", "data": data, "user_id": "ann"});
    let second = json!({"session_id": "lobby", "action": "file_open", "data": null, "user_id": "ben"});
    let kind = "collaborative_action".to_owned();
    assert_eq!(world.told(ids[0]), [(kind.clone(), second.clone())]);
    assert_eq!(world.told(ids[1]), [(kind.clone(), first.clone()), (kind.clone(), second)]);
    assert_eq!(world.told(ids[2]), [(kind, first)]);
    assert!(world.told(stranger).is_empty());
    world.send(stranger, "a", "collaborative_action", act(1, &data));
    assert_eq!(error_of(&world.told(stranger)[0]), ("forbidden", "Not in this session", 403, Some("a")));
    world.send(stranger, "b", "collaborative_action", json!({"session_id": "lobby"}));
    assert_eq!(error_of(&world.told(stranger)[0]).1, "Invalid payload: action");
}

#[test]
fn operators_are_notified_of_alerts_and_others_are_not() {
    let mut world = World::new();
    let (root, _) = world.enter("token=for-root");
    let (ann, _) = world.enter("token=for-ann");
    let alert = AlertRaised {
        alert: AlertId::new("a1").unwrap(),
        source: "cpu".into(),
        level: Level::Critical,
        title: "Processor busy".into(),
        message: "95 percent".into(),
        value: Some(95.0),
        threshold: Some(90.0),
        details: Json::empty_object(),
        feed: None,
    };
    world.system(Command::RaiseAlert(alert)).unwrap();
    world.system(Command::ClearAlert("cpu".into())).unwrap();
    let told = world.told(root);
    let notice = json!({
        "type": "error", "title": "Processor busy", "message": "95 percent", "action_url": null,
        "dismissible": true,
    });
    assert_eq!(told[0], ("notification".into(), notice));
    assert_eq!(told[1].1["type"], "success");
    assert!(world.told(ann).is_empty());
}
