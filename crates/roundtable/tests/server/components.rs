//! How the parts of a running server are, and what goes wrong inside: caused for real, seen by a Hive dashboard.

use serde_json::{Value, json};

use crate::rig::{Client, House, Lock};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_refused_says_so_once_it_can_and_recovers() {
    // A busy build machine syncs slowly; that is not what this is about.
    let house = House::open(&["figures.interval=200ms", "alerts.sync_warning=60000"]).await;
    let mut hive = Client::come(house.address(0), "/ws").await.unwrap();
    assert_eq!(hive.next().await["data"]["status"], "healthy");
    // Somebody else keeps the log's file for longer than the server waits for it.
    let held = Lock::once(house.folder.path(), 6_500);
    let (status, _) = house.admin("POST /admin/v1/rooms", json!({"room": "late"})).await;
    assert_eq!(status, 503);
    drop(held);
    let noted = hive.event_where("error_occurred", |told| told["component"] == "log").await;
    assert_eq!((&noted["error"]["code"], &noted["severity"]), (&json!("APPEND_REFUSED"), &json!("error")));
    assert!(noted["error"]["details"]["cause"].as_str().unwrap().contains("locked"), "{noted}");
    let of_log = |told: &Value| told["module"] == "log";
    let changed = hive.event_where("module_status_changed", of_log).await;
    assert_eq!((&changed["old_status"], &changed["new_status"]), (&json!("healthy"), &json!("degraded")));
    let changed = hive.event_where("module_status_changed", of_log).await;
    assert_eq!((&changed["old_status"], &changed["new_status"]), (&json!("degraded"), &json!("healthy")));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_in_use_is_told_and_opened_when_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listen = ["127.0.0.1:0=hive".to_owned(), format!("{address}=megabot")];
    let house = House::open_in(tempfile::tempdir().unwrap(), &["figures.interval=200ms"], &listen).await;
    assert_eq!(house.server.addresses[1], None);
    let path = "/ws?since=1024";
    let mut hive = Client::come(house.address(0), path).await.unwrap();
    let name = json!(format!("listener {address}"));
    let changed = hive.event_where("module_status_changed", |told| told["module"] == name).await;
    assert_eq!(
        (&changed["new_status"], changed["affected_functions"].is_array()),
        (&json!("unhealthy"), true)
    );
    drop(taken);
    let changed = hive.event_where("module_status_changed", |told| told["module"] == name).await;
    assert_eq!((&changed["old_status"], &changed["new_status"]), (&json!("unhealthy"), &json!("healthy")));
    let mut guest = Client::come(address, "/ws").await.unwrap();
    assert_eq!(guest.next().await["type"], "connection_established");
    house.close().await;
    assert!(std::net::TcpListener::bind(address).is_ok(), "it ends with the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_is_told() {
    let settings = ["figures.interval=200ms", "alerts.disk_warning=0.001", "alerts.disk_critical=0.002"];
    let house = House::open(&settings).await;
    let mut hive = Client::come(house.address(0), "/ws").await.unwrap();
    let changed = hive.event_where("module_status_changed", |told| told["module"] == "disk").await;
    assert_eq!(changed["new_status"], "unhealthy");
    assert!(changed["reason"].as_str().unwrap().contains("% of the disk"), "{changed}");
    hive.send(&json!({"action": "get_status"})).await;
    assert_ne!(hive.event("hive_status_update").await["status"], "healthy", "the whole is as its parts are");
    house.close().await;
}
