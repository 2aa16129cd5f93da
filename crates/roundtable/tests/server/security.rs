//! What the rules find in real traffic, who hears of it, and that a block is in force.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::rig::{Client, House};

/// Shows a token that is good for nothing, and is told so.
async fn fail(house: &House, number: usize, token: &str) {
    let mut guess = Client::come(house.address(number), &format!("/openagi/ws?token={token}")).await.unwrap();
    assert_eq!(guess.next().await["data"]["message"], "Invalid token");
    guess.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_failed_logins_are_answered_with_a_block_that_outlives_a_restart_and_is_lifted() {
    let house = House::open(&[]).await;
    let mut dash = house.watcher(&["security_events"]).await;
    let token = house.node_token("n1").await;
    for _ in 0..3 {
        fail(&house, 0, "guess").await;
    }
    let suspected = dash.event("suspicious_activity").await;
    assert_eq!(
        suspected,
        json!({"source": "127.0.0.1", "activity": "brute_force", "severity": "medium", "count": 3, "window_seconds": 300})
    );
    for _ in 0..3 {
        fail(&house, 0, "guess").await;
    }
    let caught = dash.event("intrusion_detected").await;
    assert_eq!(
        (&caught["attack_type"], &caught["source_ip"], &caught["blocked"], &caught["severity"]),
        (&json!("brute_force"), &json!("127.0.0.1"), &json!(true), &json!("high"))
    );
    let evidence = &caught["evidence"];
    assert_eq!((&evidence["count"], &evidence["threshold"]), (&json!(6), &json!(5)));
    assert_eq!(evidence["listener"], house.address(0).to_string());
    assert!(caught["confidence"].as_f64().unwrap() > 0.5);
    let blocked = dash.event("attack_blocked").await;
    assert_eq!((&blocked["action"], &blocked["alert_id"]), (&json!("banned"), &caught["alert_id"]));

    refused_everywhere(&house, &token).await;
    // Who is in stays in, who needs to show nothing is served, and the other listener is not concerned.
    dash.send(&json!({"type": "ping"})).await;
    assert_eq!(dash.next().await["type"], "pong");
    let mut guest = Client::come(house.address(0), "/ws").await.unwrap();
    assert_eq!(guest.next().await["type"], "hive_status_update");
    assert_eq!(house.http(0, "GET /api/v1/status", "", &Value::Null).await.0, 200);
    let (status, seen) = house.http(1, "GET /api/v1/security/status", &token, &Value::Null).await;
    assert_eq!((status, &seen["intrusion_attempts"]), (200, &json!(1)));
    let of_status = &seen["blocked_addresses"][0];
    assert_eq!((&of_status["address"], &of_status["until"]), (&json!("127.0.0.1"), &blocked["until"]));
    assert!(seen["last_security_event"].is_string());

    let house = house.again(&[]).await;
    refused_everywhere(&house, &token).await;
    let (_, listed) = house.admin("GET /admin/v1/blocks", Value::Null).await;
    assert_eq!(listed["blocks"][0]["until"], blocked["until"], "refused tries did not prolong it");
    let lifted = house.admin("POST /admin/v1/blocks/lift", json!({"address": "127.0.0.1"})).await;
    assert_eq!(lifted, (200, json!({"address": "127.0.0.1"})));
    assert!(Client::come(house.address(0), &format!("/openagi/ws?token={token}")).await.is_ok());
    assert_eq!(house.admin("POST /admin/v1/blocks/lift", json!({"address": "127.0.0.1"})).await.0, 404);
    house.close().await;
}

/// Open-A.G.I reads nothing from there, and what could be a guess elsewhere is refused.
async fn refused_everywhere(house: &House, token: &str) {
    let refused = Client::come(house.address(0), &format!("/openagi/ws?token={token}")).await.err().unwrap();
    assert_eq!((refused.0, &refused.1["error"]["message"]), (403, &json!("This address is blocked")));
    assert_eq!(house.http(0, "GET /api/v1/network/peers", token, &Value::Null).await.0, 403);
    let (status, head, _) = house.whole(0, "GET /api/agents", "guess", "").await;
    assert_eq!(status, 429);
    assert!(head.contains("\nretry-after: "), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_ends_by_itself() {
    let house = House::open(&["security.login_block=1s", "security.login_window=1s"]).await;
    let mut dash = house.watcher(&["security_events"]).await;
    let token = house.node_token("n1").await;
    for _ in 0..6 {
        fail(&house, 0, "guess").await;
    }
    dash.event("attack_blocked").await;
    assert!(Client::come(house.address(0), &format!("/openagi/ws?token={token}")).await.is_err());
    let home = house.server.hub.workspaces.get(house.server.hub.workspaces.default_id()).unwrap();
    let head = home.view().state.head;
    assert_eq!(home.view().state.blocks().len(), 1);
    tokio::time::timeout(std::time::Duration::from_secs(5), home.beyond(head)).await.unwrap();
    assert_eq!(home.view().state.blocks().len(), 0, "the engine wakes for the end of a block");
    assert!(Client::come(house.address(0), &format!("/openagi/ws?token={token}")).await.is_ok());
    drop(home);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_somebody_else_signed_are_told_from_guesses() {
    let (house, other) = (House::open(&[]).await, House::open(&[]).await);
    let mut dash = house.watcher(&["security_events"]).await;
    let forged = other.node_token("n1").await;
    for _ in 0..6 {
        fail(&house, 1, &forged).await;
    }
    assert_eq!(dash.event("intrusion_detected").await["attack_type"], "brute_force");
    let caught = dash.event("intrusion_detected").await;
    assert_eq!((&caught["attack_type"], &caught["blocked"]), (&json!("invalid_signature"), &json!(true)));
    assert_eq!(caught["evidence"]["count"], 6);
    house.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_paths_count_wrong_tokens_and_stay_open_on_this_machine() {
    let house = House::open(&[]).await;
    let mut dash = house.watcher(&["security_events"]).await;
    for _ in 0..6 {
        assert_eq!(house.http(0, "GET /admin/v1/users", "wrong", &Value::Null).await.0, 401);
    }
    assert_eq!(dash.event("intrusion_detected").await["attack_type"], "brute_force");
    let (status, head, _) = house.whole(0, "GET /admin/v1/users", "wrong", "").await;
    assert!(status == 403 && head.contains("\nretry-after: "), "{head}");
    assert_eq!(house.admin("GET /admin/v1/users", Value::Null).await.0, 200);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_beyond_the_rate_are_flooding_and_frames_that_are_none_are_suspicious() {
    let house = House::open(&[]).await;
    let mut dash = house.watcher(&["security_events"]).await;
    let token = house.node_token("loud").await;
    let mut loud = Client::come(house.address(1), &format!("/api/v1/ws?token={token}")).await.unwrap();
    for _ in 0..25 {
        loud.say("no frame").await;
    }
    let odd = dash.event("suspicious_activity").await;
    assert_eq!((&odd["activity"], &odd["count"]), (&json!("malformed_frames"), &json!(20)));
    for _ in 0..300 {
        loud.send(&json!({"type": "pong"})).await;
    }
    let caught = dash.event("intrusion_detected").await;
    assert_eq!(
        (&caught["attack_type"], &caught["blocked"], &caught["evidence"]["count"]),
        (&json!("flooding"), &json!(false), &json!(51))
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_in_somebody_elses_name_is_told() {
    let house = House::open(&[]).await;
    let mut dash = house.watcher(&["security_events"]).await;
    for (path, body) in [
        ("POST /admin/v1/agents", json!({"agent_id": "a1"})),
        ("POST /admin/v1/agents", json!({"agent_id": "b2"})),
        ("POST /admin/v1/rooms", json!({"room": "lobby"})),
    ] {
        assert_eq!(house.admin(path, body).await.0, 201);
    }
    let (_, key) = house.admin("POST /admin/v1/keys", json!({"agent": "a1", "room": "lobby"})).await;
    let (id, secret) = key["key"].as_str().unwrap().split_once(':').unwrap();
    let auth = json!({"domainKey": house.first.domain_key, "keyId": id, "secretKey": secret});
    let mut agent = Client::come(house.address(0), "/socket.io/?EIO=4&transport=websocket").await.unwrap();
    agent.text().await;
    agent.say(&format!("40{auth}")).await;
    while !agent.text().await.unwrap().starts_with("42[\"auth:success\"") {}
    agent.say(r#"42["message:send",{"channelId":"lobby","agentId":"b2","content":"it was not me"}]"#).await;
    let caught = dash.event("intrusion_detected").await;
    assert_eq!((&caught["attack_type"], &caught["blocked"]), (&json!("spoofing"), &json!(false)));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_from_one_address_and_a_repeated_message_are_told() {
    let house = House::open(&[]).await;
    let mut dash = house.watcher(&["security_events"]).await;
    let watch = &house.server.hub.watch;
    // Clients of a test can only come from this machine, which is not counted: the accept loop's own question is asked.
    let listener = house.listener(0);
    let [near, far]: [IpAddr; 2] = ["127.0.0.1", "192.0.2.7"].map(|ip| ip.parse().unwrap());
    assert!((0..1_000).all(|_| watch.comes((near, &listener))));
    assert!((0..101).all(|_| watch.comes((far, &listener))));
    assert!(!watch.comes((far, &listener)), "refused at once, not only when it is in the log");
    let caught = dash.event("intrusion_detected").await;
    assert_eq!((&caught["attack_type"], &caught["blocked"]), (&json!("ddos"), &json!(true)));
    let blocked = dash.event("attack_blocked").await;
    assert_eq!((&blocked["source_ip"], &blocked["action"]), (&json!("192.0.2.7"), &json!("rate_limited")));
    assert!(!watch.comes((far, &listener)));
    for _ in 0..3 {
        watch.replayed((far, &listener), b"the same challenge");
    }
    assert_eq!(dash.event("intrusion_detected").await["attack_type"], "replay");
    house.close().await;
}
