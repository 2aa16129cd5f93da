"""A Hive dashboard: prints the state of the server, and who comes, goes and what is wrong.

    [HIVE_TOKEN=...] python hive_dashboard.py HOST PORT [--once]

With --once it ends after the first new agent. Without a token only from the same machine.
"""

import argparse
import json
import os
import sys
import urllib.parse

import websocket

SHOW = {
    "hive_status_update": lambda data: f"{data['status']}: {data['metrics']['active_agents']} agents active",
    "agent_created": lambda data: f"new agent {data['agent']['id']} ({data['agent']['name']})",
    "agent_status_changed": lambda data: f"{data['agent_id']}: {data['old_status']} -> {data['new_status']}",
    "agent_removed": lambda data: f"agent {data['agent_id']} is gone",
    "error": lambda data: f"refused: {data['error']}",
    "system_alert": lambda data: f"alert: {data['title']}: {data['message']}",
    "resource_alert": lambda data: f"alert: {data['resource']} at {data['usage_percent']:.1f} %, above {data['threshold_percent']} %",
}


def main():
    words = argparse.ArgumentParser()
    words.add_argument("host")
    words.add_argument("port", type=int)
    words.add_argument("--once", action="store_true")
    words = words.parse_args()
    token = os.environ.get("HIVE_TOKEN")
    query = "?" + urllib.parse.urlencode({"token": token}) if token else ""

    socket = websocket.create_connection(f"ws://{words.host}:{words.port}/ws{query}")
    print("connected", flush=True)
    try:
        while text := socket.recv():
            message = json.loads(text)
            kind = message["type"]
            print(SHOW[kind](message["data"]) if kind in SHOW else kind, flush=True)
            if words.once and kind == "agent_created":
                return
        sys.exit("the server closed the connection")
    finally:
        socket.close()


if __name__ == "__main__":
    main()
