//! Measured values, thresholds that are really crossed, and log lines, as the subscribers of a running server see them.

use serde_json::{Value, json};

use crate::rig::{Client, House, Lock};

const OFTEN: [&str; 2] = ["figures.interval=200ms", "openagi.metric_interval=200ms"];

fn with(settings: &[&'static str]) -> Vec<&'static str> {
    OFTEN.iter().chain(settings).copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_tells_all_seven_metrics_and_they_are_measured() {
    let house = House::open(&OFTEN).await;
    let token = house.node_token("watcher").await;
    // Already subscribed: nothing is sent.
    let path = format!("/api/v1/monitoring/stream?token={token}");
    let mut stream = Client::come(house.address(1), &path).await.unwrap();
    let names = [
        "cpu_usage",
        "memory_usage",
        "disk_usage",
        "network_in",
        "network_out",
        "message_rate",
        "latency_p95",
    ];
    for name in names {
        let told = stream.event("metric_update").await;
        assert_eq!(told["metric"], name, "{told}");
        assert!(told["value"].is_number() && told["node_id"].is_string() && told["unit"].is_string());
    }
    for n in 0..20 {
        let said = json!({"content": format!("hello {n}")});
        house.admin("POST /admin/v1/rooms", json!({"room": format!("r{n}")})).await;
        assert_eq!(house.admin(&format!("POST /admin/v1/rooms/r{n}/messages"), said).await.0, 201);
    }
    let measured = |name: &'static str| {
        move |told: &Value| told["metric"] == name && told["value"].as_f64().unwrap() > 0.0
    };
    let rate = stream.event_where("metric_update", measured("message_rate")).await;
    assert!(rate["value"].as_f64().unwrap() < 1_000.0 && rate["threshold"].is_null(), "{rate}");
    let p95 = stream.event_where("metric_update", measured("latency_p95")).await;
    assert!(p95["value"].as_f64().unwrap() < 10_000.0, "{p95}");
    assert_eq!((&p95["threshold"], &p95["unit"]), (&json!(100.0), &json!("ms")));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_held_up_is_slow_degrading_and_unusual() {
    let settings = ["alerts.latency_warning=50", "alerts.latency_critical=100", "hive.status_interval=200ms"];
    let house = House::open(&with(&settings)).await;
    let mut dash = house.watcher(&["monitoring_events", "security_events"]).await;
    // What is usual: a dashboard's reports, one each 200 ms, at the pace of a free log.
    let _reader = Client::come(house.address(0), "/ws").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(7_000)).await;
    let holding = Lock::again_and_again(house.folder.path(), 900);
    let of_latency = |told: &Value| told["metric"] == "latency_p95";
    let raised = dash.event_where("alert_raised", of_latency).await;
    assert!(raised["value"].as_f64().unwrap() >= 50.0, "{raised}");
    let degraded = dash.event_where("performance_degradation", of_latency).await;
    assert_eq!((&degraded["component"], &degraded["threshold"]), (&json!("engine"), &json!(50.0)));
    assert!(degraded["duration_seconds"].as_u64().unwrap() >= 1);
    let unusual = dash.event("suspicious_activity").await;
    assert_eq!((&unusual["activity"], &unusual["count"]), (&json!("anomaly"), &json!(3)));
    drop(holding);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_at_their_critical_level_are_exhausted() {
    let settings = [
        "hive.memory_warning=0.1",
        "alerts.memory_warning=0.1",
        "alerts.memory_critical=0.2",
        "alerts.disk_warning=0.001",
        "alerts.disk_critical=0.002",
        "alerts.descriptors_warning=0.0001",
        "alerts.descriptors_critical=0.0002",
    ];
    let house = House::open(&with(&settings)).await;
    let mut dash = house.watcher(&["monitoring_events"]).await;
    let mut hive = Client::come(house.address(0), "/ws").await.unwrap();
    let mut found = std::collections::BTreeMap::new();
    while found.len() < 3 {
        let told = dash.event("resource_exhausted").await;
        assert!(told["usage_percent"].as_f64() >= told["threshold_percent"].as_f64(), "{told}");
        let again = found.insert(told["resource"].as_str().unwrap().to_owned(), told);
        assert!(again.is_none(), "once as long as it lasts");
    }
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["disk", "file_descriptors", "memory"]);
    hive.event_where("resource_alert", |told| told["resource"] == "memory").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_pile_up_fill_the_queue() {
    let house = House::open(&with(&["alerts.queue_warning=0.1", "alerts.queue_critical=0.2"])).await;
    let mut dash = house.watcher(&["monitoring_events"]).await;
    let mut clients = Vec::new();
    for n in 0..8 {
        let mut client = Client::come(house.address(1), &format!("/megabot/ws?user_id=u{n}")).await.unwrap();
        assert_eq!(client.next().await["type"], "connection_established");
        clients.push(client);
    }
    let held = Lock::once(house.folder.path(), 1_500);
    for client in &mut clients {
        for n in 0..15 {
            let chat = json!({"id": format!("m{n}"), "type": "chat_send", "payload": {"content": "hello"}});
            client.send(&chat).await;
        }
    }
    let told = dash.event("resource_exhausted").await;
    assert_eq!((&told["resource"], &told["threshold_percent"]), (&json!("queue"), &json!(0.2)));
    assert!(told["usage_percent"].as_f64().unwrap() >= 0.2, "{told}");
    drop((held, clients));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_log_lines_are_shown_without_secrets() {
    let logging = roundtable::config::Config::default().logging;
    // The process has one log; another test may have begun it.
    let _ = roundtable::telemetry::begin(&logging);
    let house = House::open(&[]).await;
    tracing::warn!(uri = "/ws?token=s3cret", "a line of this test");
    let token = house.node_token("watcher").await;
    let (status, answer) =
        house.http(1, "GET /api/v1/monitoring/logs?level=warning&limit=50", &token, &Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    let lines = answer["logs"].as_array().unwrap();
    let own = lines.iter().find(|line| line["message"].as_str().unwrap().starts_with("a line of this test"));
    let own = own.expect("the newest lines have it");
    assert_eq!((&own["level"], own["timestamp"].is_string()), (&json!("warning"), true));
    assert!(own["component"].as_str().unwrap().starts_with("server"), "{own}");
    assert!(!answer.to_string().contains("s3cret"));
    assert!(
        lines.len() <= 50 && lines.iter().all(|line| line["level"] == "warning" || line["level"] == "error")
    );
    for wrong in ["level=loud", "limit=0", "limit=many"] {
        let (status, answer) =
            house.http(1, &format!("GET /api/v1/monitoring/logs?{wrong}"), &token, &Value::Null).await;
        assert_eq!((status, answer["error"]["details"]["field"].as_str()), (400, wrong.split('=').next()));
    }
    assert_eq!(house.http(1, "GET /api/v1/monitoring/logs", "", &Value::Null).await.0, 401);
    house.close().await;
}
