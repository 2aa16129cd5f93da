//! REST over a desk in memory: health, agents from their making to their end, refusals.

use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::command::Command;
use roundtable_core::ids::{AlertId, UserId};
use roundtable_core::json::Json;
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::{Value, json};

use super::handle;
use crate::hive::encode;
use crate::rest::Request;
use crate::stage::{Counter, Stage, answered, request};

const WORKER: &str =
    r#"{"name":"W","type":"Worker","capabilities":[{"name":"x","proficiency":0.5}],"initial_energy":40}"#;

fn counter() -> Counter {
    Counter::of(&Stage::new(encode))
}

fn call(counter: &Counter, method: &str, path: &str, body: &str) -> (u16, Value) {
    answered(handle(&request(method, path, body), counter))
}

fn made(counter: &Counter, body: &str) -> String {
    let (status, answer) = call(counter, "POST", "/api/agents", body);
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["agent_id"], answer["data"]["agent_id"]);
    answer["agent_id"].as_str().unwrap().to_owned()
}

#[test]
fn an_empty_hive_is_healthy_and_a_critical_alert_makes_it_ill() {
    let mut stage = Stage::new(encode);
    let (status, answer) = call(&Counter::of(&stage), "GET", "/health", "");
    assert_eq!((status, &answer["status"], &answer["success"]), (200, &json!("healthy"), &json!(true)));
    assert_eq!((&answer["data"]["status"], &answer["request_id"]), (&json!("healthy"), &json!("r1")));
    stage.system(Command::RaiseAlert(AlertRaised {
        alert: AlertId::new("a").unwrap(),
        source: "log".into(),
        level: Level::Critical,
        title: "T".into(),
        message: "M".into(),
        value: None,
        threshold: None,
        details: Json::empty_object(),
    }));
    let (status, answer) = call(&Counter::of(&stage), "GET", "/health", "");
    assert_eq!((status, &answer["status"]), (503, &json!("unhealthy")));
    let (status, answer) = call(&Counter::of(&stage), "GET", "/api/health", "");
    assert_eq!((status, &answer["status"]), (200, &json!("unhealthy")));
}

#[test]
fn an_agent_lives_from_post_to_delete() {
    let counter = counter();
    let id = made(&counter, WORKER);
    let path = format!("/api/agents/{id}");
    let (status, answer) = call(&counter, "GET", &path, "");
    let agent = &answer["data"]["agent"];
    assert_eq!(status, 200);
    assert_eq!(
        (&agent["name"], &agent["type"], &agent["state"], &agent["energy_level"]),
        (&json!("W"), &json!("worker"), &json!("idle"), &json!(40.0))
    );
    assert_eq!(agent["capabilities"][0]["experience_points"], 0);
    let change = r#"{"name":"V","capabilities":[{"name":"y","proficiency":1}],"auto_learning":false}"#;
    let (status, answer) = call(&counter, "PUT", &path, change);
    assert_eq!(
        (status, &answer["data"]["changes"]),
        (200, &json!(["name", "auto_learning", "capabilities"]))
    );
    let (_, answer) = call(&counter, "POST", &format!("{path}/pause"), r#"{"reason":"lunch"}"#);
    assert_eq!(answer["data"]["status"], "paused");
    assert_eq!(call(&counter, "GET", &path, "").1["data"]["agent"]["state"], "paused");
    let (_, answer) = call(&counter, "POST", &format!("{path}/resume"), "");
    assert_eq!(answer["data"]["status"], "active");
    let (_, answer) = call(&counter, "GET", &path, "");
    assert_eq!(
        (&answer["data"]["agent"]["state"], &answer["data"]["agent"]["name"]),
        (&json!("idle"), &json!("V"))
    );
    let (status, answer) = call(&counter, "DELETE", &format!("{path}?reason=old&force=true"), "");
    assert_eq!((status, &answer["data"]["cleanup_summary"]["data_removed"]), (200, &json!(true)));
    let (status, answer) = call(&counter, "GET", &path, "");
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("AGENT_NOT_FOUND")));
}

