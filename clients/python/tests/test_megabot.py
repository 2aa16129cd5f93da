"""MegaBot with websockets, below version 14, so that the document's `extra_headers` works as printed."""

import asyncio
import json

import requests
import websockets

from harness import PATIENCE, fresh
from participants import frame

async def until(ws, kind, wanted=lambda payload: True):
    """The payload of the next frame of this type that is wanted."""
    async with asyncio.timeout(PATIENCE):
        while True:
            message = json.loads(await ws.recv())
            if message["type"] == kind and wanted(message["payload"]):
                return message["payload"]


def account(server):
    name = fresh("user")
    return name, server.cli("user", "add", name)["password"]


def test_the_sample_client_connects_with_a_token(server):
    name, password = account(server)
    login = f"http://127.0.0.1:{server.megabot_port}/api/auth/login"
    answer = requests.post(login, json={"username": name, "password": password}, timeout=PATIENCE)
    token = answer.json()["token"]

    async def connect():
        headers = {"Authorization": f"Bearer {token}"}
        async with websockets.connect(server.megabot, extra_headers=headers) as ws:
            return await until(ws, "connection_established")

    payload = asyncio.run(connect())
    assert payload["verified"] is True
    assert payload["session_id"].startswith("sess_")


def test_a_bad_token_is_told_and_the_connection_closed(server):
    async def connect():
        async with websockets.connect(f"{server.megabot}?token=bad") as ws:
            payload = await until(ws, "connection_error")
            await ws.wait_closed()
            return payload, ws.close_code

    assert asyncio.run(connect()) == (
        {"error": "authentication_failed", "message": "Invalid token provided", "code": 401},
        1008,
    )


def test_guests_converse(server):
    session, ada, bob = fresh("session"), fresh("ada"), fresh("bob")

    async def converse():
        async with websockets.connect(f"{server.megabot}?user_id={ada}") as first:
            await until(first, "connection_established")
            await first.send(frame("session_join", {"session_id": session}))
            await until(first, "session_joined")
            async with websockets.connect(f"{server.megabot}?user_id={bob}") as second:
                await second.send(frame("session_join", {"session_id": session}))
                await until(second, "session_joined")
                await until(first, "participant_joined", lambda payload: payload["user_id"] == bob)
                await second.send(frame("chat_send", {"session_id": session, "content": "Hello"}))
                return await until(first, "chat_receive", lambda payload: payload["sender"] == "user")

    heard = asyncio.run(converse())
    assert (heard["content"], heard["user_id"], heard["session_id"]) == ("Hello", bob, session)
