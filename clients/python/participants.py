"""The documents' Python clients, each with an inbox in the place of print statements, and the Node ones by remote control."""

import asyncio
import itertools
import json
import subprocess
import threading

import requests
import socketio
import websocket
import websockets

from harness import PATIENCE, TOP, Inbox

_ids = itertools.count(1)


def frame(kind, payload):
    return json.dumps({"id": f"f{next(_ids)}", "type": kind, "payload": payload})


class Agent:
    """The document's Python agent: handlers are functions named like the events, with underscores."""

    def __init__(self, server, agent_id, secret, transports=("websocket",)):
        self.agent_id = agent_id
        self.conversation_id = None
        self.inbox = Inbox()
        self.sio = socketio.Client(reconnection=False)
        self._setup_event_handlers()
        response = requests.post(
            f"{server.http}/dev/aiwm/agents/{agent_id}/connect", json={"secret": secret}, timeout=PATIENCE
        )
        token = response.json()["accessToken"]
        self.sio.connect(f"{server.http}/dev/aiwm/chat", auth={"token": token}, transports=list(transports))

    def _setup_event_handlers(self):
        @self.sio.event
        def presence_update(data):
            if data["type"] == "agent" and data["agentId"] == self.agent_id:
                self.conversation_id = data["conversationId"]
            self.inbox.put(("presence_update", data))

        @self.sio.event
        def message_new(message):
            self.inbox.put(("message_new", message))

        @self.sio.event
        def message_sent(data):
            self.inbox.put(("message_sent", data))

        @self.sio.event
        def message_error(error):
            self.inbox.put(("message_error", error))

        @self.sio.event
        def disconnect(reason=None):
            self.inbox.put(("disconnect", reason))

    def event(self, name, wanted=lambda data: True):
        return self.inbox.first(name, lambda item: item[0] == name and wanted(item[1]))[1]


class Dashboard:
    """The document's Python client: one thread that ends for good at the first frame that is not JSON."""

    def __init__(self, url):
        self.inbox = Inbox()
        self.ws = websocket.WebSocket()
        self.ws.connect(url, timeout=PATIENCE)
        self.ws.settimeout(None)
        threading.Thread(target=self._message_loop, daemon=True).start()

    def _message_loop(self):
        while True:
            try:
                message = self.ws.recv()
            except (OSError, websocket.WebSocketException):
                break
            if not message:
                break
            self.inbox.put(json.loads(message))
        self.inbox.put({"type": None, "ended": True})

    def frame(self, kind, wanted=lambda data: True):
        return self.inbox.first(kind, lambda item: item["type"] == kind and wanted(item["data"]))


class Subscriber:
    """The document's Python client, with an inbox in the place of listeners."""

    def __init__(self, url, token=None):
        self.inbox = Inbox()
        self.ws = websocket.WebSocketApp(
            url if token is None else f"{url}?token={token}",
            on_open=lambda ws: self.inbox.put({"type": "opened"}),
            on_message=lambda ws, message: self.inbox.put(json.loads(message)),
            on_close=lambda ws, code, reason: self.inbox.put({"type": "closed", "code": code, "reason": reason}),
        )
        threading.Thread(target=self.ws.run_forever, daemon=True).start()
        self.frame("opened")

    def tell(self, frame):
        self.ws.send(frame if isinstance(frame, str) else json.dumps(frame))

    def frame(self, kind, wanted=lambda frame: True):
        return self.inbox.first(kind, lambda item: item["type"] == kind and wanted(item))

    def close(self):
        # The library's thread notices up to 10 s later; it is a daemon, so nobody waits for it.
        self.ws.close()


class NodeClients:
    """The Node participants in a process of their own: `heard` per participant, `seen` of the Hive page."""

    def __init__(self, config):
        script = TOP / "clients/node/participants.mjs"
        self.inbox = Inbox()
        self.process = subprocess.Popen(
            ["node", script, json.dumps(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.inbox.put(json.loads(line))
        self.inbox.put({"who": "node", "ended": True})

    def ready(self, who):
        ended = lambda item: item["who"] == who and "ready" in item or "ended" in item
        item = self.inbox.first(f"{who} in the room", ended)
        assert "ready" in item, "the Node clients ended early"
        return item["ready"]

    def say(self, who, text):
        self.process.stdin.write(json.dumps({"who": who, "say": text}) + "\n")
        self.process.stdin.flush()

    def heard(self, who):
        return [item["heard"] for item in self.inbox.all(lambda item: item["who"] == who and "heard" in item)]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Person:
    """A MegaBot person with the library websockets, on a thread with its own event loop."""

    def __init__(self, url, room):
        self.inbox = Inbox()
        self.room = room
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self._live(url),), daemon=True)
        self.thread.start()
        self.inbox.first("session_joined", lambda item: item["type"] == "session_joined")

    async def _live(self, url):
        async with websockets.connect(url) as self.ws:
            await self.ws.send(frame("session_join", {"session_id": self.room}))
            async for message in self.ws:
                self.inbox.put(json.loads(message))

    def say(self, text):
        sent = self.ws.send(frame("chat_send", {"session_id": self.room, "content": text}))
        asyncio.run_coroutine_threadsafe(sent, self.loop).result(PATIENCE)

    def heard(self):
        return [item["payload"] for item in self.inbox.all(lambda item: item["type"] == "chat_receive")]

    def close(self):
        asyncio.run_coroutine_threadsafe(self.ws.close(), self.loop).result(PATIENCE)
        self.thread.join(PATIENCE)
