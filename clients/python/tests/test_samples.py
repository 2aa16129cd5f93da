"""Samples of the documents that are wrong as they are printed: what becomes of them here."""

import json
import threading

import websocket

from harness import PATIENCE, Inbox, fresh
from participants import Subscriber

# Seconds after which a silent Open-A.G.I client is subscribed to the network.
GRACE = 10


class Mistaken:
    """Open-A.G.I: the listener of `connected` takes no argument and is called with one, so nothing is ever subscribed to."""

    def __init__(self, url, token):
        self.inbox = Inbox()
        self.ws = websocket.WebSocketApp(
            f"{url}?token={token}",
            on_open=lambda ws: self.on_connected(ws),
            on_message=lambda ws, message: self.inbox.put(json.loads(message)),
            on_error=lambda ws, error: self.inbox.put({"type": "failed", "error": str(error)}),
        )
        threading.Thread(target=self.ws.run_forever, daemon=True).start()

    @staticmethod
    def on_connected():
        raise AssertionError("it cannot even be called")

    def frame(self, kind, wanted=lambda frame: True):
        return self.inbox.first(kind, lambda item: item["type"] == kind and wanted(item))


def test_the_open_agi_client_whose_listener_fails_hears_of_the_network_all_the_same(server):
    tokens = [server.cli("token", "issue", "--node", fresh("node"))["token"] for _ in range(3)]
    talker = Subscriber(server.open_agi, tokens[0])
    talker.tell({"type": "ping"})
    talker.frame("pong")
    mistaken = Mistaken(server.open_agi, tokens[1])
    assert "takes 0 positional arguments but 1 was given" in mistaken.frame("failed")["error"]
    # Longer than the inbox waits by itself.
    for _ in range(GRACE // PATIENCE + 1):
        try:
            subscribed = mistaken.frame("subscribed")
            break
        except AssertionError:
            continue
    assert subscribed["data"]["channels"] == ["network_events"]
    third = Subscriber(server.open_agi, tokens[2])
    assert mistaken.frame("network_event", lambda item: item["event"] == "node_joined")
    # Who has said anything is left alone.
    assert talker.inbox.all(lambda item: item["type"] in ("subscribed", "network_event")) == []
    for client in [talker, third, mistaken]:
        client.ws.close()


def test_a_thread_that_ends_at_the_first_frame_without_json_lives_on(server):
    """Hive: the reading thread parses every text frame; pings and answers to nonsense must not end it."""
    dashboard = websocket.create_connection(server.hive, timeout=PATIENCE)
    for nonsense in ["", "no json", "[]", "7", json.dumps({"action": "dance"})]:
        dashboard.send(nonsense)
    dashboard.ping()
    agent = fresh("agent")
    server.cli("agent", "add", agent)
    while True:
        frame = json.loads(dashboard.recv())
        if frame["type"] == "agent_created" and frame["data"]["agent"]["id"] == agent:
            break
    dashboard.close()
