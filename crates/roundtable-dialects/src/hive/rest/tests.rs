//! REST over a desk in memory: health, agents from their making to their end, refusals.

use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::command::Command;
use roundtable_core::components::{Health, SetHealth};
use roundtable_core::ids::{AlertId, UserId};
use roundtable_core::json::Json;
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::{Value, json};

use super::handle;
use crate::figures::Figures;
use crate::hive::encode;
use crate::rest::Request;
use crate::stage::{Counter, Stage, answered, request, response};

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
fn health_is_that_of_the_servers_own_parts() {
    let mut stage = Stage::new(encode);
    let (status, answer) = call(&Counter::of(&stage), "GET", "/health", "");
    assert_eq!((status, &answer["status"], &answer["success"]), (200, &json!("healthy"), &json!(true)));
    assert_eq!((&answer["data"]["status"], &answer["request_id"]), (&json!("healthy"), &json!("r1")));
    // A busy machine, and what people want to be alerted about.
    for source in ["cpu", "threshold:t1"] {
        stage.system(Command::RaiseAlert(AlertRaised {
            alert: AlertId::new("a").unwrap(),
            source: source.into(),
            level: Level::Critical,
            title: "T".into(),
            message: "M".into(),
            value: None,
            threshold: None,
            details: Json::empty_object(),
            feed: None,
        }));
        let (status, answer) = call(&Counter::of(&stage), "GET", "/health", "");
        assert_eq!((status, &answer["status"]), (200, &json!("healthy")), "{source}");
    }
    for (health, word, expected) in [
        (Health::Degraded, "degraded", 503),
        (Health::Unhealthy, "unhealthy", 503),
        (Health::Healthy, "healthy", 200),
    ] {
        let is = SetHealth { component: "log".into(), health, reason: String::new(), affects: Vec::new() };
        stage.system(Command::SetHealth(is));
        let (status, answer) = call(&Counter::of(&stage), "GET", "/health", "");
        assert_eq!((status, &answer["status"]), (expected, &json!(word)));
        let (status, answer) = call(&Counter::of(&stage), "GET", "/api/health", "");
        assert_eq!(
            (status, &answer["status"]),
            (200, &json!(word)),
            "the front-end gives up on anything else"
        );
    }
}

