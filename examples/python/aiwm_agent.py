"""An AIWM agent: gets a token for its secret, connects, and answers what users say in its conversation.

    AIWM_AGENT_ID=... AIWM_AGENT_SECRET=... python aiwm_agent.py HOST PORT [--once]

It prints the id of its conversation, for users to join. With --once it ends after its first answer.
"""

import argparse
import os
import sys
import threading

import requests
import socketio

PATIENCE = 10


def answer_to(content):
    """What this agent has to say: a model would be asked here."""
    return f"You said: {content}"


def main():
    words = argparse.ArgumentParser()
    words.add_argument("host")
    words.add_argument("port", type=int)
    words.add_argument("--once", action="store_true")
    words = words.parse_args()
    agent_id, secret = os.environ["AIWM_AGENT_ID"], os.environ["AIWM_AGENT_SECRET"]
    base = f"http://{words.host}:{words.port}"

    response = requests.post(f"{base}/dev/aiwm/agents/{agent_id}/connect", json={"secret": secret}, timeout=PATIENCE)
    if not response.ok:
        sys.exit(f"no token: {response.json()['message']}")
    token = response.json()["accessToken"]

    sio = socketio.Client(reconnection=not words.once)
    answered = threading.Event()
    conversation = None

    # python-socketio calls a function after its event; the server says these under both names.
    @sio.event
    def presence_update(presence):
        nonlocal conversation
        if presence["type"] == "agent" and presence["agentId"] == agent_id:
            conversation = presence["conversationId"]
            print(f"conversation {conversation}", flush=True)

    @sio.event
    def message_new(message):
        if message["participantId"] == agent_id or message["role"] != "user":
            return
        print(f"{message['participantId']}: {message['content']}", flush=True)
        sio.emit("message:typing", {"conversationId": conversation, "isTyping": True})
        answer = {"conversationId": conversation, "role": "assistant", "content": answer_to(message["content"])}
        sio.emit("message:send", answer)
        sio.emit("message:typing", {"conversationId": conversation, "isTyping": False})

    @sio.event
    def message_sent(sent):
        print(f"delivered {sent['messageId']}", flush=True)
        answered.set()

    @sio.event
    def message_error(error):
        print(f"refused: {error['error']}", file=sys.stderr)

    sio.connect(f"{base}/dev/aiwm/chat", auth={"token": token}, transports=["websocket"], wait_timeout=PATIENCE)
    if words.once:
        answered.wait()
        sio.disconnect()
    else:
        sio.wait()


if __name__ == "__main__":
    main()
