"""A MegaBot chat: enters a session, says one thing and prints what others say there.

    MEGABOT_USERNAME=... MEGABOT_PASSWORD=... python megabot_chat.py HOST PORT SESSION [TEXT] [--once]

Without name and password it comes as a guest, which is possible only from the same machine.
With --once it ends after the first message of somebody else. Works with websockets 13 and later: the newer client of
that library takes `additional_headers`.
"""

import argparse
import asyncio
import itertools
import json
import os
import sys
import time

import requests
from websockets.asyncio.client import connect

PATIENCE = 10


def login(words, username, password):
    """The header that says who we are."""
    url = f"http://{words.host}:{words.port}/api/auth/login"
    answer = requests.post(url, json={"username": username, "password": password}, timeout=PATIENCE)
    if not answer.ok:
        sys.exit(f"no login: {answer.json()['error']}")
    return {"Authorization": f"Bearer {answer.json()['token']}"}


async def chat(words, headers):
    """True once somebody else has spoken; False if the connection ended."""
    ids = itertools.count(1)

    async with connect(f"ws://{words.host}:{words.port}/ws", additional_headers=headers) as ws:

        async def tell(kind, **payload):
            frame = {"id": f"example-{next(ids)}", "type": kind, "payload": payload, "timestamp": int(time.time() * 1000)}
            await ws.send(json.dumps(frame))

        async for text in ws:
            message = json.loads(text)
            payload = message["payload"]
            match message["type"]:
                case "connection_established":
                    print(f"connected as {payload['user_id']}", flush=True)
                    await tell("session_join", session_id=words.session)
                case "session_joined":
                    print(f"in {words.session} with {len(payload['participants'])}", flush=True)
                    await tell("chat_send", session_id=words.session, content=words.text)
                case "chat_receive":
                    who = payload.get("user_id") or payload.get("agent_id") or payload["sender"]
                    print(f"{who}: {payload['content']}", flush=True)
                    if words.once:
                        return True
                case "error" | "connection_error":
                    print(payload["message"], file=sys.stderr)
    return False


def main():
    words = argparse.ArgumentParser()
    words.add_argument("host")
    words.add_argument("port", type=int)
    words.add_argument("session")
    words.add_argument("text", nargs="?", default="Hello")
    words.add_argument("--once", action="store_true")
    words = words.parse_args()
    username, password = os.environ.get("MEGABOT_USERNAME"), os.environ.get("MEGABOT_PASSWORD")
    headers = login(words, username, password) if username else {}
    if not asyncio.run(chat(words, headers)):
        sys.exit("the connection ended")


if __name__ == "__main__":
    main()
