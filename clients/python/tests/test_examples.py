"""The sample clients under examples/python, each a process of its own that is given host, port and credentials only."""

import os
import re
import subprocess
import sys
import threading

import pytest
import requests

from harness import PATIENCE, TOP, Inbox, fresh
from participants import Agent, Person, Subscriber


class Example:
    """An example with `--once`: its lines, and how it ends."""

    def __init__(self, name, words, env):
        self.inbox = Inbox()
        self.process = subprocess.Popen(
            [sys.executable, TOP / "examples/python" / name, "127.0.0.1", *map(str, words), "--once"],
            env={"PATH": os.environ["PATH"], **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.inbox.put(line.rstrip("\n"))

    def line(self, pattern):
        return re.fullmatch(pattern, self.inbox.first(pattern, lambda line: re.fullmatch(pattern, line)))

    def ended(self, code=0):
        assert self.process.wait(PATIENCE) == code, self.inbox.items


@pytest.fixture
def example():
    started = []

    def start(name, *words, **env):
        started.append(Example(name, words, env))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def account(server):
    name = fresh("user")
    return name, server.cli("user", "add", name)["password"]


def test_the_aiwm_agent_answers_a_user(server, example):
    agent = fresh("agent")
    secret = server.cli("agent", "add", agent)["secret"]
    shown = example("aiwm_agent.py", server.main, AIWM_AGENT_ID=agent, AIWM_AGENT_SECRET=secret)
    conversation = shown.line(r"conversation (\S+)")[1]
    asker = fresh("asker")
    other = Agent(server, asker, server.cli("agent", "add", asker)["secret"])
    assert other.sio.call("conversation:join", {"conversationId": conversation}, timeout=PATIENCE)["success"]
    other.sio.emit("message:send", {"conversationId": conversation, "role": "user", "content": "Is it raining?"})
    heard = other.event("message_new", lambda message: message["participantId"] == agent)
    assert heard["content"] == "You said: Is it raining?"
    shown.ended()
    other.sio.disconnect()
    wrong = example("aiwm_agent.py", server.main, AIWM_AGENT_ID=agent, AIWM_AGENT_SECRET="wrong")
    wrong.line("no token: Invalid credentials")
    wrong.ended(1)


@pytest.mark.parametrize("known", [False, True])
def test_the_hive_dashboard_sees_a_new_agent(server, example, account, known):
    env = {"HIVE_TOKEN": server.cli("token", "issue", "--user", account[0])["token"]} if known else {}
    shown = example("hive_dashboard.py", server.main, **env)
    shown.line(r"(healthy|degraded|unhealthy): \d+ agents active")
    scarce = {"name": fresh("memory"), "metric": "memory_usage", "condition": "greater_than", "threshold": 0.001}
    answer = requests.post(f"{server.http}/metrics/alerts", json={"alerts": [scarce]}, timeout=PATIENCE)
    assert answer.status_code == 201
    shown.line(r"alert: memory at \d+\.\d %, above 0\.001 %")
    agent = fresh("agent")
    server.cli("agent", "add", agent)
    shown.line(rf"new agent {agent} \(.*\)")
    shown.ended()
    wrong = example("hive_dashboard.py", server.main, HIVE_TOKEN="wrong")
    wrong.line("refused: Invalid credentials")
    wrong.ended(1)


def test_the_open_agi_subscriber_sees_a_node_join(server, example):
    shown = example("open_agi_subscriber.py", server.open_agi_port, fresh("watcher"))
    shown.line("subscribed to network_events")
    node = fresh("node")
    other = Subscriber(server.open_agi, server.cli("token", "issue", "--node", node)["token"])
    shown.line(f"node_joined {node}")
    shown.ended()
    other.close()
    wrong = example("open_agi_subscriber.py", server.open_agi_port, OPEN_AGI_TOKEN="wrong")
    wrong.line("401: Invalid token")
    wrong.ended(1)


def test_the_megabot_chat_speaks_and_hears(server, example, account):
    session, (name, password) = fresh("session"), account
    person = Person(f"{server.megabot}?user_id={fresh('ada')}", session)
    guest = example("megabot_chat.py", server.megabot_port, session, "anybody?")
    person.inbox.first("the guest", lambda item: item["type"] == "chat_receive" and item["payload"]["content"] == "anybody?")
    known = {"MEGABOT_USERNAME": name, "MEGABOT_PASSWORD": password}
    user = example("megabot_chat.py", server.megabot_port, session, "me", **known)
    guest.line(f"{name}: me")
    guest.ended()
    person.inbox.first("the user", lambda item: item["type"] == "chat_receive" and item["payload"].get("user_id") == name)
    person.say("and me")
    user.line(".*: and me")
    user.ended()
    person.close()
    wrong = example("megabot_chat.py", server.megabot_port, session, **{**known, "MEGABOT_PASSWORD": "wrong"})
    wrong.line("no login: Invalid credentials")
    wrong.ended(1)
