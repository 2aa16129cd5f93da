//! REST over a desk in memory: tokens, what is known of the network, incidents, refusals.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roundtable_core::alerts::{Finding, SecurityNoticed};
use roundtable_core::cluster::NodeJoined;
use roundtable_core::command::Command;
use roundtable_core::ids::{AlertId, NodeId, Principal};
use roundtable_core::json::Json;
use serde_json::{Value, json};

use super::handle;
use crate::open_agi::encode;
use crate::rest::{Desk, Request};
use crate::session::Family;
use crate::stage::{Counter, Stage, answered, request};

const LOGIN: &str = r#"{"node_id":"w1","public_key":"a2V5"}"#;

fn stage() -> Stage {
    let mut stage = Stage::new(encode);
    for (id, kind) in [("n1", "server"), ("c1", "client")] {
        stage.system(Command::JoinNetwork(NodeJoined {
            node: NodeId::new(id).unwrap(),
            address: "10.0.0.1".into(),
            kind: kind.into(),
            capabilities: vec![],
        }));
    }
    stage
}

fn counter() -> Counter {
    let mut stage = stage();
    stage.figures.started_at = stage.now.plus(-100_000);
    stage.figures.cpu_percent = 12.5;
    Counter::of(&stage)
}

fn call(counter: &Counter, method: &str, path: &str, body: &str) -> (u16, Value) {
    answered(handle(&request(method, path, body), counter))
}

/// As a node with a token.
fn ask(counter: &Counter, method: &str, path: &str, body: &str) -> (u16, Value) {
    let with = Request { authorization: Some("Bearer node:c1"), ..request(method, path, body) };
    answered(handle(&with, counter))
}

#[test]
fn a_token_is_handed_out_at_once_at_home() {
    let counter = counter();
    let (status, answer) = call(&counter, "POST", "/api/v1/auth/token", LOGIN);
    let expected = json!({
        "token": "node:w1", "token_type": "bearer", "expires_in": 3600,
        "expires_at": "2026-01-01T01:00:00.000Z", "node_id": "w1",
    });
    assert_eq!((status, answer), (200, expected));
    let order = counter.orders.lock().unwrap().remove(0);
    assert_eq!(order.family, Family::OpenAgi);
    assert_eq!(order.subject, Principal::Node(NodeId::new("w1").unwrap()));
}

