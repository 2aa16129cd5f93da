"""The REST routes that a person reaches with curl: logging in, connecting, tokens, and plain GETs on WebSocket paths."""

import json

import pytest

from harness import curl, curl_json, fresh


def test_a_plain_get_on_a_websocket_path_asks_for_an_upgrade(server):
    for url in [server.hive, server.megabot, server.open_agi, f"ws://127.0.0.1:{server.main}/hive/ws"]:
        status, head, _ = curl(url.replace("ws://", "http://"))
        assert status == 426, url
        assert "upgrade: websocket" in head.lower()


def test_health(server):
    for port in server.ports[:2]:
        status, _, body = curl(f"http://127.0.0.1:{port}/health")
        # A machine under full load is not well, and the answer says so.
        assert status == (200 if json.loads(body)["status"] == "healthy" else 503)


def test_logging_in_to_megabot(server):
    name = fresh("user")
    password = server.cli("user", "add", name)["password"]
    base = f"http://127.0.0.1:{server.megabot_port}/api/auth"
    status, _, answer = curl_json(f"{base}/login", {"username": name, "password": password})
    assert status == 200, answer
    assert {"token", "refresh_token", "token_type", "expires_in", "expires_at", "user"} <= answer.keys()
    status, _, me = curl("--header", f"Authorization: Bearer {answer['token']}", f"{base}/me")
    assert (status, json.loads(me)["username"]) == (200, name)
    assert curl(f"{base}/me")[0] == 401
    status, _, answer = curl_json(f"{base}/login", {"username": name, "password": "wrong"})
    assert (status, answer["error"]) == (401, "Invalid credentials")


def test_connecting_an_aiwm_agent(server):
    agent = fresh("agent")
    secret = server.cli("agent", "add", agent)["secret"]
    url = f"{server.http}/dev/aiwm/agents/{agent}/connect"
    status, _, answer = curl_json(url, {"secret": secret})
    assert status == 200, answer
    assert (answer["expiresIn"], answer["tokenType"], answer["refreshToken"], answer["refreshExpiresIn"]) == (86400, "bearer", None, 0)
    assert {"id", "systemPrompt", "guidelines"} <= answer["instruction"].keys()
    status, _, answer = curl_json(url, {"secret": "wrong"})
    assert (status, answer["message"]) == (401, "Invalid credentials")


def test_a_token_for_open_agi(server):
    url = f"http://127.0.0.1:{server.open_agi_port}/api/v1/auth/token"
    node = fresh("node")
    status, _, answer = curl_json(url, {"node_id": node, "public_key": "a2V5"})
    assert status == 200, answer
    assert (answer["token_type"], answer["expires_in"], answer["node_id"]) == ("bearer", 3600, node)
    assert curl_json(url, {"node_id": node})[0] == 400


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("EIO=3&transport=polling", 5, "Unsupported protocol version"),
        ("EIO=4&transport=pigeon", 0, "Transport unknown"),
        ("EIO=4&transport=polling&sid=nobody", 1, "Session ID unknown"),
    ],
)
def test_wrong_engine_requests(server, query, code, message):
    status, _, body = curl(f"{server.http}/socket.io/?{query}")
    assert (status, json.loads(body)) == (400, {"code": code, "message": message})


def test_wrong_passwords_are_limited(server):
    name = fresh("user")
    server.cli("user", "add", name)
    url = f"http://127.0.0.1:{server.megabot_port}/api/auth/login"
    answers = [curl_json(url, {"username": name, "password": "wrong"}) for _ in range(11)]
    assert [status for status, _, _ in answers[:10]] == [401] * 10
    status, head, _ = answers[10]
    assert status == 429
    assert "retry-after:" in head.lower()
