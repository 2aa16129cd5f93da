"""One conversation with all public clients at once: what one says, all others hear, in one order."""

import pytest

from harness import PATIENCE, curl_json, fresh
from participants import Agent, Dashboard, NodeClients, Person, Subscriber


@pytest.fixture
def stage(server):
    """Everybody, in the room."""
    room = server.room()
    hive = Dashboard(server.hive)
    hive.frame("hive_status_update")
    node_token = curl_json(
        f"http://127.0.0.1:{server.open_agi_port}/api/v1/auth/token", {"node_id": fresh("watcher"), "public_key": "a2V5"}
    )[2]["token"]
    watcher = Subscriber(server.open_agi, node_token)
    watcher.tell({"type": "subscribe", "channels": ["network_events", "security_events"]})
    watcher.frame("subscribed")

    scribe = fresh("scribe")
    secret = server.cli("agent", "add", scribe)["secret"]
    aiwm_token = curl_json(f"{server.http}/dev/aiwm/agents/{scribe}/connect", {"secret": secret})[2]["accessToken"]
    nodes = NodeClients(
        {
            "room": room,
            "main": server.main,
            "megabot": server.megabot_port,
            "mxf": [server.channel_key(fresh("scout"), room), server.channel_key(fresh("scout"), room)],
            "aiwm": aiwm_token,
            "person": fresh("ada"),
        }
    )
    reader = fresh("reader")
    agent = Agent(server, reader, server.cli("agent", "add", reader)["secret"])
    assert agent.sio.call("conversation:join", {"conversationId": room}, timeout=PATIENCE)["success"]
    person = Person(f"{server.megabot}?user_id={fresh('bob')}", room)
    speakers = ["mxf-websocket", "mxf-polling", "aiwm-node", "megabot-node"]
    ids = {who: nodes.ready(who) for who in speakers}
    nodes.ready("hive-node")
    yield server, room, nodes, ids, agent, person, hive, watcher
    person.close()
    agent.sio.disconnect()
    nodes.close()
    watcher.close()
    hive.ws.close()


def test_everybody_hears_everybody_in_one_order(stage):
    server, room, nodes, ids, agent, person, hive, watcher = stage
    said = []
    for turn in range(3):
        for who in ids:
            said.append((who, f"{who} {turn}"))
            nodes.say(*said[-1])
        said.append(("aiwm-python", f"aiwm-python {turn}"))
        agent.sio.call(
            "message:send", {"conversationId": room, "role": "assistant", "content": said[-1][1]}, timeout=PATIENCE
        )
        said.append(("megabot-python", f"megabot-python {turn}"))
        person.say(said[-1][1])
    texts = {text for _, text in said}
    ids = {**ids, "aiwm-python": agent.agent_id}

    def heard_by(who):
        if who == "aiwm-python":
            items = agent.inbox.all(lambda item: item[0] == "message_new" and item[1]["conversationId"] == room)
            return [(item[1]["participantId"], item[1]["content"]) for item in items]
        if who == "megabot-python":
            return [(item.get("user_id") or item.get("agent_id"), item["content"]) for item in person.heard()]
        return [(item["from"], item["text"]) for item in nodes.heard(who)]

    # MegaBot gives a sender no copy of its own message; everybody else hears all.
    expected = {who: {text for by, text in said if not (who.startswith("megabot") and by == who)} for who, _ in said}
    inboxes = {"aiwm-python": agent.inbox, "megabot-python": person.inbox}
    for who, wanted in expected.items():
        inboxes.get(who, nodes.inbox).first(
            f"all messages at {who}", lambda item, who=who, wanted=wanted: wanted <= {text for _, text in heard_by(who)}
        )
    order = [text for _, text in heard_by("mxf-websocket") if text in texts]
    assert len(order) == len(texts), "each once"
    for who, wanted in expected.items():
        heard = [(by, text) for by, text in heard_by(who) if text in texts]
        assert [text for _, text in heard] == [text for text in order if text in wanted], who
        for by, text in heard:
            speaker = text.rsplit(" ", 1)[0]
            if speaker in ids:
                assert by == ids[speaker], f"{who} heard {text!r} from {by}"

    written = [message["event"]["content"]["text"] for message in server.cli("room", "history", room)["messages"]]
    assert [text for text in written if text in texts] == order, "the log has the order that everybody saw"

    for who in ("mxf-websocket", "aiwm-node"):
        hive.frame("agent_created", lambda data, who=who: data["agent"]["id"] == ids[who])
        hive.frame("agent_status_changed", lambda data, who=who: data["agent_id"] == ids[who])
    nodes.inbox.first("the Node page sees agents", lambda item: item["who"] == "hive-node" and item.get("saw") == "agent_status_changed")
    newcomer = fresh("node")
    other = Subscriber(server.open_agi, server.cli("token", "issue", "--node", newcomer)["token"])
    watcher.frame("network_event", lambda item: item["event"] == "node_joined" and item["data"]["node_id"] == newcomer)
    other.close()