#[test]
fn lists_are_filtered_and_paged_newest_first() {
    let counter = counter();
    let ids: Vec<String> = (0..3).map(|_| made(&counter, WORKER)).collect();
    made(&counter, r#"{"name":"S","type":"specialist:data","capabilities":[]}"#);
    let (_, answer) = call(&counter, "GET", "/api/agents?type=Worker&capability=x&status=idle&limit=2", "");
    let data = &answer["data"];
    assert_eq!((data["agents"].as_array().unwrap().len(), &data["total_count"]), (2, &json!(3)));
    assert_eq!(data["pagination"], json!({"limit": 2, "offset": 0, "has_more": true}));
    assert!(ids.contains(&data["agents"][0]["id"].as_str().unwrap().to_owned()));
    assert_eq!(call(&counter, "GET", "/api/agents?status=failed", "").1["data"]["total_count"], 0);
    let (status, answer) = call(&counter, "GET", "/api/agents?limit=x", "");
    assert_eq!((status, &answer["error"]["field_errors"][0]["field"]), (400, &json!("limit")));
}

#[test]
fn what_is_wrong_is_named() {
    let counter = counter();
    let (status, answer) = call(&counter, "POST", "/api/agents", r#"{"type":"worker","capabilities":[]}"#);
    assert_eq!((status, &answer["success"], &answer["data"]), (400, &json!(false), &Value::Null));
    assert_eq!(answer["error"]["code"], "VALIDATION_ERROR");
    assert_eq!(answer["error"]["field_errors"][0]["field"], "name");
    assert_eq!(call(&counter, "POST", "/api/agents", "[").0, 400);
    assert_eq!(call(&counter, "PATCH", "/api/agents", "").0, 405);
    assert_eq!(call(&counter, "GET", "/api/agents/context/k1", "").0, 0, "another API's path");
    assert_eq!(call(&counter, "GET", "/api/agentsx", "").0, 0);
    let id = made(&counter, WORKER);
    let long = format!("/api/agents/{id}/pause");
    assert_eq!(call(&counter, "POST", &long, r#"{"duration_minutes":5}"#).0, 400);
    assert_eq!(call(&counter, "PUT", &format!("/api/agents/{id}"), r#"{"name":7}"#).0, 400);
}

#[test]
fn too_many_agents_at_once_are_refused_for_a_while() {
    let counter = counter();
    *counter.allowance.lock().unwrap() = Some(1);
    made(&counter, WORKER);
    let (status, answer) = call(&counter, "POST", "/api/agents", WORKER);
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("RATE_LIMIT_EXCEEDED")));
    assert_eq!(answer["error"]["details"]["retry_after_seconds"], 60);
}

#[test]
fn many_are_made_and_removed_at_once() {
    let counter = counter();
    let body = format!(r#"{{"agents":[{WORKER},{{}},{WORKER}]}}"#);
    let (status, answer) = call(&counter, "POST", "/api/agents/bulk/create", &body);
    assert_eq!((status, &answer["data"]["summary"]), (201, &json!({"successful": 2, "failed": 1})));
    let ids = json!({"agent_ids": [answer["data"]["agent_ids"][0], "nobody"]}).to_string();
    let (_, answer) = call(&counter, "POST", "/api/agents/bulk/delete", &ids);
    assert_eq!(answer["data"]["summary"], json!({"successful": 1, "failed": 1}));
    assert_eq!(call(&counter, "GET", "/api/hive/status", "").1["data"]["metrics"]["total_agents"], 1);
}

#[test]
fn beyond_loopback_a_credential_is_needed_and_viewers_only_read() {
    let mut stage = Stage::new(encode);
    for (user, role) in [("vera", UserRole::Viewer), ("ed", UserRole::Editor)] {
        let user = UserId::new(user).unwrap();
        stage.system(Command::AddUser(UserAdded { user, role, password: None }));
    }
    let counter = Counter::of(&stage);
    let post = |authorization, path| {
        let away = Request { anonymous: false, authorization, ..request("POST", path, WORKER) };
        answered(handle(&away, &counter))
    };
    assert_eq!(post(None, "/api/agents").0, 401);
    assert_eq!(post(Some("Bearer user:vera"), "/api/agents").1["error"]["code"], "FORBIDDEN");
    assert_eq!(post(Some("Bearer user:ed"), "/api/agents").0, 201);
    assert_eq!(post(Some("Bearer user:ed"), "/api/agents?token=nonsense").0, 401, "the first one decides");
}
