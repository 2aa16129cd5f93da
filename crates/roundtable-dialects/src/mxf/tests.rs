//! The session against a small engine in memory: what clients of each kind send and see.

mod rig;

use serde_json::{Value, json};

use rig::Rig;

/// Two agents of one user, `a1` and `a2`, in `lobby`, each on a socket of its own; what they saw so far is forgotten.
fn lobby() -> (Rig, usize, usize) {
    let mut rig = Rig::new();
    let (ann, bob) = (rig.user("ann"), rig.user("bob"));
    for (socket, agent) in [(ann, "a1"), (bob, "a2")] {
        rig.send(
            socket,
            "agent:register",
            json!({"agentId": agent, "name": agent.to_uppercase(), "channelId": "lobby"}),
        );
    }
    rig.clear();
    (rig, ann, bob)
}

#[test]
fn a_user_comes_in_and_is_told_so() {
    let mut rig = Rig::new();
    let ann = rig.user("ann");
    let seen = rig.seen(ann);
    assert_eq!(seen, [r#"auth:success {"userId":"ann","username":"ann","authType":"password"}"#]);
    assert!(rig.accepted(ann));
}

#[test]
fn what_is_shown_at_the_door_decides() {
    let refused = [
        (Some(json!("x")), "Authentication required"),
        (Some(json!(["x"])), "Authentication required"),
        (None, "Domain key required for SDK connection"),
        (Some(json!({})), "Domain key required for SDK connection"),
        (Some(json!({"domainKey": "wrong", "username": "ann", "password": "pw"})), "Invalid domain key"),
        (Some(json!({"domainKey": {"$ne": ""}, "username": "ann", "password": "pw"})), "Invalid domain key"),
    ];
    for (auth, text) in refused {
        let mut rig = Rig::new();
        let socket = rig.connect(auth.as_ref(), None, "");
        assert_eq!(rig.refused(socket).as_deref(), Some(text), "{auth:?}");
    }
}

#[test]
fn a_failed_login_leaves_the_socket_open_for_another() {
    let mut rig = Rig::new();
    let wrong = json!({"domainKey": "domain", "username": "ann", "password": {"$gt": ""}});
    let socket = rig.connect(Some(&wrong), None, "");
    assert!(rig.accepted(socket));
    assert_eq!(rig.names(socket), ["auth:error", "error"]);
    assert_eq!(rig.payload(socket, "error")["code"], "AUTH_FAILED");
    rig.clear();
    rig.ask(socket, "message:send", json!({"channelId": "lobby", "content": "x"}), 1);
    assert_eq!(rig.names(socket), ["error", "message:error", "ack"]);
    assert_eq!(rig.ack(socket, 1)["code"], "AUTH_FAILED");
    rig.clear();
    rig.ask(socket, "auth", json!({"domainKey": "domain", "username": "ann", "password": "pw"}), 2);
    assert_eq!(rig.names(socket), ["auth:success", "ack"]);
    assert_eq!(rig.ack(socket, 2)["success"], true);
    rig.wake(socket);
    assert!(!rig.ended(socket));
}

#[test]
fn without_a_login_the_socket_is_kicked_in_time() {
    let mut rig = Rig::new();
    let socket = rig.connect(Some(&json!({"domainKey": "domain"})), None, "");
    assert_eq!(rig.wakes_in(socket), Some(60_000));
    rig.wake(socket);
    assert!(rig.ended(socket));
}

#[test]
fn a_key_makes_its_agent_a_member_before_connect_is_answered() {
    let (mut rig, ann, _) = lobby();
    rig.key("key_1", "s1", "k1");
    let auth = json!({"domainKey": "domain", "agentId": "k1", "keyId": "key_1", "secretKey": "s1", "capabilities": ["c"]});
    let socket = rig.connect(Some(&auth), None, "");
    assert_eq!(rig.names(socket), ["auth:success", "agent:registered", "agent:connected"]);
    let success = rig.payload(socket, "auth:success");
    assert_eq!(success["channelConfig"]["channelId"], "lobby");
    assert_eq!(success["activeAgents"], json!(["a1", "a2", "k1"]));
    let registered = rig.payload(socket, "agent:registered");
    assert_eq!((&registered["agentId"], &registered["status"]), (&json!("k1"), &json!("registered")));
    assert_eq!(registered["data"]["capabilities"], json!(["c"]));
    assert_eq!(registered["eventType"], "agent:registered");
    assert_eq!(rig.names(ann), ["channel:participants"]);
    rig.clear();
    rig.send(socket, "message:send", json!({"channelId": "lobby", "content": "hi", "agentId": "a1"}));
    assert_eq!(rig.payload(ann, "message")["from"], "k1");
    rig.ask(socket, "agent:register", json!({"agentId": "a1", "name": "A", "channelId": "lobby"}), 1);
    assert_eq!(rig.ack(socket, 1)["code"], "PERMISSION_DENIED");
    assert_eq!(rig.payload(socket, "agent:error")["code"], "PERMISSION_DENIED");
}

#[test]
fn a_key_of_another_agent_is_an_invalid_key() {
    let (mut rig, ..) = lobby();
    rig.key("key_1", "s1", "k1");
    for auth in [
        json!({"domainKey": "domain", "agentId": "a1", "keyId": "key_1", "secretKey": "s1"}),
        json!({"domainKey": "domain", "keyId": "key_1", "secretKey": "wrong"}),
        json!({"domainKey": "domain", "keyId": "key_1"}),
    ] {
        let socket = rig.connect(Some(&auth), None, "");
        assert_eq!(rig.names(socket), ["auth:error", "error"], "{auth}");
        assert_eq!(rig.payload(socket, "error")["code"], "INVALID_KEY");
    }
}

#[test]
fn a_bare_connect_takes_the_bearer_header_or_the_token_of_the_query() {
    let (mut rig, ..) = lobby();
    rig.key("key_1", "s1", "k1");
    for (header, query) in [(Some("Bearer key_1:s1"), ""), (None, "EIO=4&token=key_1%3As1")] {
        let socket = rig.connect(None, header, query);
        assert_eq!(rig.payload(socket, "auth:success")["agentId"], "k1");
    }
}

#[test]
fn registering_makes_agent_channel_and_membership() {
    let mut rig = Rig::new();
    let ann = rig.user("ann");
    rig.clear();
    let payload = json!({"agentId": "a1", "name": "One", "channelId": "lobby", "role": "guide", "capabilities": ["talk"],
        "model": "m", "description": "d", "metadata": {"v": 1}});
    rig.ask(ann, "agent:register", payload, 7);
    assert_eq!(rig.names(ann), ["agent:registered", "ack"]);
    let registered = rig.payload(ann, "agent:registered");
    for (field, value) in [
        ("agentId", json!("a1")),
        ("name", json!("One")),
        ("channelId", json!("lobby")),
        ("role", json!("guide")),
        ("capabilities", json!(["talk"])),
        ("model", json!("m")),
        ("description", json!("d")),
        ("metadata", json!({"v": 1})),
        ("status", json!("registered")),
    ] {
        assert_eq!(registered[field], value, "{field}");
    }
    assert_eq!(rig.ack(ann, 7), json!({"success": true, "agentId": "a1", "channelId": "lobby"}));
    rig.clear();
    rig.ask(ann, "agent:register", json!({"agentId": "a1", "name": "Uno", "channelId": "lobby"}), 8);
    assert_eq!(rig.payload(ann, "agent:registered")["name"], "Uno");
    assert_eq!(rig.payload(ann, "agent:registered")["role"], "guide");
}

#[test]
fn an_agent_of_another_user_cannot_be_registered() {
    let (mut rig, _, bob) = lobby();
    rig.ask(bob, "agent:register", json!({"agentId": "a1", "name": "x", "channelId": "lobby"}), 1);
    assert_eq!(rig.ack(bob, 1)["code"], "PERMISSION_DENIED");
    rig.clear();
    rig.send(bob, "message:send", json!({"channelId": "lobby", "content": "still me"}));
    assert_eq!(rig.payload(bob, "message")["from"], "a2");
}

#[test]
fn a_message_reaches_every_member_once_and_its_sender_too() {
    let (mut rig, ann, bob) = lobby();
    rig.ask(
        ann,
        "message:send",
        json!({"channelId": "lobby", "content": "hi", "metadata": {"tags": ["t"], "x": [1]}}),
        3,
    );
    assert_eq!(rig.names(ann), ["message", "ack"]);
    assert_eq!(rig.names(bob), ["message"]);
    let message = rig.payload(bob, "message");
    assert_eq!(message["metadata"], json!({"tags": ["t"], "x": [1]}));
    assert_eq!((&message["from"], &message["fromName"]), (&json!("a1"), &json!("A1")));
    assert_eq!((&message["content"], &message["type"]), (&json!("hi"), &json!("message")));
    let ack = rig.ack(ann, 3);
    assert_eq!((&ack["messageId"], &ack["timestamp"]), (&message["messageId"], &message["timestamp"]));
}

#[test]
fn events_sent_right_after_registering_are_not_lost() {
    let mut rig = Rig::new();
    let ann = rig.user("ann");
    rig.clear();
    rig.pause();
    rig.send(ann, "agent:register", json!({"agentId": "a1", "name": "One", "channelId": "lobby"}));
    rig.ask(ann, "message:send", json!({"channelId": "lobby", "content": "queued"}), 1);
    rig.resume();
    assert_eq!(rig.names(ann), ["agent:registered", "message", "ack"]);
}

#[test]
fn repeating_a_client_message_id_delivers_nothing() {
    let (mut rig, ann, bob) = lobby();
    let payload = json!({"channelId": "lobby", "content": "once", "metadata": {"clientMessageId": "c1"}});
    rig.ask(ann, "message:send", payload.clone(), 1);
    rig.ask(ann, "message:send", payload, 2);
    assert_eq!(rig.ack(ann, 1)["messageId"], rig.ack(ann, 2)["messageId"]);
    assert_eq!(rig.names(bob), ["message"]);
}

#[test]
fn broadcasts_have_a_type() {
    let (mut rig, ann, bob) = lobby();
    rig.send(ann, "message:broadcast", json!({"channelId": "lobby", "content": "now", "type": "alert"}));
    assert_eq!(rig.payload(bob, "message")["type"], "alert");
    rig.ask(ann, "message:broadcast", json!({"channelId": "lobby", "content": "now"}), 1);
    assert_eq!(rig.ack(ann, 1)["details"], json!({"field": "type"}));
}

#[test]
fn outsiders_neither_send_nor_hear() {
    let (mut rig, ann, _) = lobby();
    let eve = rig.user("eve");
    rig.clear();
    rig.ask(eve, "message:send", json!({"channelId": "lobby", "content": "x"}), 1);
    rig.ask(eve, "message:send", json!({"channelId": "nowhere", "content": "x"}), 2);
    assert_eq!(rig.ack(eve, 1)["code"], "PERMISSION_DENIED");
    assert_eq!(rig.ack(eve, 2)["code"], "CHANNEL_NOT_FOUND");
    rig.clear();
    rig.send(ann, "message:send", json!({"channelId": "lobby", "content": "x"}));
    rig.send(ann, "message:direct", json!({"targetAgentId": "a2", "content": "x"}));
    assert!(rig.seen(eve).is_empty());
}

#[test]
fn wrong_payloads_name_their_field_and_have_no_effect() {
    let (mut rig, ann, bob) = lobby();
    let cases = [
        ("message:send", json!(null), "payload"),
        ("message:send", json!([]), "payload"),
        ("message:send", json!({"content": "x"}), "channelId"),
        ("message:send", json!({"channelId": "lobby", "content": 5}), "content"),
        ("message:send", json!({"channelId": "lobby", "content": "x", "metadata": []}), "metadata"),
        ("message:direct", json!({"content": "x"}), "targetAgentId"),
        ("agent:register", json!({"agentId": "a 1", "name": "n", "channelId": "c"}), "agentId"),
        ("agent:register", json!({"agentId": "a1", "channelId": "c"}), "name"),
        (
            "agent:register",
            json!({"agentId": "a1", "name": "n", "channelId": "c", "capabilities": "x"}),
            "capabilities",
        ),
        ("channel:join", json!({"channelId": "lobby"}), "agentId"),
        ("channel:update", json!({"channelId": "lobby"}), "updates"),
        ("agent:status", json!({}), "agentId"),
    ];
    for (number, (event, payload, field)) in (0..).zip(cases) {
        rig.ask(ann, event, payload, number);
        let ack = rig.ack(ann, number);
        assert_eq!(
            (&ack["code"], &ack["details"]["field"]),
            (&json!("VALIDATION_ERROR"), &json!(field)),
            "{event}"
        );
    }
    assert!(rig.seen(bob).is_empty());
}

#[test]
fn too_many_messages_are_refused_with_the_time_to_wait() {
    let (mut rig, ann, bob) = lobby();
    for _ in 0..100 {
        rig.send(ann, "message:send", json!({"channelId": "lobby", "content": "x"}));
    }
    rig.clear();
    rig.ask(ann, "message:send", json!({"channelId": "lobby", "content": "x"}), 1);
    assert_eq!(rig.names(ann), ["error", "message:error", "ack"]);
    let details = &rig.ack(ann, 1)["details"];
    assert_eq!((&details["limit"], &details["windowMs"]), (&json!(100), &json!(60_000)));
    assert!(rig.seen(bob).is_empty());
    rig.ask(bob, "message:send", json!({"channelId": "lobby", "content": "x"}), 1);
    assert_eq!(rig.ack(bob, 1)["success"], true);
}

#[test]
fn a_direct_message_reaches_its_target_alone() {
    let (mut rig, ann, bob) = lobby();
    rig.ask(
        ann,
        "message:direct",
        json!({"targetAgentId": "a2", "content": "psst", "metadata": {"x": 1}}),
        1,
    );
    assert_eq!(rig.names(ann), ["ack"]);
    assert_eq!(rig.ack(ann, 1)["delivered"], true);
    let direct = rig.payload(bob, "direct_message");
    assert_eq!(
        (&direct["from"], &direct["to"], &direct["content"]),
        (&json!("a1"), &json!("a2"), &json!("psst"))
    );
    rig.ask(ann, "message:direct", json!({"targetAgentId": "nobody", "content": "x"}), 2);
    assert_eq!(rig.ack(ann, 2)["code"], "AGENT_NOT_FOUND");
}

#[test]
fn a_direct_message_to_an_absent_agent_waits_and_comes_once() {
    let (mut rig, ann, _) = lobby();
    rig.key("key_1", "s1", "k1");
    let auth = json!({"domainKey": "domain", "agentId": "k1", "keyId": "key_1", "secretKey": "s1"});
    let first = rig.connect(Some(&auth), None, "");
    rig.close(first);
    for text in ["one", "two"] {
        rig.ask(ann, "message:direct", json!({"targetAgentId": "k1", "content": text}), 1);
        assert_eq!(rig.ack(ann, 1)["delivered"], false);
        rig.clear();
    }
    let second = rig.connect(Some(&auth), None, "");
    let seen: Vec<Value> =
        rig.payloads(second, "direct_message").iter().map(|m| m["content"].clone()).collect();
    assert_eq!(seen, ["one", "two"]);
    rig.close(second);
    let third = rig.connect(Some(&auth), None, "");
    assert!(rig.payloads(third, "direct_message").is_empty());
}

#[test]
fn joining_and_leaving_are_seen_by_all() {
    let (mut rig, ann, bob) = lobby();
    rig.send(ann, "agent:register", json!({"agentId": "a3", "name": "A3", "channelId": "side"}));
    rig.clear();
    rig.ask(bob, "channel:join", json!({"channelId": "side", "agentId": "a2"}), 1);
    assert_eq!(rig.names(bob), ["channel:joined", "channel:participants", "ack"]);
    assert_eq!(rig.payload(bob, "channel:participants")["count"], 2);
    assert_eq!(rig.names(ann), ["channel:participants"]);
    let participants = rig.payload(ann, "channel:participants")["participants"].clone();
    assert_eq!(rig.ack(bob, 1)["participants"], participants);
    assert_eq!(
        participants[0],
        json!({"agentId": "a2", "name": "A2", "role": null, "status": "online", "capabilities": []})
    );
    rig.clear();
    rig.ask(bob, "channel:leave", json!({"channelId": "side", "agentId": "a2"}), 2);
    assert_eq!(rig.names(bob), ["channel:left", "ack"]);
    assert_eq!(rig.payload(ann, "channel:participants")["count"], 1);
    rig.clear();
    rig.send(ann, "message:send", json!({"channelId": "side", "content": "x"}));
    assert!(rig.seen(bob).is_empty());
    rig.ask(bob, "channel:leave", json!({"channelId": "side", "agentId": "a2"}), 3);
    assert_eq!(rig.ack(bob, 3)["code"], "PERMISSION_DENIED");
    rig.ask(bob, "channel:join", json!({"channelId": "none", "agentId": "a2"}), 4);
    assert_eq!(rig.payload(bob, "channel:error")["code"], "CHANNEL_NOT_FOUND");
    rig.ask(bob, "channel:join", json!({"channelId": "side", "agentId": "a1"}), 5);
    assert_eq!(rig.ack(bob, 5)["code"], "PERMISSION_DENIED");
}

#[test]
fn channels_are_changed_by_their_owner_only() {
    let (mut rig, ann, bob) = lobby();
    rig.ask(
        ann,
        "channel:update",
        json!({"channelId": "lobby", "updates": {"name": "Hall", "metadata": {"k": 1}}}),
        1,
    );
    for socket in [ann, bob] {
        let updated = rig.payload(socket, "channel:updated");
        assert_eq!(updated["updates"], json!({"name": "Hall", "metadata": {"k": 1}}));
        assert_eq!(updated["channel"]["name"], "Hall");
        assert_eq!(updated["data"]["channelId"], "lobby");
    }
    assert_eq!(rig.ack(ann, 1)["success"], true);
    rig.ask(bob, "channel:update", json!({"channelId": "lobby", "updates": {"name": "Mine"}}), 2);
    assert_eq!(rig.ack(bob, 2)["code"], "PERMISSION_DENIED");
}

#[test]
fn a_change_of_nothing_is_accepted_and_changes_nothing() {
    let (mut rig, ann, bob) = lobby();
    rig.ask(ann, "channel:update", json!({"channelId": "lobby", "updates": {}}), 1);
    rig.ask(ann, "agent:update", json!({"agentId": "a1", "updates": {}}), 2);
    assert_eq!((&rig.ack(ann, 1)["success"], &rig.ack(ann, 2)["success"]), (&json!(true), &json!(true)));
    assert_eq!(rig.payload(ann, "agent:updated")["updates"], json!({}));
    assert!(rig.seen(bob).is_empty(), "{:?}", rig.seen(bob));
    rig.ask(bob, "channel:update", json!({"channelId": "lobby", "updates": {}}), 3);
    assert_eq!(rig.ack(bob, 3)["code"], "PERMISSION_DENIED");
}

#[test]
fn agents_change_themselves_and_others_see_it() {
    let (mut rig, ann, bob) = lobby();
    rig.ask(
        ann,
        "agent:update",
        json!({"agentId": "a1", "updates": {"status": "busy", "capabilities": ["sum"]}}),
        1,
    );
    assert_eq!(rig.names(ann), ["agent:updated", "ack"]);
    assert_eq!(
        rig.payload(ann, "agent:updated")["updates"],
        json!({"status": "busy", "capabilities": ["sum"]})
    );
    assert_eq!(rig.ack(ann, 1)["agent"]["status"], "busy");
    assert_eq!(rig.names(bob), ["agent:updated"], "one change, one event");
    assert_eq!(
        rig.payload(bob, "agent:updated")["updates"],
        json!({"status": "busy", "capabilities": ["sum"]})
    );
    rig.clear();
    rig.ask(bob, "agent:status", json!({"agentId": "a1"}), 2);
    let status = rig.payload(bob, "agent:status:response");
    assert_eq!((&status["online"], &status["status"]), (&json!(true), &json!("busy")));
    assert_eq!((&status["capabilities"], &status["channels"]), (&json!(["sum"]), &json!(["lobby"])));
    rig.close(ann);
    rig.clear();
    rig.send(bob, "agent:status", json!({"agentId": "a1"}));
    let status = rig.payload(bob, "agent:status:response");
    assert_eq!((&status["online"], &status["status"]), (&json!(false), &json!("offline")));
    assert!(status["lastSeen"].is_string());
    rig.ask(bob, "agent:update", json!({"agentId": "a1", "updates": {"name": "x"}}), 3);
    assert_eq!(rig.ack(bob, 3)["code"], "PERMISSION_DENIED");
    rig.ask(bob, "agent:status", json!({"agentId": "zz"}), 4);
    assert_eq!(rig.ack(bob, 4)["code"], "AGENT_NOT_FOUND");
}

#[test]
fn each_socket_gets_the_form_it_speaks() {
    let (mut rig, ann, bob) = lobby();
    rig.key("key_1", "s1", "k1");
    let auth = json!({"domainKey": "domain", "agentId": "k1", "keyId": "key_1", "secretKey": "s1"});
    let sdk = rig.connect(Some(&auth), None, "");
    rig.clear();
    rig.send(ann, "message:send", json!({"channelId": "lobby", "content": "to all"}));
    assert_eq!(rig.names(sdk), ["message", "message:channel"], "nothing is known of it yet");
    rig.clear();
    let data = json!({"toolType": "channelMessage", "senderId": "k1", "metadata": {"messageId": "sdk-1", "timestamp": 1},
        "content": {"format": "text", "data": "from the SDK"}, "context": {"channelId": "lobby"}});
    rig.send(sdk, "message:channel", rig::envelope("message:channel", "k1", "lobby", data));
    assert_eq!(rig.names(sdk), ["message:channel"]);
    let message = rig.payload(sdk, "message:channel");
    assert_eq!((&message["agentId"], &message["channelId"]), (&json!("k1"), &json!("lobby")));
    assert_eq!(message["data"]["metadata"]["messageId"], "sdk-1");
    assert_eq!(message["data"]["content"], json!({"format": "text", "data": "from the SDK"}));
    assert_eq!(rig.names(bob), ["message"]);
    assert_eq!(rig.payload(bob, "message")["content"], "from the SDK");
}

#[test]
fn an_envelope_that_claims_somebody_else_reaches_nobody() {
    let (mut rig, ann, bob) = lobby();
    rig.key("key_1", "s1", "k1");
    let sdk = rig.connect(None, Some("Bearer key_1:s1"), "");
    rig.clear();
    let data = json!({"content": {"format": "text", "data": "x"}});
    for (agent, channel) in [("a1", "lobby"), ("k1", "elsewhere")] {
        rig.send(ann, "agent:register", json!({"agentId": "a3", "name": "A3", "channelId": "elsewhere"}));
        rig.clear();
        rig.send(sdk, "message:channel", rig::envelope("message:channel", agent, channel, data.clone()));
        let error = rig.payload(sdk, "message:error");
        assert_eq!(error["data"]["rejectedEvent"], "message:channel");
        let text = "Rejected message:channel: payload agentId/channelId must match the authenticated socket";
        assert_eq!(error["data"]["error"], text);
        assert!(rig.seen(bob).is_empty() && rig.seen(ann).is_empty());
    }
}

#[test]
fn bytes_go_as_bytes_to_flat_sockets_and_as_base64_elsewhere() {
    let (mut rig, ann, bob) = lobby();
    rig.key("key_1", "s1", "k1");
    let sdk = rig.connect(None, Some("Bearer key_1:s1"), "");
    rig.send(
        sdk,
        "message:channel",
        rig::envelope("message:channel", "k1", "lobby", json!({"content": "x"})),
    );
    rig.clear();
    rig.send_bytes(
        ann,
        "message:send",
        json!({"channelId": "lobby", "content": {"_placeholder": true, "num": 0}}),
        &[1, 2, 3],
    );
    assert_eq!(rig.payload(bob, "message")["content"], json!({"_placeholder": true, "num": 0}));
    assert_eq!(rig.bytes(bob), [vec![1, 2, 3]]);
    assert_eq!(
        rig.payload(sdk, "message:channel")["data"]["content"],
        json!({"format": "base64", "data": "AQID"})
    );
}

#[test]
fn a_revoked_key_ends_the_connection() {
    let (mut rig, ..) = lobby();
    rig.key("key_1", "s1", "k1");
    let sdk = rig.connect(None, Some("Bearer key_1:s1"), "");
    rig.clear();
    rig.revoke("key_1");
    assert_eq!(rig.payload(sdk, "error")["code"], "INVALID_KEY");
    assert!(rig.ended(sdk));
}

#[test]
fn an_older_socket_that_goes_takes_nobody_offline() {
    let (mut rig, ann, _) = lobby();
    rig.key("key_1", "s1", "k1");
    let old = rig.connect(None, Some("Bearer key_1:s1"), "");
    let _new = rig.connect(None, Some("Bearer key_1:s1"), "");
    rig.clear();
    rig.close(old);
    assert!(rig.seen(ann).is_empty());
}

#[test]
fn events_nobody_knows_are_refused_once() {
    let (mut rig, ann, _) = lobby();
    rig.ask(ann, "no:such", json!({}), 1);
    assert_eq!(rig.names(ann), ["error", "ack"]);
    rig.clear();
    rig.ask(ann, "task:create", json!({"channelId": "lobby"}), 2);
    assert_eq!(rig.names(ann), ["error", "task:error", "ack"]);
}

#[test]
fn the_sdk_makes_a_channel_and_a_key_and_its_agent_comes_in_with_it() {
    let mut rig = Rig::new();
    let admin = rig.user("ann");
    rig.clear();
    let create = json!({"name": "Lab", "description": "", "isPrivate": true, "maxAgents": 5, "systemLlmEnabled": true});
    for _ in 0..2 {
        rig.send(admin, "channel:create", rig::envelope("channel:create", "ann", "lab", create.clone()));
        let created = rig.payload(admin, "channel:created");
        assert_eq!(
            (&created["channelId"], &created["data"]),
            (&json!("lab"), &json!({"channelId": "lab", "name": "Lab"}))
        );
    }
    let other = rig.user("bob");
    rig.send(other, "channel:create", rig::envelope("channel:create", "bob", "lab", create));
    assert!(rig.payload(other, "channel:creation:failed")["data"]["error"].is_string());
    let wanted = json!({"channelId": "lab", "agentId": "k1", "name": "first"});
    rig.send(other, "key:generate", rig::envelope("key:generate", "bob", "lab", wanted.clone()));
    assert_eq!(rig.payload(other, "key:generation:failed")["data"]["channelId"], "lab");
    assert_eq!(rig.payload(other, "error")["code"], "CHANNEL_NOT_FOUND", "it is private");
    rig.clear();
    rig.send(admin, "key:generate", rig::envelope("key:generate", "ann", "lab", wanted));
    let key = rig.payload(admin, "key:generated")["data"].clone();
    assert_eq!(
        (&key["channelId"], &key["agentId"], &key["expiresAt"]),
        (&json!("lab"), &json!("k1"), &json!(null))
    );
    assert!(rig.seen(other).is_empty());

    let auth =
        json!({"domainKey": "domain", "agentId": "k1", "keyId": key["keyId"], "secretKey": key["secretKey"]});
    let agent = rig.connect(Some(&auth), None, "");
    assert_eq!(rig.names(agent), ["auth:success", "agent:registered", "agent:connected"]);
    assert_eq!(rig.payload(agent, "auth:success")["channelConfig"]["systemLlmEnabled"], true);
    rig.clear();
    let register = json!({"name": "K", "type": "worker", "capabilities": ["c"], "allowedTools": ["t"], "status": "registering"});
    rig.send(agent, "agent:register", rig::envelope("agent:register", "k1", "lab", register));
    let registered = rig.payload(agent, "agent:registered");
    assert_eq!(
        (&registered["data"]["name"], &registered["data"]["capabilities"]),
        (&json!("K"), &json!(["c"]))
    );
    rig.send(agent, "agent:join_channel", json!({"agentId": "k1", "channelId": "lab"}));
    rig.send(agent, "mxf:tool:list", rig::envelope("mxf:tool:list", "k1", "lab", json!({"requestId": "r1"})));
    assert_eq!(
        rig.payload(agent, "mxf:tool:list:result")["data"],
        json!({"requestId": "r1", "tools": [], "count": 0})
    );
    let get = json!({"operationId": "o1", "scope": "agent", "id": "k1"});
    rig.send(agent, "memory:get", rig::envelope("memory:get", "k1", "lab", get.clone()));
    let memory = rig.payload(agent, "memory:get:result")["data"].clone();
    assert_eq!((&memory["operationId"], &memory["memory"]["agentId"]), (&json!("o1"), &json!("k1")));
    rig.send(agent, "memory:update", rig::envelope("memory:update", "k1", "lab", get));
    assert_eq!(rig.payload(agent, "memory:update:error")["data"]["operationId"], "o1");
    rig.send(agent, "heartbeat", json!({"clientTimestamp": 1}));
    assert!(rig.payload(agent, "heartbeat:response")["timestamp"].is_i64());
    rig.clear();
    let data = json!({"content": {"format": "text", "data": "hello"}, "metadata": {"messageId": "m1"}});
    rig.send(admin, "message:channel", rig::envelope("message:channel", "ann", "lab", data));
    assert_eq!(rig.payload(agent, "message:channel")["data"]["senderId"], "ann");
}

#[test]
fn the_sdks_direct_messages_are_reported_to_their_sender() {
    let (mut rig, ann, bob) = lobby();
    let data = json!({"receiverId": "a2", "content": {"format": "json", "data": {"n": 1}}});
    rig.send(ann, "message:agent", rig::envelope("message:agent", "a1", "lobby", data));
    assert_eq!(rig.payload(ann, "message:agent:delivered")["data"]["delivered"], true);
    assert_eq!(rig.payload(bob, "direct_message")["content"], json!({"n": 1}));
}

#[test]
fn keys_are_listed_without_secrets_and_end_when_deactivated() {
    let mut rig = Rig::new();
    let ann = rig.user("ann");
    rig.send(ann, "channel:create", rig::envelope("channel:create", "ann", "lobby", json!({})));
    rig.key("key_1", "s1", "k1");
    let agent = rig.connect(None, Some("Bearer key_1:s1"), "");
    rig.send(ann, "key:list", rig::envelope("key:list", "ann", "lobby", json!({"channelId": "lobby"})));
    let listed = rig.payload(ann, "key:listed")["data"].clone();
    assert_eq!(
        (&listed["keys"][0]["keyId"], &listed["keys"][0]["isActive"]),
        (&json!("key_1"), &json!(true))
    );
    assert!(!listed.to_string().contains("s1\""));
    rig.send(
        ann,
        "key:deactivate",
        rig::envelope("key:deactivate", "ann", "lobby", json!({"keyId": "key_1"})),
    );
    assert_eq!(rig.payload(ann, "key:deactivated")["data"], json!({"keyId": "key_1", "channelId": "lobby"}));
    assert!(rig.ended(agent));
    let active = json!({"channelId": "lobby", "activeOnly": true});
    rig.send(ann, "key:list", rig::envelope("key:list", "ann", "lobby", active));
    assert_eq!(rig.payload(ann, "key:listed")["data"]["keys"], json!([]));
}

#[test]
fn allowed_tools_and_status_are_the_agents_own() {
    let (mut rig, ann, bob) = lobby();
    rig.send(
        ann,
        "agent:allowed_tools:update",
        rig::envelope("agent:allowed_tools:update", "a1", "lobby", json!({"allowedTools": ["t"]})),
    );
    let updated = rig.payload(ann, "agent:allowed_tools:updated");
    assert_eq!(updated, json!({"agentId": "a1", "allowedTools": ["t"], "success": true}));
    rig.clear();
    rig.send(
        ann,
        "agent:allowed_tools:update",
        rig::envelope("agent:allowed_tools:update", "a2", "lobby", json!({"allowedTools": []})),
    );
    assert_eq!(rig.payload(ann, "message:error")["data"]["rejectedEvent"], "agent:allowed_tools:update");
    rig.clear();
    rig.ask(
        ann,
        "agent:status:change",
        rig::envelope("agent:status:change", "a1", "lobby", json!({"status": "away"})),
        1,
    );
    assert_eq!(rig.payload(bob, "agent:updated")["updates"], json!({"status": "away"}));
    rig.ask(
        ann,
        "agent:status:change",
        rig::envelope("agent:status:change", "a1", "lobby", json!({"status": "connecting"})),
        2,
    );
    assert_eq!((rig.ack(ann, 1), rig.ack(ann, 2)), (json!({"success": true}), json!({"success": true})));
}

#[test]
fn an_agent_on_its_own_socket_is_told_where_its_user_takes_it() {
    let (mut rig, ann, _) = lobby();
    rig.key("key_1", "s1", "k1");
    rig.send(ann, "agent:register", json!({"agentId": "a3", "name": "A3", "channelId": "side"}));
    rig.send(ann, "agent:register", json!({"agentId": "k1", "name": "K", "channelId": "lobby"}));
    let agent = rig.connect(None, Some("Bearer key_1:s1"), "");
    rig.clear();
    rig.send(ann, "channel:join", json!({"channelId": "side", "agentId": "k1"}));
    assert_eq!(rig.names(agent), ["channel:joined", "channel:participants"]);
    rig.clear();
    rig.send(ann, "message:send", json!({"channelId": "side", "content": "x", "agentId": "a3"}));
    assert_eq!(rig.payload(agent, "message")["from"], "a3");
    rig.clear();
    rig.send(ann, "channel:leave", json!({"channelId": "side", "agentId": "k1"}));
    assert_eq!(rig.names(agent), ["channel:left"]);
    rig.clear();
    rig.send(ann, "message:send", json!({"channelId": "side", "content": "y", "agentId": "a3"}));
    assert!(rig.seen(agent).is_empty());
}

#[test]
fn who_comes_back_gets_what_it_missed_after_its_cursor() {
    let (mut rig, ann, _) = lobby();
    rig.key("key_1", "s1", "k1");
    let first = rig.connect(None, Some("Bearer key_1:s1"), "");
    rig.send(ann, "message:send", json!({"channelId": "lobby", "content": "seen"}));
    let cursor = rig.payload(first, "message")["cursor"].clone();
    rig.close(first);
    for text in ["missed 1", "missed 2"] {
        rig.send(ann, "message:send", json!({"channelId": "lobby", "content": text}));
    }
    rig.send(ann, "channel:update", json!({"channelId": "lobby", "updates": {"name": "Hall"}}));
    let mut auth =
        json!({"domainKey": "domain", "keyId": "key_1", "secretKey": "s1", "since": cursor.clone()});
    let second = rig.connect(Some(&auth), None, "");
    let contents: Vec<Value> = rig.payloads(second, "message").iter().map(|m| m["content"].clone()).collect();
    assert_eq!(contents, ["missed 1", "missed 2"]);
    assert!(rig.payloads(second, "channel:updated").is_empty(), "what a channel was called is no news");
    let offset: u64 = cursor.as_str().unwrap().split_once(':').unwrap().1.parse().unwrap();
    auth["since"] = json!(offset * 1_024);
    let by_number = rig.connect(Some(&auth), None, "");
    assert_eq!(
        rig.payloads(by_number, "message").len(),
        2,
        "the number of a watched frame names the same place"
    );
    for (since, names) in [
        (json!("nonsense"), vec!["error"]),
        (json!(1.5), vec!["error"]),
        (json!("9:1"), vec!["error", "channel:error"]),
    ] {
        auth["since"] = since;
        let third = rig.connect(Some(&auth), None, "");
        assert_eq!(rig.names(third).split_off(3), names);
        assert_eq!(rig.payload(third, "error")["details"]["field"], "since");
        rig.clear();
        rig.send(ann, "message:send", json!({"channelId": "lobby", "content": "x"}));
        assert_eq!(rig.payloads(third, "message").len(), 1);
    }
}

#[test]
fn a_suspended_agent_is_spoken_for_no_more() {
    let (mut rig, ann, bob) = lobby();
    rig.suspend("a2");
    assert_eq!(rig.payload(bob, "agent:error")["code"], "PERMISSION_DENIED");
    rig.clear();
    rig.send(ann, "message:send", json!({"channelId": "lobby", "content": "x"}));
    rig.send(ann, "message:direct", json!({"targetAgentId": "a2", "content": "x"}));
    assert!(rig.seen(bob).is_empty());
    rig.ask(bob, "message:send", json!({"channelId": "lobby", "content": "x"}), 1);
    assert_eq!(rig.ack(bob, 1)["code"], "PERMISSION_DENIED");
    rig.ask(bob, "agent:register", json!({"agentId": "a2", "name": "A2", "channelId": "lobby"}), 2);
    assert_eq!(rig.ack(bob, 2)["code"], "PERMISSION_DENIED");
}
