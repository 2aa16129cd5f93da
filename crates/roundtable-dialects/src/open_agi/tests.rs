//! Sessions on a stage: doors, subscriptions, the grace rule, expiry, and what each channel tells.

use std::sync::Arc;

use roundtable_core::alerts::{AlertRaised, Finding, Level, SecurityNoticed};
use roundtable_core::cluster::NodeJoined;
use roundtable_core::command::Command;
use roundtable_core::ids::{AlertId, NodeId, Principal};
use roundtable_core::json::Json;
use roundtable_core::signal::{Metric, SignalBody};
use roundtable_core::state::State;
use roundtable_core::time::Time;
use serde_json::{Value, json};

use super::{OpenAgiSession, Settings, encode};
use crate::figures::Figures;
use crate::pace::Limit;
use crate::session::{Ending, Family, Input, Opening, Output, Outputs, Proof, Refusal, Scene, Session as _};
use crate::stage::{Stage, identity, opening};

const DOOR: &str = "/api/v1/ws";
const START: &str = "2026-01-01T00:00:00.000Z";

fn session() -> Box<OpenAgiSession> {
    Box::new(OpenAgiSession::new(Arc::new(Settings::default())))
}

fn node(id: &str) -> Principal {
    Principal::Node(NodeId::new(id).unwrap())
}

fn enter(stage: &mut Stage, id: &str) -> usize {
    stage.enter(session(), opening(DOOR, "token=t"), Ok(identity(node(id), None)))
}

fn refused(stage: &mut Stage, door: Opening<'_>, why: Refusal) -> (Value, Option<Ending>) {
    let id = stage.enter(session(), door, Err(why));
    (stage.one(id), stage.client(id).ended.clone())
}

