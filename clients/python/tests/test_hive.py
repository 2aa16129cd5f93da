"""Hive with websocket-client, which offers no compression and sends an Origin equal to the host it dials."""

import json

import pytest
import websocket

from harness import PATIENCE, fresh
from participants import Dashboard


@pytest.fixture
def dashboard(server):
    opened = [Dashboard(server.hive)]
    yield opened[0]
    opened[0].ws.close()


def test_the_sample_client_gets_the_status_first(dashboard):
    first = dashboard.inbox.first("a frame")
    assert first["type"] == "hive_status_update"
    assert first["sequence"] >= 1
    assert {"total_agents", "active_agents", "pending_tasks", "completed_tasks_today", "system_load"} <= first["data"]["metrics"].keys()


def test_a_new_agent_is_seen(server, dashboard):
    dashboard.frame("hive_status_update")
    agent = fresh("agent")
    server.cli("agent", "add", agent)
    created = dashboard.frame("agent_created", lambda data: data["agent"]["id"] == agent)
    assert {"id", "name", "type", "capabilities", "created_at"} <= created["data"]["agent"].keys()


def test_sequences_rise_over_connections(server, dashboard):
    first = dashboard.frame("hive_status_update")["sequence"]
    again = Dashboard(server.hive)
    assert again.frame("hive_status_update")["sequence"] > first
    again.ws.close()


def test_text_that_is_not_json_is_told(dashboard):
    dashboard.ws.send("no json")
    assert dashboard.frame("error")["data"]["error"] == "Invalid message format"
    dashboard.ws.send(json.dumps({"action": "ping", "sequenceId": 3}))
    assert dashboard.frame("pong")["sequenceId"] == 3


def test_another_origin_is_refused(server):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(server.hive, origin="https://evil.example", timeout=PATIENCE)
    assert refused.value.status_code == 403
