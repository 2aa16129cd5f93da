//! Credentials, guests, refusals, and what is sent before the greeting.

use super::*;
use crate::session::Sign;

fn refusal(world: &mut World, query: &str, headers: (Option<&str>, Option<&str>)) -> (Value, Option<Ending>) {
    let n = world.knock(query, headers, false);
    let frames = world.heard(n);
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0]["type"], "connection_error");
    (frames[0]["payload"].clone(), world.clients[n].ended.clone())
}

#[test]
fn a_guest_is_greeted_and_named() {
    let mut world = World::new();
    let n = world.connect("user_id=ada&platform=mobile");
    let frame = world.heard(n).remove(0);
    let id = format!("sess_{:032x}", 0xabcd_0000_u128);
    let room = frame["payload"]["room_id"].clone();
    assert!(room.as_str().is_some_and(|room| room.starts_with("chat_") && room.len() == 29), "{room}");
    let payload = json!({
        "session_id": id, "room_id": room, "user_id": "ada",
        "capabilities": ["chat", "realtime", "streaming", "collaboration", "batch", "resume"],
        "verified": false, "resumed": false,
    });
    assert_eq!((&frame["type"], &frame["payload"]), (&json!("connection_established"), &payload));
    assert_eq!(frame["timestamp"], 1_700_000_000);
    assert_eq!(frame["metadata"], json!({"user_id": "ada", "session_id": room, "platform": "mobile"}));
    let n = world.connect("user_id=no+spaces");
    let heard = world.heard(n);
    assert_eq!(heard[0]["payload"]["user_id"], "guest_0a1b2c3d");
    assert_eq!(
        heard[1]["payload"]["error"], "validation_error",
        "who becomes another one is told: {heard:?}"
    );
    assert!(heard[1]["payload"]["message"].as_str().unwrap().starts_with("user_id"));
}

#[test]
fn the_first_credential_decides() {
    let mut world = World::new();
    for (query, authorization, key, user) in [
        ("token=for-ann&user_id=ben", None, None, "ann"),
        ("token=for-ann", Some("Bearer for-ben"), None, "ann"),
        ("", Some("Bearer for-ben"), Some("for-ann"), "ben"),
        ("", None, Some("for-ann"), "ann"),
    ] {
        let n = world.knock(query, (authorization, key), false);
        let payload = &world.heard(n)[0]["payload"];
        assert_eq!((&payload["user_id"], &payload["verified"]), (&json!(user), &json!(true)));
    }
}

#[test]
fn refusals_are_one_frame_and_a_close() {
    let mut world = World::new();
    let failed = |message: &str, code: u16| json!({"error": "authentication_failed", "message": message, "code": code});
    for (query, key, expected) in [
        ("token=x", None, failed("Invalid token provided", 401)),
        ("token=", None, failed("Invalid token provided", 401)),
        ("token=old", None, failed("Token expired", 401)),
        ("", Some("x"), failed("Invalid API key provided", 401)),
        ("user_id=ann", None, failed("User id belongs to a registered account", 403)),
    ] {
        let (payload, ended) = refusal(&mut world, query, (None, key));
        assert_eq!(payload, expected);
        let message = expected["message"].as_str().unwrap().to_owned();
        assert_eq!(ended, Some(Ending::Close(1008, message)));
    }
    world.anonymous = false;
    let (payload, _) = refusal(&mut world, "user_id=ada", (None, None));
    let required =
        json!({"error": "authentication_required", "message": "Authentication required", "code": 401});
    assert_eq!(payload, required);
}

#[test]
fn what_is_sent_before_the_greeting_is_done_after_it() {
    let mut world = World::new();
    let n = world.clients.len();
    // Everything is said between the upgrade and the answer about the credential.
    let session = MegaBotSession::new(Arc::new(world.settings.clone()));
    let mut client = Vec::new();
    let scene =
        Scene { now: world.now, at: world.now, state: &world.state, epoch: EPOCH, figures: &world.figures };
    let mut session = session;
    for text in [r#"{"type":"ping"}"#, "nonsense"] {
        session.input(Input::Text(text), scene, &mut client);
    }
    session.too_fast(100, scene, &mut client);
    assert!(matches!(client.as_slice(), [Output::Notice(Sign::TooFast)]), "the client hears nothing yet");
    world.connect("user_id=ada");
    let waiting = std::mem::take(&mut session.early);
    world.clients[n].session.early = waiting;
    world.clients[n].frames.clear();
    world.run(n, |s, scene, out| s.seated(true, scene, out));
    let told = world.told(n);
    assert_eq!(told[0].0, "connection_established");
    assert_eq!(told[1], ("pong".into(), json!({})));
    assert_eq!(error_of(&told[2]).0, "invalid_json");
    assert_eq!(error_of(&told[3]), ("rate_limited", "Rate limit exceeded", 429, None));
}

#[test]
fn what_waits_for_the_greeting_is_bounded_in_bytes() {
    let world = World::new();
    let mut session = MegaBotSession::new(Arc::new(world.settings.clone()));
    let mut out = Vec::new();
    let scene =
        Scene { now: world.now, at: world.now, state: &world.state, epoch: EPOCH, figures: &world.figures };
    let most = world.settings.max_message_bytes;
    session.input(Input::Text(&"x".repeat(most)), scene, &mut out);
    assert!(out.is_empty(), "one message of any legal size waits");
    session.input(Input::Text("y"), scene, &mut out);
    assert!(matches!(out.as_slice(), [Output::End(Ending::Close(1008, _))]));
}

#[test]
fn compression_is_used_only_if_asked_and_nothing_better_is_there() {
    let mut world = World::new();
    let (ann, _) = world.enter("user_id=ada");
    world.send(ann, "1", "session_join", json!({"session_id": "lobby"}));
    for (query, deflate, packed) in
        [("compression=gzip", false, 1), ("compression=gzip", true, 0), ("", false, 0)]
    {
        let n = world.knock(&format!("user_id=bob&{query}"), (None, None), deflate);
        world.send(n, "j", "session_join", json!({"session_id": "lobby"}));
        world.wait(1_000);
        world.send(
            ann,
            &format!("m{n}"),
            "chat_send",
            json!({"session_id": "lobby", "content": "x".repeat(2_000)}),
        );
        assert_eq!(world.clients[n].packed, packed, "{query} {deflate}");
        assert_eq!(world.contents(n), ["x".repeat(2_000)]);
    }
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<MegaBotSession>() <= 640, "{}", size_of::<MegaBotSession>());
}
