//! What a client gets that comes back to a running server after it missed too much.

use serde_json::{Value, json};

use crate::rig::{Client, House};

async fn came(client: &mut Client) -> Value {
    let greeting = client.next().await;
    assert_eq!(greeting["type"], "connection_established");
    greeting["payload"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gets_the_newest_frames_that_it_missed_and_is_told_of_the_others() {
    let house =
        House::open(&["megabot.replay=300", "megabot.frames_per_second=off", "websocket.ping_interval=1s"])
            .await;
    let address = house.address(1);
    let mut ada = Client::come(address, "/ws?user_id=ada").await.unwrap();
    let session = came(&mut ada).await["session_id"].as_str().unwrap().to_owned();
    let mut bob = Client::come(address, "/ws?user_id=bob").await.unwrap();
    came(&mut bob).await;
    for (client, id) in [(&mut ada, "a"), (&mut bob, "b")] {
        client.send(&json!({"id": id, "type": "session_join", "payload": {"session_id": "lobby"}})).await;
        assert_eq!(client.next().await["type"], "session_joined");
    }
    drop(ada);
    while bob.next().await["type"] != "participant_left" {}
    let said = 701;
    for n in 1..=said {
        let payload = json!({"session_id": "lobby", "content": n.to_string()});
        bob.send(&json!({"id": format!("m{n}"), "type": "chat_send", "payload": payload})).await;
    }
    // Done in order: when this is answered, the others are in the log.
    bob.send(&json!({"id": "last", "type": "session_join", "payload": {"session_id": "lobby"}})).await;
    while bob.next().await["type"] != "session_joined" {}
    let mut ada = Client::come(address, &format!("/ws?user_id=ada&session_id={session}")).await.unwrap();
    assert_eq!(came(&mut ada).await["resumed"], true);
    let notice = ada.next().await;
    assert_eq!(
        (&notice["type"], &notice["payload"]["title"]),
        (&json!("notification"), &json!("Messages lost"))
    );
    for n in said - 299..=said {
        assert_eq!(ada.next().await["payload"]["content"], n.to_string());
    }
    let payload = json!({"session_id": "lobby", "content": "new"});
    bob.send(&json!({"id": "new", "type": "chat_send", "payload": payload})).await;
    assert_eq!(ada.next().await["payload"]["content"], "new");
    house.close().await;
}
