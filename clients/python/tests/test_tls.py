"""websockets, websocket-client and curl over TLS, with a certificate that vouches for itself; and a new one meanwhile."""

import asyncio
import json
import ssl
import subprocess
import time

import pytest
import requests
from websocket import create_connection
from websockets.asyncio.client import connect

from harness import PATIENCE, EncryptedServer, fresh


@pytest.fixture(scope="module")
def server():
    running = EncryptedServer()
    yield running
    running.close()


def trusting(server):
    return ssl.create_default_context(cafile=server.data / "certificate.pem")


# The threads of `websockets.sync` read and write one TLS session at the same time, which Python's `ssl` does not bear: one
# connection in a hundred hangs, with any server. So these tests use its asyncio client.


async def hear(socket, wanted):
    """The next frame of a type."""
    async with asyncio.timeout(PATIENCE):
        while True:
            frame = json.loads(await socket.recv())
            if frame["type"] == wanted:
                return frame


async def pinged(socket):
    await socket.send(json.dumps({"id": "p", "type": "ping", "payload": {}}))
    return await hear(socket, "pong")


def test_what_is_long_comes_through_whole(server):
    async def converse(room):
        people = [await connect(f"{server.megabot}?user_id={fresh('person')}", ssl=trusting(server)) for _ in range(2)]
        for one in people:
            await one.send(json.dumps({"id": "j", "type": "session_join", "payload": {"session_id": room}}))
            assert (await hear(one, "session_joined"))["payload"]["session_id"] == room
        content = "long " * 1_500
        for number in range(9):
            say = {"session_id": room, "content": f"{number} {content}"}
            await people[0].send(json.dumps({"id": f"m{number}", "type": "chat_send", "payload": say}))
            assert (await hear(people[1], "chat_receive"))["payload"]["content"] == say["content"]
        for one in people:
            await one.close()

    asyncio.run(converse(server.room()))


def test_websocket_client_and_requests_trust_the_file(server):
    socket = create_connection(server.hive, timeout=PATIENCE, sslopt={"ca_certs": str(server.data / "certificate.pem")})
    assert json.loads(socket.recv())["type"] == "hive_status_update"
    socket.close()
    answer = requests.get(f"{server.http}/livez", verify=server.data / "certificate.pem", timeout=PATIENCE)
    assert answer.status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{server.http}/livez", timeout=PATIENCE)


def test_the_command_line_knows_its_own_server_and_no_other(server, tmp_path):
    assert server.cli("room", "list")
    named = ["--server", server.http, "--token", server.credentials["admin_token"], "--data", tmp_path]
    command = [server.binary, "room", "list", "--json", *named]
    stranger = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    assert stranger.returncode == 3 and "UnknownIssuer" in stranger.stderr, stranger.stderr
    told = subprocess.run([*command, "--ca", server.data / "certificate.pem"], capture_output=True, timeout=PATIENCE)
    assert told.returncode == 0, told.stderr


def test_a_new_certificate_leaves_live_connections_alone(server):
    async def shown():
        """Whether the certificate in the file is the one that the server shows."""
        try:
            async with connect(f"{server.megabot}?user_id={fresh('person')}", ssl=trusting(server)) as newcomer:
                await pinged(newcomer)
            return True
        except ssl.SSLError:
            return False

    async def stay():
        async with connect(f"{server.megabot}?user_id={fresh('person')}", ssl=trusting(server)) as live:
            await pinged(live)
            server.issue("second")
            deadline = time.monotonic() + PATIENCE
            while not await shown():
                assert time.monotonic() < deadline, "the new certificate is not shown"
                await asyncio.sleep(0.05)
            await pinged(live)

    asyncio.run(stay())


def test_what_is_wrong_is_said_before_the_start(server, tmp_path):
    def check(certificate, key):
        tls = f'{{ certificate = "{certificate}", key = "{key}" }}'
        listen = f'server.listen=[{{ address = "127.0.0.1:0", tls = {tls} }}]'
        command = [server.binary, "check-config", "--json", "--set", listen]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode, json.loads(done.stdout)

    mine = (server.data / "certificate.pem", server.data / "key.pem")
    assert check(*mine) == (0, {"ok": True, "problems": [], "warnings": []})
    code, said = check(tmp_path / "missing", tmp_path / "absent")
    assert code == 5 and len(said["problems"]) == 2, said
    server.issue("another", tmp_path)
    code, said = check(mine[0], tmp_path / "key.pem")
    assert code == 5 and "does not fit" in said["problems"][0], said
