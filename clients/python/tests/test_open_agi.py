"""Open-A.G.I with websocket-client's WebSocketApp, as in the document."""

import pytest

from harness import fresh
from participants import Subscriber


@pytest.fixture
def subscriber(server):
    opened = []

    def start(node=None):
        token = server.cli("token", "issue", "--node", node or fresh("node"))["token"]
        opened.append(Subscriber(server.open_agi, token))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_nothing_comes_before_a_subscription(subscriber):
    one = subscriber()
    one.tell({"type": "ping"})
    assert one.frame("pong") == {"type": "pong"}
    assert [item["type"] for item in one.inbox.items] == ["opened", "pong"]


def test_subscribing_twice_and_unsubscribing(subscriber):
    one = subscriber()
    for _ in range(2):
        one.tell({"type": "subscribe", "channel": "network_events"})
    answers = one.inbox.at_least(2, "subscribed", lambda item: item["type"] == "subscribed")
    assert [answer["data"] for answer in answers] == [{"channel": "network_events", "channels": ["network_events"]}] * 2
    one.tell({"type": "unsubscribe", "channel": "network_events"})
    assert one.frame("unsubscribed")["data"]["channels"] == []


def test_who_joins_is_told_to_subscribers_once(subscriber):
    one = subscriber()
    one.tell({"type": "subscribe", "channel": "network_events"})
    one.frame("subscribed")
    node = fresh("node")
    subscriber(node)
    event = one.frame("network_event", lambda item: item["event"] == "node_joined" and item["data"]["node_id"] == node)
    assert {"node_id", "address", "timestamp"} <= event["data"].keys()
    one.tell({"type": "ping"})
    one.frame("pong")
    assert len(one.inbox.all(lambda item: item["type"] == "network_event" and item["data"]["node_id"] == node)) == 1


def test_what_is_wrong_is_told_and_the_connection_stays(subscriber):
    one = subscriber()
    for sent, message in [
        ({"type": "subscribe", "channel": "gossip"}, "Unknown channel: gossip"),
        ({"type": "fly"}, "Unknown message type: fly"),
        ("no json", "Invalid JSON"),
        ([1], "Invalid JSON"),
    ]:
        one.tell(sent)
        assert one.frame("error", lambda item, message=message: item["message"] == message)["code"] == 400
    one.tell({"type": "ping"})
    one.frame("pong")


@pytest.mark.parametrize(("token", "reason"), [(None, "Missing token"), ("wrong", "Invalid token")])
def test_bad_tokens_are_told_and_closed(server, token, reason):
    one = Subscriber(server.open_agi, token)
    closed = one.frame("closed")
    assert (closed["code"], closed["reason"]) == (1008, reason)
    frames = [item for item in one.inbox.items if item["type"] not in ("opened", "closed")]
    assert [(frame["type"], frame["code"]) for frame in frames] == [("error", 401)]