#[test]
fn the_first_of_several_frames_too_many_is_told() {
    let mut session = OpenAgiSession::new(Arc::default());
    let (state, figures) = (State::default(), Figures::default());
    let scene = Scene { now: Time(1), at: Time(1), state: &state, epoch: 1, figures: &figures };
    let told = |out: &[Output]| out.iter().filter(|o| matches!(o, Output::Send(_))).count();
    let mut out = Outputs::new();
    assert_eq!(session.frame_limit(), Some(Limit { per_second: 100, burst: 100 }));
    for _ in 0..3 {
        session.too_fast(10, scene, &mut out);
    }
    assert_eq!((told(&out), out.len()), (1, 4), "all of them are counted, one is told");
    session.known = true;
    session.input(Input::Text(r#"{"type":"pong"}"#), scene, &mut out);
    session.too_fast(10, scene, &mut out);
    assert_eq!(told(&out), 2, "and again once one was read");
}

#[test]
fn a_refusal_is_one_error_and_a_close_with_its_reason() {
    let mut stage = Stage::new(encode);
    let cases = [
        (opening(DOOR, ""), Refusal::Missing, "Missing token"),
        (opening(DOOR, "token="), Refusal::Missing, "Missing token"),
        (opening(DOOR, "token=x"), Refusal::Invalid, "Invalid token"),
        (opening(DOOR, "token=x"), Refusal::Expired, "Token expired"),
    ];
    for (door, why, text) in cases {
        let (frame, ended) = refused(&mut stage, door, why);
        let expected = json!({
            "type": "error", "code": 401, "message": text,
            "data": {"code": 401, "message": text}, "timestamp": START,
        });
        assert_eq!(frame, expected);
        assert_eq!(ended, Some(Ending::Close(1008, text.into())));
    }
}

#[test]
fn the_query_decides_before_the_header() {
    let mut stage = Stage::new(encode);
    let shown = |stage: &mut Stage, query, authorization| {
        let door = Opening { authorization, ..opening(DOOR, query) };
        let id = stage.enter(session(), door, Err(Refusal::Invalid));
        stage.client(id).proof.clone()
    };
    let token = |text: &str| Some(Proof::Token(Family::OpenAgi, text.into()));
    assert!(shown(&mut stage, "token=q", Some("Bearer h")) == token("q"));
    assert!(shown(&mut stage, "", Some("Bearer h")) == token("h"));
}

#[test]
fn nothing_comes_before_a_subscription_and_nothing_after_its_end() {
    let mut stage = Stage::new(encode);
    let a = enter(&mut stage, "a");
    let b = enter(&mut stage, "b");
    assert!(stage.got(a).is_empty());
    stage.say(a, r#"{"type":"subscribe","channel":"network_events"}"#);
    let answer = json!({
        "type": "subscribed", "channel": "network_events",
        "data": {"channel": "network_events", "channels": ["network_events"]}, "timestamp": START,
    });
    assert_eq!(stage.one(a), answer);
    stage.say(a, r#"{"type":"subscribe","channel":"network_events"}"#);
    assert_eq!(stage.one(a), answer);
    let c = enter(&mut stage, "c");
    let joined = json!({
        "type": "network_event", "event": "node_joined",
        "data": {
            "node_id": "c", "address": "127.0.0.1", "timestamp": START, "node_type": "client",
            "capabilities": [], "total_nodes": 3,
        },
        "timestamp": START,
    });
    assert_eq!(stage.one(a), joined);
    stage.leave(c);
    let left = stage.one(a);
    assert_eq!(left["event"], "node_left");
    assert_eq!(
        left["data"],
        json!({
            "node_id": "c", "address": "127.0.0.1", "reason": "leave", "last_seen": START,
            "timestamp": START, "total_nodes": 2,
        })
    );
    stage.say(a, r#"{"type":"unsubscribe","channel":"network_events"}"#);
    assert_eq!(stage.one(a)["data"], json!({"channel": "network_events", "channels": []}));
    stage.leave(b);
    assert!(stage.got(a).is_empty());
}

#[test]
fn a_node_leaves_with_its_last_connection() {
    let mut stage = Stage::new(encode);
    let watcher = enter(&mut stage, "w");
    stage.say(watcher, r#"{"type":"subscribe","channels":["network_events","security_events"]}"#);
    assert_eq!(stage.one(watcher)["data"]["channels"], json!(["network_events", "security_events"]));
    let (first, second) = (enter(&mut stage, "a"), enter(&mut stage, "a"));
    stage.leave(first);
    stage.leave(second);
    let events: Vec<Value> = stage.got(watcher).into_iter().map(|frame| frame["event"].clone()).collect();
    assert_eq!(events, ["node_joined", "node_left"]);
}

#[test]
fn errors_name_their_cause_and_change_nothing() {
    let mut stage = Stage::new(encode);
    let a = enter(&mut stage, "a");
    stage.say(a, r#"{"type":"subscribe","channel":"network_events"}"#);
    stage.got(a);
    let mut said = |text: &str| {
        stage.say(a, text);
        stage.one(a)
    };
    assert_eq!(
        said(r#"{"type":"subscribe","channel":"weather"}"#),
        json!({
            "type": "error", "code": 400, "message": "Unknown channel: weather",
            "data": {"code": 400, "message": "Unknown channel: weather", "channel": "weather"},
            "timestamp": START,
        })
    );
    assert_eq!(said(r#"{"type":"subscribe"}"#)["data"]["field"], "channel");
    assert_eq!(said("{")["message"], "Invalid JSON");
    assert_eq!(said(r#"{"type":"dance"}"#)["message"], "Unknown message type: dance");
    assert_eq!(said(r#"{"type":"ping"}"#), json!({"type": "pong"}));
    stage.say_binary(a, b"{}");
    assert_eq!(stage.one(a)["message"], "Invalid JSON");
    stage.say(a, r#"{"type":"pong"}"#);
    enter(&mut stage, "b");
    assert_eq!(stage.one(a)["event"], "node_joined");
}

#[test]
fn the_surplus_of_a_flood_is_told_once_and_left_unread() {
    let mut stage = Stage::new(encode);
    let a = enter(&mut stage, "a");
    (0..150).for_each(|_| stage.say(a, r#"{"type":"ping"}"#));
    let got = stage.got(a);
    assert_eq!(got.len(), 101);
    assert_eq!(got[100]["code"], 429);
    stage.pass(1_000);
    stage.say(a, r#"{"type":"ping"}"#);
    assert_eq!(stage.one(a), json!({"type": "pong"}));
}

#[test]
fn silence_is_a_subscription_to_the_network() {
    let mut stage = Stage::new(encode);
    let (silent, talker) = (enter(&mut stage, "a"), enter(&mut stage, "b"));
    stage.pass(5_000);
    stage.say(talker, r#"{"type":"ping"}"#);
    stage.pass(4_999);
    assert!(stage.got(silent).is_empty());
    stage.pass(1);
    assert_eq!(stage.one(silent)["channel"], "network_events");
    stage.pass(60_000);
    assert_eq!(stage.one(talker), json!({"type": "pong"}));
}

#[test]
fn a_connection_ends_with_its_token() {
    let mut stage = Stage::new(encode);
    let end = stage.now.plus(30_000);
    let a = stage.enter(session(), opening(DOOR, "token=t"), Ok(identity(node("a"), Some(end))));
    stage.pass(29_999);
    assert_eq!(stage.got(a).len(), 1, "the grace rule alone");
    stage.pass(1);
    let frame = stage.one(a);
    assert_eq!((&frame["code"], &frame["message"]), (&json!(401), &json!("Token expired")));
    assert_eq!(stage.client(a).ended, Some(Ending::Close(1008, "Token expired".into())));
}

#[test]
fn a_connection_ends_with_its_account() {
    let mut stage = Stage::new(encode);
    let id = enter(&mut stage, "a");
    stage.expel(id, Refusal::Revoked);
    assert_eq!(stage.one(id)["message"], "Invalid token");
    assert_eq!(stage.client(id).ended, Some(Ending::Close(1008, "Invalid token".into())));
}

#[test]
fn the_stream_path_is_subscribed_to_monitoring_without_a_word() {
    let mut stage = Stage::new(encode);
    let door = opening("/api/v1/monitoring/stream", "token=t");
    let a = stage.enter(session(), door, Ok(identity(node("a"), None)));
    stage.pass(20_000);
    assert!(stage.got(a).is_empty());
    let metric = |value| Metric {
        name: "cpu_usage",
        value,
        warning: Some(80.0),
        critical: Some(90.0),
        unit: "percent",
    };
    for (value, status) in [(12.5, "normal"), (80.0, "warning"), (90.0, "critical")] {
        stage.signal(SignalBody::Metric(metric(value)));
        let frame = stage.one(a);
        assert_eq!((&frame["type"], &frame["event"]), (&json!("monitoring_event"), &json!("metric_update")));
        assert_eq!(
            frame["data"],
            json!({
                "metric": "cpu_usage", "value": value, "threshold": 80.0, "status": status,
                "unit": "percent", "node_id": "n1",
            })
        );
    }
}

fn alert(source: &str, level: Level, details: Value) -> Command {
    Command::RaiseAlert(AlertRaised {
        alert: AlertId::new("al1").unwrap(),
        source: source.into(),
        level,
        title: "T".into(),
        message: "M".into(),
        value: Some(96.0),
        threshold: Some(95.0),
        details: Json::from(&details),
        feed: None,
    })
}

#[test]
fn alerts_become_monitoring_events() {
    let mut stage = Stage::new(encode);
    let a = enter(&mut stage, "a");
    stage.say(a, r#"{"type":"subscribe","channel":"monitoring_events"}"#);
    stage.got(a);
    stage.system(alert("memory", Level::Critical, json!({})));
    stage.system(alert("notes", Level::Info, json!({})));
    stage.system(alert(
        "cpu_lasting",
        Level::Warning,
        json!({"component": "machine", "duration_seconds": 15, "metric": "cpu_usage"}),
    ));
    let got = stage.got(a);
    let events: Vec<&Value> = got.iter().map(|frame| &frame["event"]).collect();
    assert_eq!(events, ["alert_raised", "resource_exhausted", "performance_degradation"]);
    assert_eq!(
        got[0]["data"],
        json!({
            "alert_id": "al1", "level": "critical", "title": "T", "message": "M", "metric": "memory_usage",
            "threshold": 95.0, "value": 96.0, "node_id": "n1",
        })
    );
    assert_eq!(got[1]["data"]["usage_percent"], 96.0);
    assert_eq!(got[2]["data"]["duration_seconds"], 15);
}

#[test]
fn security_findings_become_the_four_events() {
    let mut stage = Stage::new(encode);
    let a = enter(&mut stage, "a");
    stage.say(a, r#"{"type":"subscribe","channel":"security_events"}"#);
    stage.got(a);
    let until = Time(stage.now.0 + 300_000);
    let notice = |finding, evidence: Value| {
        Command::Notice(SecurityNoticed {
            alert: AlertId::new("s1").unwrap(),
            finding,
            rule: "brute_force".into(),
            source: "10.0.0.9".into(),
            place: None,
            severity: "high".into(),
            message: "six failures".into(),
            evidence: Json::from(&evidence),
            until: (finding == Finding::Blocked).then_some(until),
        })
    };
    stage.system(notice(Finding::Suspicious, json!({"count": 3, "window_seconds": 300})));
    stage.system(notice(Finding::Intrusion, json!({"count": 6, "confidence": 1.0})));
    stage.system(notice(Finding::Blocked, json!({})));
    stage.system(notice(Finding::Intrusion, json!({})));
    stage.system(notice(
        Finding::Expired,
        json!({"subject": "CN=x", "expired_at": START, "fingerprint": "f"}),
    ));
    let got = stage.got(a);
    let events: Vec<&Value> = got.iter().map(|frame| &frame["event"]).collect();
    assert_eq!(
        events,
        [
            "suspicious_activity",
            "intrusion_detected",
            "attack_blocked",
            "intrusion_detected",
            "certificate_expired"
        ]
    );
    assert_eq!(
        got[0]["data"],
        json!({
            "source": "10.0.0.9", "activity": "brute_force", "severity": "medium", "count": 3,
            "window_seconds": 300,
        })
    );
    assert_eq!(got[1]["data"]["blocked"], false);
    assert_eq!(got[2]["data"]["until"], "2026-01-01T00:05:00.000Z");
    assert_eq!(got[3]["data"]["blocked"], true);
    assert_eq!(got[4]["data"]["subject"], "CN=x");
}

#[test]
fn a_server_that_joins_is_told() {
    let mut stage = Stage::new(encode);
    let a = enter(&mut stage, "a");
    stage.say(a, r#"{"type":"subscribe","channel":"network_events"}"#);
    stage.got(a);
    stage.system(Command::JoinNetwork(NodeJoined {
        node: NodeId::new("n1").unwrap(),
        address: "127.0.0.1:8080".into(),
        kind: "server".into(),
        capabilities: vec!["log".into()],
    }));
    assert_eq!(
        stage.one(a)["data"],
        json!({
            "node_id": "n1", "address": "127.0.0.1:8080", "timestamp": START, "node_type": "server",
            "capabilities": ["log"], "total_nodes": 2,
        })
    );
}