#[test]
fn a_token_order_that_is_wrong_is_refused() {
    let counter = counter();
    let path = "/openagi/api/v1/auth/token";
    for (body, field) in [(r#"{"public_key":"k"}"#, "node_id"), (r#"{"node_id":"w1"}"#, "public_key")] {
        let (status, answer) = call(&counter, "POST", path, body);
        assert_eq!((status, &answer["error"]["details"]["field"]), (400, &json!(field)));
    }
    assert_eq!(call(&counter, "POST", path, "nonsense").0, 400);
    assert_eq!(call(&counter, "POST", path, r#"{"node_id":"a b","public_key":"k"}"#).0, 400);
    assert_eq!(
        call(&counter, "POST", path, r#"{"node_id":"n1","public_key":"k"}"#).0,
        403,
        "the server's own"
    );
    assert_eq!(call(&counter, "GET", path, "").0, 405);
    assert!(counter.orders.lock().unwrap().is_empty());
}

/// Asks for a token where nobody is a guest, with a key of 32 equal bytes.
fn from_afar(counter: &Counter, node: &str, key: u8, more: Value) -> (u16, Value) {
    let mut body = json!({"node_id": node, "public_key": STANDARD.encode([key; 32])});
    for (name, value) in more.as_object().unwrap() {
        body[name.as_str()] = value.clone();
    }
    let body = body.to_string();
    let request = Request { anonymous: false, ..request("POST", "/api/v1/auth/token", &body) };
    answered(handle(&request, counter))
}

#[test]
fn from_afar_a_node_proves_its_key_which_is_its_only_one_from_then_on() {
    let counter = counter();
    let signed = |node: &str, key: u8| json!({"challenge": format!("say-{node}"), "signature": STANDARD.encode([key; 64])});
    let asked = from_afar(&counter, "w1", 1, json!({}));
    let details = json!({"challenge": "say-w1", "expires_at": "2026-01-01T00:01:00.000Z"});
    assert_eq!((asked.0, &asked.1["error"]["details"]), (401, &details));
    let wrong = from_afar(&counter, "w1", 1, signed("w1", 2));
    assert_eq!((wrong.0, &wrong.1["error"]["details"]), (401, &details), "it may try again");
    assert_eq!(from_afar(&counter, "w1", 1, signed("w2", 1)).0, 401, "somebody else's challenge");
    let short = from_afar(&counter, "w1", 1, json!({"challenge": "say-w1", "signature": "AAAA"}));
    assert_eq!((short.0, &short.1["error"]["details"]["field"]), (400, &json!("signature")));
    assert!(counter.orders.lock().unwrap().is_empty());

    let (status, answer) = from_afar(&counter, "w1", 1, signed("w1", 1));
    assert_eq!((status, &answer["token"]), (200, &json!("node:w1")));
    assert_eq!(from_afar(&counter, "w1", 1, signed("w1", 1)).0, 200, "again with the same key");
    assert_eq!(from_afar(&counter, "w1", 2, json!({})).0, 403);
    assert_eq!(from_afar(&counter, "w1", 2, signed("w1", 2)).0, 403);
    assert_eq!(counter.orders.lock().unwrap().len(), 2);

    let body = r#"{"node_id":"w1","public_key":"a2V5"}"#;
    let request = Request { anonymous: false, ..request("POST", "/api/v1/auth/token", body) };
    assert_eq!(answered(handle(&request, &counter)).0, 400, "that is no key");
}

#[test]
fn where_the_operator_approves_nodes_no_key_binds_itself() {
    let mut counter = counter();
    counter.approves_nodes = true;
    let (status, answer) = from_afar(&counter, "w1", 1, json!({}));
    assert_eq!(
        (status, answer["error"]["details"]["public_key"].as_str()),
        (403, Some(STANDARD.encode([1; 32]).as_str()))
    );
}

#[test]
fn the_network_is_told_as_it_is() {
    let counter = counter();
    let (status, answer) = call(&counter, "GET", "/api/v1/status", "");
    assert_eq!(
        (status, &answer["node_id"], &answer["status"], &answer["uptime"], &answer["peers"]),
        (200, &json!("n1"), &json!("healthy"), &json!(100), &json!(1))
    );
    let (_, answer) = call(&counter, "GET", "/api/v1/network/stats", "");
    assert_eq!(
        answer,
        json!({
            "total_nodes": 2, "active_nodes": 2, "byzantine_threshold": 0, "crash_tolerance": 0,
            "average_score": 0.0, "total_messages": 0, "network_health": "healthy",
        })
    );
    let (_, answer) = ask(&counter, "GET", "/api/v1/network/peers", "");
    assert_eq!(answer["peers"][0]["node_id"], "c1");
    let (status, answer) = ask(&counter, "GET", "/api/v1/node/c1", "");
    assert_eq!((status, &answer["address"]), (200, &json!("10.0.0.1")));
    let (status, answer) = ask(&counter, "GET", "/api/v1/node/nobody", "");
    assert_eq!((status, &answer["error"]["message"]), (404, &json!("Node not found")));
    assert_eq!(ask(&counter, "GET", "/api/v1/monitoring/metrics", "").1["cpu_usage"], 12.5);
    assert_eq!(call(&counter, "GET", "/api/v1/weather", "").0, 0);
}

#[test]
fn most_needs_a_token_and_beyond_loopback_all() {
    let counter = counter();
    let (status, answer) = call(&counter, "GET", "/api/v1/network/peers", "");
    assert_eq!((status, &answer["error"]["message"]), (401, &json!("Missing token")));
    let bad = Request { authorization: Some("Bearer nonsense"), ..request("GET", "/api/v1/status", "") };
    assert_eq!(answered(handle(&bad, &counter)).1["error"]["message"], "Invalid token");
    let afar = Request { anonymous: false, ..request("GET", "/api/v1/status", "") };
    assert_eq!(answered(handle(&afar, &counter)).0, 401);
}

#[test]
fn an_address_asks_only_so_often() {
    let counter = counter();
    *counter.allowance.lock().unwrap() = Some(1);
    assert_eq!(call(&counter, "GET", "/api/v1/status", "").0, 200);
    let (status, answer) = call(&counter, "GET", "/api/v1/status", "");
    assert_eq!((status, &answer["error"]["code"]), (429, &json!(429)));
}

#[test]
fn blocks_and_intrusions_are_counted() {
    let mut stage = stage();
    for finding in [Finding::Intrusion, Finding::Blocked] {
        stage.system(Command::Notice(SecurityNoticed {
            alert: AlertId::new("s1").unwrap(),
            finding,
            rule: "brute_force".into(),
            source: "10.0.0.9".into(),
            place: None,
            severity: "high".into(),
            message: "m".into(),
            evidence: Json::empty_object(),
            until: (finding == Finding::Blocked).then_some(stage.now.plus(1_000)),
        }));
    }
    let asked = |counter: &Counter, who| {
        let with = Request { authorization: Some(who), ..request("GET", "/api/v1/security/status", "") };
        answered(handle(&with, counter))
    };
    let counter = Counter::of(&stage);
    assert_eq!(asked(&counter, "Bearer node:c1").0, 403, "nobody approved this node");
    let (_, answer) = asked(&counter, "Bearer user:ann");
    assert_eq!(
        answer,
        json!({
            "intrusion_attempts": 1,
            "blocked_addresses": [
                {"address": "10.0.0.9", "attack_type": "brute_force", "until": "2026-01-01T00:00:01.000Z",
                    "listener": null}
            ],
            "encryption_status": "inactive",
            "last_security_event": "2026-01-01T00:00:00.000Z",
        })
    );
    stage.now = stage.now.plus(1_000);
    stage.system(Command::Tick);
    let (_, answer) = asked(&Counter::of(&stage), "Bearer user:ann");
    assert_eq!(answer["blocked_addresses"], json!([]));
}

#[test]
fn an_incident_is_noted_in_its_reporters_name() {
    let counter = counter();
    let path = "/api/v1/security/incident";
    let (status, answer) = ask(&counter, "POST", path, r#"{"incident_type":"port_scan","description":"d"}"#);
    assert_eq!(
        (status, &answer["status"], &answer["investigation_status"]),
        (200, &json!("reported"), &json!("pending"))
    );
    let state = counter.state(&counter.default_workspace()).unwrap();
    assert_eq!(state.last_security, Some(counter.now));
    let (status, answer) = ask(&counter, "POST", path, r#"{"incident_type":"x"}"#);
    assert_eq!((status, &answer["error"]["details"]["field"]), (400, &json!("description")));
    assert_eq!(call(&counter, "POST", path, "{}").0, 401);
}
