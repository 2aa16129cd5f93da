"""An Open-A.G.I subscriber: gets a token for a node, subscribes to network events and prints them.

    python open_agi_subscriber.py HOST PORT NODE_ID [--once]
    OPEN_AGI_TOKEN=... python open_agi_subscriber.py HOST PORT [--once]

With --once it unsubscribes and ends after the first event.
"""

import argparse
import json
import os
import sys

import requests
import websocket

CHANNEL = "network_events"
PATIENCE = 10


def token_of(words):
    """A token for the node, from the server."""
    answer = requests.post(
        f"http://{words.host}:{words.port}/api/v1/auth/token",
        json={"node_id": words.node_id, "public_key": "ZXhhbXBsZQ=="},
        timeout=PATIENCE,
    )
    if not answer.ok:
        sys.exit(f"no token: {answer.json()['error']['message']}")
    return answer.json()["token"]


def main():
    words = argparse.ArgumentParser()
    words.add_argument("host")
    words.add_argument("port", type=int)
    words.add_argument("node_id", nargs="?")
    words.add_argument("--once", action="store_true")
    words = words.parse_args()
    token = os.environ.get("OPEN_AGI_TOKEN") or token_of(words)
    finished = False

    def on_open(app):
        app.send(json.dumps({"type": "subscribe", "channel": CHANNEL}))

    def on_message(app, text):
        nonlocal finished
        frame = json.loads(text)
        match frame["type"]:
            case "subscribed":
                print(f"subscribed to {', '.join(frame['data']['channels'])}", flush=True)
            case "network_event":
                print(f"{frame['event']} {frame['data'].get('node_id', '')}", flush=True)
                if words.once:
                    app.send(json.dumps({"type": "unsubscribe", "channel": CHANNEL}))
            case "unsubscribed":
                finished = True
                app.close()
            case "error":
                print(f"{frame['code']}: {frame['message']}", file=sys.stderr)

    app = websocket.WebSocketApp(
        f"ws://{words.host}:{words.port}/api/v1/ws?token={token}",
        on_open=on_open,
        on_message=on_message,
        on_error=lambda app, error: print(error, file=sys.stderr),
    )
    app.run_forever()
    sys.exit(0 if finished else "the connection ended")


if __name__ == "__main__":
    main()
