"""AIWM with python-socketio, which drops the URL's path and so ends up in namespace `/`."""

import pytest
import socketio

from harness import PATIENCE, fresh
from participants import Agent


@pytest.fixture
def agent(server):
    started = []

    def start(**how):
        agent_id = fresh("agent")
        secret = server.cli("agent", "add", agent_id)["secret"]
        started.append(Agent(server, agent_id, secret, **how))
        return started[-1]

    yield start
    for one in started:
        one.sio.disconnect()


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
def test_the_sample_agent_speaks_and_hears(agent, transports):
    one = agent(transports=transports)
    one.event("presence_update")
    assert one.conversation_id
    ack = one.sio.call(
        "message:send", {"conversationId": one.conversation_id, "role": "assistant", "content": "Grüße 👋"}, timeout=PATIENCE
    )
    assert ack["success"] is True, ack
    told = one.event("message_new")
    assert (told["content"], told["participantId"], told["role"]) == ("Grüße 👋", one.agent_id, "assistant")
    sent = one.event("message_sent")
    assert sent["messageId"] == told["_id"] == ack["message"]["_id"]


def test_two_agents_converse(agent):
    ada, bob = agent(), agent()
    ada.event("presence_update")
    joined = bob.sio.call("conversation:join", {"conversationId": ada.conversation_id}, timeout=PATIENCE)
    assert joined == {"success": True, "conversationId": ada.conversation_id}
    bob.sio.emit("message:send", {"conversationId": ada.conversation_id, "role": "user", "content": "Anybody?"})
    heard = ada.event("message_new")
    assert (heard["role"], heard["content"], heard["participantId"]) == ("user", "Anybody?", bob.agent_id)
    ada.sio.emit("message:send", {"conversationId": ada.conversation_id, "role": "assistant", "content": "Yes"})
    bob.event("message_new", lambda message: message["content"] == "Yes")


def test_a_wrong_message_is_told(agent):
    one = agent()
    one.sio.emit("message:send", {"role": "assistant"})
    assert "content is required" in one.event("message_error")["error"]


def refused(url, auth):
    """What a client is told that may not come in."""
    client = socketio.Client(reconnection=False)
    told = []
    client.on("connect_error", told.append)
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(url, auth=auth, transports=["websocket"])
    return told


def test_a_bad_token_is_refused_before_the_connection(server):
    told = refused(f"{server.http}/dev/aiwm/chat", {"token": "abc.def.ghi"})
    assert told == [{"message": "Invalid token (401)", "data": {"code": "INVALID_TOKEN", "status": 401}}]


def test_neither_token_nor_domain_key(server):
    (told,) = refused(server.http, None)
    assert told["message"] == "Domain key required for SDK connection"