#[test]
fn strangers_learn_whether_it_is_well_and_no_figures() {
    let counter = counter();
    for path in ["/health", "/api/health", "/api/monitoring/health"] {
        let near = answered(handle(&request("GET", path, ""), &counter)).1;
        assert!(near["data"]["system_info"].is_object() && near["data"]["modules"].is_object(), "{near}");
        let far = Request { anonymous: false, ..request("GET", path, "") };
        let (status, far) = answered(handle(&far, &counter));
        assert_eq!((status, &far["status"]), (200, &json!("healthy")), "{path}");
        let told: Vec<&str> = far["data"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(told, ["status", "timestamp"], "{path}");
    }
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
    assert_eq!(call(&counter, "POST", &long, r#"{"duration_minutes":0}"#).0, 400);
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

#[test]
fn a_pause_says_when_it_ends() {
    let counter = counter();
    let path = format!("/api/agents/{}/pause", made(&counter, WORKER));
    let (_, answer) = call(&counter, "POST", &path, "");
    assert_eq!(answer["data"]["resume_at"], Value::Null);
    let (status, answer) = call(&counter, "POST", &path, r#"{"duration_minutes":1.5}"#);
    let end = crate::iso::iso(counter.now.plus(90_000));
    assert_eq!((status, &answer["data"]["resume_at"]), (200, &json!(end)));
    for wrong in ["0", "-1", "525601", "\"5\"", "[]"] {
        let (status, answer) = call(&counter, "POST", &path, &format!(r#"{{"duration_minutes":{wrong}}}"#));
        let field = &answer["error"]["field_errors"][0]["field"];
        assert_eq!((status, field), (400, &json!("duration_minutes")), "{wrong}");
    }
}

#[test]
fn an_agent_without_tasks_has_achieved_nothing() {
    let counter = counter();
    let id = made(&counter, WORKER);
    let (status, answer) = call(&counter, "GET", &format!("/api/agents/{id}/tasks?status=pending"), "");
    assert_eq!((status, &answer["data"]), (200, &json!({"agent_id": id, "tasks": [], "total_count": 0})));
    let (_, answer) = call(&counter, "GET", &format!("/api/agents/{id}/performance?time_range=7d"), "");
    assert_eq!((&answer["data"]["time_range"], &answer["data"]["trends"]), (&json!("7d"), &json!({})));
    assert_eq!(call(&counter, "GET", &format!("/api/agents/{id}/performance?time_range=1y"), "").0, 400);
    assert_eq!(call(&counter, "GET", "/api/agents/nobody/tasks", "").0, 404);
    assert_eq!(call(&counter, "POST", &format!("/api/agents/{id}/tasks"), "").0, 405);
}

fn measured() -> Counter {
    let mut counter = counter();
    let gib = 1 << 30;
    let (total_memory, available_memory) = (32 * gib, 8 * gib);
    counter.figures = Figures {
        node: "n 1".into(),
        at: counter.now,
        cpu_percent: 12.5,
        memory_percent: 75.0,
        total_memory,
        available_memory,
        process_memory: 64 << 20,
        cores: 16,
        simd: vec!["avx2"],
        connections: 3,
        ..Figures::default()
    };
    for minutes in 0..10_i64 {
        let at = counter.now.plus((minutes - 9) * 60_000);
        let cpu_percent = if minutes < 5 { 10.0 } else { 30.0 };
        counter.history.take(&Figures { at, cpu_percent, memory_percent: 50.0, ..Figures::default() });
    }
    counter
}

#[test]
fn resources_are_what_was_measured() {
    let (status, answer) = call(&measured(), "GET", "/api/resources", "");
    assert_eq!(status, 200);
    assert_eq!(answer["data"]["system_resources"]["available_memory"], 8 * 1024);
    assert_eq!(answer["system_resources"]["available_memory"], 8_u64 << 30);
    assert_eq!(answer["system_resources"]["simd_capabilities"], json!(["avx2"]));
    assert_eq!(
        answer["data"]["hive_resources"],
        json!({"allocated_memory": 64, "active_connections": 3, "queue_depth": 0})
    );
    assert_eq!(answer["hardware_class"], "Server");
}

#[test]
fn metrics_have_trends_once_there_is_something_to_compare() {
    let (_, answer) = call(&measured(), "GET", "/metrics", "");
    let data = &answer["data"];
    assert_eq!(data["current_metrics"]["system"]["cpu_usage"], 12.5);
    assert_eq!(data["current_metrics"]["agent_management"]["total_agents"], 0);
    assert_eq!(data["trends"]["cpu_usage"], json!({"direction": "increasing", "change": 20.0}));
    assert_eq!(data["trends"]["memory_usage"]["direction"], "stable");
    assert_eq!(call(&counter(), "GET", "/api/monitoring/metrics", "").1["data"]["trends"], json!({}));
    assert_eq!(call(&measured(), "POST", "/metrics", "").0, 405);
}

#[test]
fn figures_leave_in_four_formats() {
    let counter = measured();
    let export = |path: &str| response(handle(&request("GET", path, ""), &counter));
    let prometheus = export("/metrics/export/prometheus").unwrap();
    assert!(prometheus.content_type.starts_with("text/plain; version=0.0.4"));
    assert!(
        prometheus.body.contains("# TYPE ai_orchestrator_cpu_usage gauge\nai_orchestrator_cpu_usage 12.5\n")
    );
    assert!(prometheus.body.contains("# TYPE ai_orchestrator_events_total counter\n"));
    let seconds = counter.now.as_seconds();
    let graphite = export("/api/metrics/export/graphite").unwrap().body;
    assert!(graphite.contains(&format!("ai_orchestrator.memory_usage 75 {seconds}\n")), "{graphite}");
    let influx = export("/metrics/export/influxdb").unwrap().body;
    assert!(influx.starts_with("ai_orchestrator,node=n_1 cpu_usage=12.5,"), "{influx}");
    assert_eq!(influx.lines().count(), 1);
    let json: Value = serde_json::from_str(&export("/metrics/export/json").unwrap().body).unwrap();
    assert_eq!(json["architecture"], "modular");
    assert!(export("/metrics/export/xml").is_none());
}

#[test]
fn a_history_holds_what_was_sampled() {
    let counter = measured();
    let get = |query: &str| call(&counter, "GET", &format!("/metrics/history?{query}"), "");
    let (status, answer) = get("interval=1m&metrics=cpu_usage");
    assert_eq!(status, 200);
    let metrics = answer["data"]["metrics"].as_object().unwrap();
    assert_eq!(metrics.keys().collect::<Vec<_>>(), ["cpu_usage"]);
    let values: Vec<f64> = metrics["cpu_usage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["value"].as_f64().unwrap())
        .collect();
    assert_eq!(values, [10.0, 10.0, 10.0, 10.0, 10.0, 30.0, 30.0, 30.0, 30.0, 30.0]);
    let early = crate::iso::iso(counter.now.plus(-3_600_000));
    let (_, answer) = get(&format!("end_time={early}"));
    assert_eq!(answer["data"]["metrics"]["cpu_usage"], json!([]));
    assert_eq!(answer["data"]["time_range"]["interval"], "5m");
    for (query, field) in [
        ("interval=2m", "interval"),
        ("metrics=cpu_usage,luck", "metrics"),
        ("start_time=yesterday", "start_time"),
        ("start_time=9999-01-01T00:00:00Z", "start_time"),
    ] {
        let (status, answer) = get(query);
        assert_eq!((status, &answer["error"]["field_errors"][0]["field"]), (400, &json!(field)), "{query}");
    }
}

#[test]
fn modules_are_judged_by_what_is_known() {
    use roundtable_core::components::{Health, SetHealth};
    let mut stage = Stage::new(encode);
    stage.system(Command::SetHealth(SetHealth {
        component: "storage".into(),
        health: Health::Unhealthy,
        reason: "the disk is full".into(),
        affects: vec![],
    }));
    let mut counter = Counter::of(&stage);
    counter.figures.at = counter.now;
    let (_, answer) = call(&counter, "GET", "/api/modules/status", "");
    let modules = &answer["data"]["modules"];
    assert_eq!(
        (&modules["coordinator"]["status"], &modules["storage"]["status"]),
        (&json!("healthy"), &json!("unhealthy"))
    );
    assert_eq!(modules["storage"]["reason"], "the disk is full");
    let (_, answer) = call(&counter, "GET", "/api/modules/storage/health", "");
    assert_eq!(
        (&answer["data"]["status"], &answer["data"]["health_score"]),
        (&json!("unhealthy"), &json!(0.0))
    );
    assert_eq!(answer["data"]["recommendations"], json!(["the disk is full"]));
    let (_, answer) = call(&counter, "GET", "/api/modules/metrics_collection/health", "");
    assert_eq!(
        (&answer["data"]["status"], &answer["data"]["health_score"]),
        (&json!("healthy"), &json!(1.0))
    );
    counter.figures.at = counter.now.plus(-60_000);
    let (_, answer) = call(&counter, "GET", "/api/modules/metrics_collection/health", "");
    assert_eq!(
        (&answer["data"]["status"], &answer["data"]["health_score"]),
        (&json!("degraded"), &json!(0.5))
    );
    let (_, answer) = call(&counter, "GET", "/api/modules/task_management/metrics", "");
    assert_eq!(answer["data"]["metrics"]["pending_tasks"], 0);
    assert_eq!(call(&counter, "GET", "/api/modules/luck/health", "").0, 404);
    assert_eq!(call(&counter, "GET", "/api/modules/coordinator/moods", "").0, 0);
}

#[test]
fn thresholds_are_set_whole_or_not_at_all() {
    let counter = counter();
    let post = |body: Value| call(&counter, "POST", "/metrics/alerts", &body.to_string());
    let busy = json!({
        "name": "Busy", "metric": "cpu_usage", "condition": "greater_than", "threshold": 80.0,
        "duration_minutes": 5, "severity": "critical", "channels": ["email"],
    });
    let broken = json!({"name": "", "metric": "luck", "condition": "near", "duration_minutes": -1, "severity": "bad", "channels": 7});
    let (status, answer) = post(json!({"alerts": [busy, broken]}));
    let fields: Vec<&str> = answer["error"]["field_errors"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["field"].as_str())
        .collect();
    let expected = ["name", "metric", "condition", "threshold", "duration_minutes", "severity", "channels"];
    assert_eq!((status, fields), (400, expected.to_vec()));
    assert!(answer["error"]["message"].as_str().unwrap().starts_with("alerts[1].name"));
    for wrong in
        [json!({}), json!({"alerts": []}), json!({"alerts": 7}), json!({"alerts": vec![busy.clone(); 101]})]
    {
        assert_eq!(post(wrong).0, 400);
    }
    let (status, answer) = post(json!({"alerts": [busy]}));
    assert_eq!((status, &answer["data"]["alerts_created"]), (201, &json!(1)));
    let id = answer["data"]["alert_ids"][0].as_str().unwrap().to_owned();
    let (_, answer) = call(&counter, "GET", "/api/monitoring/alerts", "");
    let mut shown = busy.clone();
    (shown["alert_id"], shown["duration_minutes"]) = (json!(id), json!(5.0));
    assert_eq!(answer["data"]["configured_alerts"], json!([shown]));
    assert_eq!(answer["data"]["alert_summary"]["total_active"], 0);
    assert_eq!(call(&counter, "DELETE", "/metrics/alerts/nobody", "").0, 404);
    assert_eq!(call(&counter, "DELETE", &format!("/metrics/alerts/{id}"), "").0, 200);
    assert_eq!(call(&counter, "DELETE", &format!("/metrics/alerts/{id}"), "").0, 404);
}

#[test]
fn the_state_of_the_whole_is_asked_for_only_so_often() {
    for path in ["/api/hive/status", "/metrics", "/api/resources", "/api/modules/status", "/metrics/alerts"] {
        let counter = counter();
        *counter.allowance.lock().unwrap() = Some(1);
        assert_eq!(call(&counter, "GET", path, "").0, 200, "{path}");
        assert_eq!(call(&counter, "GET", path, "").0, 429, "{path}");
    }
}
