//! What is too much for a running server, and how each client is told.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use roundtable::config::Config;
use roundtable::desk::Desks;
use roundtable::transport::http::From;
use roundtable::transport::listen::Crowd;
use roundtable_dialects::hive;
use roundtable_dialects::rest::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{Client, House};

/// A MegaBot guest in the session `lobby`.
async fn in_lobby(house: &House, query: &str) -> Client {
    let mut client = Client::come(house.address(1), &format!("/ws?{query}")).await.unwrap();
    client.next().await;
    client.send(&json!({"id": query, "type": "session_join", "payload": {"session_id": "lobby"}})).await;
    while client.next().await["type"] != "session_joined" {}
    client
}

fn chat(id: &str, content: &str) -> Value {
    json!({"id": id, "type": "chat_send", "payload": {"session_id": "lobby", "content": content}})
}

fn is_too_often(status: u16, head: &str) {
    assert_eq!(status, 429, "{head}");
    let after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect(head);
    assert!((1..=3_600).contains(&after.parse::<u64>().unwrap()), "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_no_ping_is_gone_and_who_answers_stays() {
    let house = House::open(&["websocket.ping_interval=300ms"]).await;
    let mut silent = Client::come(house.address(0), "/ws").await.unwrap();
    let mut reader = Client::come(house.address(0), "/ws").await.unwrap();
    let reading = tokio::spawn(async move { reader.end().await });
    let open = async || {
        let (_, listed) = house.admin("GET /admin/v1/connections", Value::Null).await;
        listed["connections"].as_array().unwrap().len()
    };
    assert_eq!(open().await, 2);
    let gone = async {
        while open().await == 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert!(!reading.is_finished(), "who answers stays");
    silent.end().await;
    house.close().await;
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_surplus_of_frames_is_told_once_and_ignored() {
    let house = House::open(&["openagi.frames_per_second=5"]).await;
    let mut loud =
        Client::come(house.address(0), &format!("/openagi/ws?token={}", house.node_token("loud").await))
            .await
            .unwrap();
    for _ in 0..20 {
        loud.send(&json!({"type": "ping"})).await;
    }
    for _ in 0..5 {
        assert_eq!(loud.next().await, json!({"type": "pong"}));
    }
    let told = loud.next().await;
    assert_eq!((&told["type"], &told["data"]["code"]), (&json!("error"), &json!(429)));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    loud.send(&json!({"type": "subscribe", "channels": ["network_events"]})).await;
    assert_eq!(loud.next().await["type"], "subscribed", "nothing else of the surplus is answered");
    house.close().await;
}

/// Says something large again and again until that is refused; gives how often it was not, and the refusal.
async fn until_refused(client: &mut Client) -> (u32, Value) {
    for n in 0..100 {
        let mut large = chat(&format!("big{n}"), "Look");
        large["payload"]["attachments"] = json!(["x".repeat(400_000)]);
        client.send(&large).await;
        // Whoever joins again is answered in its turn.
        let join = json!({"id": format!("j{n}"), "type": "session_join", "payload": {"session_id": "lobby"}});
        client.send(&join).await;
        loop {
            match client.next().await {
                told if told["type"] == "session_joined" => break,
                told if told["type"] == "error" => return (n, told["payload"].clone()),
                _ => {}
            }
        }
    }
    panic!("nothing is refused");
}

async fn payload(client: &mut Client, kind: &str) -> Value {
    loop {
        let frame = client.next().await;
        if frame["type"] == kind {
            return frame["payload"].clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_fills_the_disk() {
    let house = House::open(&["storage.principal_bytes_per_minute=4MiB"]).await;
    let mut loud = in_lobby(&house, "user_id=loud").await;
    let (said, told) = until_refused(&mut loud).await;
    assert_eq!((&told["error"], &told["code"]), (&json!("rate_limited"), &json!(429)));
    assert!(told["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0) && said >= 5, "{said} {told}");
    let mut other = in_lobby(&house, "user_id=other").await;
    other.send(&chat("o1", "Hello")).await;
    assert_eq!(payload(&mut loud, "chat_receive").await["content"], "Hello", "others are not concerned");
    let house = house.again(&["storage.workspace_bytes=6MiB"]).await;
    let mut loud = in_lobby(&house, "user_id=third").await;
    let (_, told) = until_refused(&mut loud).await;
    assert_eq!((&told["error"], &told["code"]), (&json!("quota_exceeded"), &json!(507)));
    in_lobby(&house, "user_id=late").await;
    let (status, _, text) = house.whole(0, "GET /metrics", "", "").await;
    assert!(status == 200 && text.contains("\nroundtable_disk_left_seconds +Inf\n"), "{text}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_stands_for_one_message_also_after_a_restart() {
    let house = House::open(&[]).await;
    let mut ben = in_lobby(&house, "user_id=ben").await;
    let mut ada = in_lobby(&house, "user_id=ada").await;
    ada.send(&chat("once", "Hello")).await;
    assert_eq!(payload(&mut ben, "chat_receive").await["content"], "Hello");
    let house = house.again(&[]).await;
    let mut ben = in_lobby(&house, "user_id=ben").await;
    let mut ada = in_lobby(&house, "user_id=ada").await;
    ada.send(&chat("once", "Hello")).await;
    ada.send(&chat("once", "Something else")).await;
    let told = payload(&mut ada, "error").await;
    assert_eq!((&told["error"], &told["request_id"]), (&json!("conflict"), &json!("once")));
    ada.send(&chat("twice", "Bye")).await;
    assert_eq!(payload(&mut ben, "chat_receive").await["content"], "Bye", "nothing comes again");
    house.close().await;
}

/// The operator's list of one guest's connection; nothing when it is not there.
async fn listed(house: &House, guest: &str) -> Option<Value> {
    let (_, listed) = house.admin("GET /admin/v1/connections", Value::Null).await;
    let of_guest = |c: &&Value| c["sessions"][0]["principal"] == format!("guest:{guest}");
    listed["connections"].as_array().unwrap().iter().find(of_guest).cloned()
}

/// Says something in the lobby that is longer than people there may say themselves: 500,000 characters after its first word.
async fn say_at_length(house: &House, word: impl std::fmt::Display) {
    let said = json!({"content": format!("{word} {}", "x".repeat(500_000))});
    assert_eq!(house.admin("POST /admin/v1/rooms/lobby/messages", said).await.0, 201);
}

/// Asks again and again until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let found = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("it must come to that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_is_told_how_many_frames_it_did_not_get() {
    let house = House::open(&[
        "limits.queue=64KiB",
        "limits.stall_timeout=1s",
        "megabot.frames_per_second=off",
        "websocket.close_timeout=30s",
    ])
    .await;
    let mut slow = in_lobby(&house, "user_id=slow").await;
    for n in 0..40 {
        say_at_length(&house, n).await;
    }
    until(async || {
        let (_, _, metrics) = house.whole(0, "GET /metrics", &house.first.admin_token, "").await;
        metrics.contains("roundtable_too_slow_total{dialect=\"megabot\"} 1")
    })
    .await;
    let (code, reason) = slow.closed().await;
    assert_eq!(code, 1013);
    let unsent =
        reason.strip_prefix("too slow: ").and_then(|rest| rest.strip_suffix(" frames were not sent"));
    assert!(unsent.expect(&reason).parse::<u32>().unwrap() > 0, "{reason}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_gets_everything_from_the_log_at_its_own_pace() {
    let house = House::open(&["limits.queue=64KiB", "megabot.frames_per_second=off"]).await;
    let mut slow = in_lobby(&house, "user_id=slow").await;
    for n in 0..40 {
        say_at_length(&house, n).await;
    }
    until(async || {
        let slow = listed(&house, "slow").await.unwrap();
        assert!(slow["queued_bytes"].as_u64().unwrap() < (64 << 10) + 600_000, "its queue and one frame");
        slow["behind"] == true
    })
    .await;
    let mut number = async || loop {
        let frame = slow.next().await;
        if frame["type"] == "chat_receive" {
            let content = frame["payload"]["content"].as_str().unwrap().to_owned();
            break content.split(' ').next().unwrap().parse::<u32>().unwrap();
        }
    };
    for n in 0..40 {
        assert_eq!(number().await, n);
        if n == 20 {
            say_at_length(&house, 40).await;
        }
    }
    assert_eq!(number().await, 40);
    until(async || listed(&house, "slow").await.unwrap()["behind"] == false).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_that_a_slow_reader_has_no_room_for_are_counted() {
    let house = House::open(&["limits.queue=64KiB", "megabot.frames_per_second=off"]).await;
    let room = json!({"room": "lobby", "durability": "ephemeral"});
    assert_eq!(house.admin("POST /admin/v1/rooms", room).await.0, 201);
    let mut slow = in_lobby(&house, "user_id=slow").await;
    for n in 0..40 {
        say_at_length(&house, n).await;
    }
    until(async || listed(&house, "slow").await.unwrap()["lost"].as_u64().unwrap() > 0).await;
    let (_, _, metrics) = house.whole(0, "GET /metrics", &house.first.admin_token, "").await;
    assert!(metrics.contains("roundtable_lost_signals_total{dialect=\"megabot\"} "), "{metrics}");
    let mut bob = in_lobby(&house, "user_id=bob").await;
    let reading = async { while slow.next().await["payload"]["content"] != "last" {} };
    let talking = async {
        for number in 0.. {
            bob.send(&chat(&format!("last-{number}"), "last")).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = reading => {}
        () = talking => {}
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rest_says_when_to_try_again() {
    let house = House::open(&["openagi.requests_per_minute=3"]).await;
    for _ in 0..3 {
        assert_eq!(house.whole(1, "GET /api/v1/status", "", "").await.0, 200);
    }
    let (status, head, _) = house.whole(1, "GET /api/v1/status", "", "").await;
    is_too_often(status, &head);
    let wrong = json!({"username": "admin", "password": "guess"}).to_string();
    for _ in 0..6 {
        assert_eq!(house.whole(1, "POST /api/auth/login", "", &wrong).await.0, 401);
    }
    for path in ["/api/auth/login", "/api/users/login", "/dev/aiwm/auth/login"] {
        let (status, head, _) = house.whole(1, &format!("POST {path}"), "", &wrong).await;
        is_too_often(status, &head);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hive_counts_who_asks_from_elsewhere() {
    let house = House::open(&["hive.status_per_minute=2", "hive.agents_per_minute=1"]).await;
    // Clients of a test come from this machine, which is not counted: the handlers get a request from elsewhere.
    let peer = "192.0.2.7".parse().unwrap();
    let listener = Arc::new(house.listener(0));
    let place = Arc::new(Crowd::new(None).enter(peer).unwrap());
    let desk =
        Desks::new(Arc::clone(&house.server.hub), &Config::default()).open(From::new(peer, listener, place));
    let ask = async |method: &str, path: &str, body: &str| {
        let request = Request {
            method,
            path,
            query: "",
            body: body.as_bytes(),
            authorization: None,
            api_key: None,
            channel_key: None,
            request_id: "r1",
            peer,
            anonymous: true,
        };
        let answer = hive::rest::handle(&request, &desk).await.unwrap();
        let after = answer.headers.iter().find(|(name, _)| *name == "Retry-After");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let after = after.map(|(_, value)| value.parse::<u64>().unwrap());
        let told = body["error"]["details"]["retry_after_seconds"].as_u64();
        assert_eq!(after, told, "the header and the body say the same");
        (answer.status, after.is_some_and(|seconds| (1..=60).contains(&seconds)))
    };
    for expected in [(200, false), (200, false), (429, true)] {
        assert_eq!(ask("GET", "/api/hive/status", "").await, expected);
    }
    let agent = r#"{"name":"scout","type":"worker","capabilities":[{"name":"search","proficiency":0.5}]}"#;
    for expected in [(201, false), (429, true)] {
        assert_eq!(ask("POST", "/api/agents", agent).await, expected);
    }
    drop(desk);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_have_their_own_limit_and_are_refused_whole() {
    let house = House::open(&[]).await;
    let mut ada = in_lobby(&house, "user_id=ada").await;
    let batch = |id: &str| {
        let item = |n: u32| json!({"id": format!("{id}-{n}"), "type": "ping", "payload": {}});
        json!({"id": id, "type": "batch", "payload": {"messages": (0..100).map(item).collect::<Vec<_>>()}})
    };
    for id in ["b1", "b2", "b3"] {
        ada.send(&batch(id)).await;
    }
    for _ in 0..200 {
        assert_eq!(ada.next().await["type"], "pong");
    }
    let told = ada.next().await["payload"].clone();
    assert_eq!(
        (&told["error"], &told["code"], &told["request_id"]),
        (&json!("rate_limited"), &json!(429), &json!("b3"))
    );
    let after = told["retry_after_ms"].as_u64().unwrap();
    tokio::time::sleep(Duration::from_millis(after + 50)).await;
    ada.send(&batch("b4")).await;
    assert_eq!(ada.next().await["type"], "pong");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_told_before_the_close() {
    let house = House::open(&["websocket.max_message=64KiB"]).await;
    let mut ada = in_lobby(&house, "user_id=ada").await;
    ada.send(&chat("large", &"x".repeat(70_000))).await;
    let told = ada.next().await["payload"].clone();
    assert_eq!((&told["error"], &told["code"]), (&json!("message_too_large"), &json!(413)));
    assert_eq!(ada.closed().await.0, 1009);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_come_as_gzip_where_that_was_asked_for_and_are_taken_as_such() {
    let house = House::open(&[]).await;
    let mut ada = in_lobby(&house, "user_id=ada&compression=gzip").await;
    let mut bob = in_lobby(&house, "user_id=bob").await;
    while ada.next().await["type"] != "participant_joined" {}
    let text = "word ".repeat(1_000);
    bob.send(&chat("large", &text)).await;
    let mut frame = String::new();
    flate2::read::GzDecoder::new(ada.binary().await.as_slice()).read_to_string(&mut frame).unwrap();
    let frame: Value = serde_json::from_str(&frame).unwrap();
    assert_eq!((&frame["type"], &frame["payload"]["content"]), (&json!("chat_receive"), &json!(text)));
    let mut packed = Vec::new();
    let sent = chat("answer", &text).to_string();
    flate2::read::GzEncoder::new(sent.as_bytes(), flate2::Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    ada.send_binary(packed).await;
    assert_eq!(bob.next().await["payload"]["content"], text, "and who did not ask for it gets text");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_are_deflated_where_the_client_offers_it() {
    let house = House::open(&[]).await;
    let mut bob = in_lobby(&house, "user_id=bob").await;
    let mut ada = TcpStream::connect(house.address(1)).await.unwrap();
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let head = format!(
        "GET /ws?user_id=ada&compression=gzip HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
    ada.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(ada.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(answer.contains("sec-websocket-extensions: permessage-deflate"), "{answer}");
    let (first, greeting) = frame(&mut ada).await;
    assert_eq!((first, text_of(&greeting)["type"].clone()), (0x81, json!("connection_established")));
    let join = json!({"id": "j", "type": "session_join", "payload": {"session_id": "lobby"}}).to_string();
    // A mask of zeros changes nothing.
    let mut masked = vec![0x81, 0x80 | u8::try_from(join.len()).unwrap(), 0, 0, 0, 0];
    masked.extend(join.as_bytes());
    ada.write_all(&masked).await.unwrap();
    while text_of(&frame(&mut ada).await.1)["type"] != "session_joined" {}
    let text = "word ".repeat(1_000);
    bob.send(&chat("large", &text)).await;
    let (first, packed) = frame(&mut ada).await;
    assert_eq!(first, 0xc1, "a compressed text, and not gzip in a binary message");
    assert!(packed.len() < 1_000);
    let mut plain = Vec::with_capacity(16 << 10);
    let whole = [packed.as_slice(), &[0, 0, 0xff, 0xff]].concat();
    flate2::Decompress::new(false).decompress_vec(&whole, &mut plain, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(text_of(&plain)["payload"]["content"], text);
    house.close().await;
}

fn text_of(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap()
}

/// The first byte and the payload of the next frame that is no ping.
async fn frame(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    loop {
        let first = socket.read_u8().await.unwrap();
        let length = match socket.read_u8().await.unwrap() {
            126 => u64::from(socket.read_u16().await.unwrap()),
            127 => socket.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        socket.read_exact(&mut payload).await.unwrap();
        if first != 0x89 {
            return (first, payload);
        }
    }
}
