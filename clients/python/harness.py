"""What the tests of real Python clients share: a server of their own, and an inbox per client.

Every test module starts its own server with data in a temporary folder, on ports that were free, and ends exactly that
process.
"""

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BINARY = TOP / os.environ.get("ROUNDTABLE_BIN", "target/debug/roundtable")
# How long anything may take before a test gives up, in seconds: a busy build machine is slow.
PATIENCE = 10
# What a bare `/ws` means on each listener.
MEANINGS = ["hive", "megabot", "auto"]


class Server:
    """One running `roundtable serve`, with what a person would read from its data directory."""

    def __init__(self):
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="roundtable-python-"))
        self.log = tempfile.TemporaryFile()
        self.binary = BINARY
        command = [BINARY, "serve", "--data", self.data, *self.listening()]
        # Tests of one server fail to log in on purpose, all from one address.
        command += ["--set", "security.failed_logins=off"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        place = self._place()
        self.ports = [int(listener["address"].rpartition(":")[2]) for listener in place["listeners"]]
        self.main, self.megabot_port, self.open_agi_port = self.ports
        self.http = f"http://127.0.0.1:{self.main}"
        self.hive = f"ws://127.0.0.1:{self.main}/ws"
        self.megabot = f"ws://127.0.0.1:{self.megabot_port}/ws"
        self.open_agi = f"ws://127.0.0.1:{self.open_agi_port}/api/v1/ws"
        self.credentials = json.loads((self.data / "credentials.json").read_text())

    def listening(self):
        """The arguments that say where it listens."""
        return [word for bare_ws in MEANINGS for word in ("--listen", f"127.0.0.1:0={bare_ws}")]

    def _place(self):
        """Where the process listens, once it does."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return json.loads((self.data / "server.json").read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                if self.process.poll() is not None:
                    raise AssertionError(f"the server ended at once:\n{self.said()}") from None
                if time.monotonic() > deadline:
                    raise AssertionError(f"the server does not serve:\n{self.said()}") from None
            time.sleep(0.02)

    def said(self):
        """The end of what the process printed."""
        self.log.seek(0)
        return self.log.read()[-20_000:].decode(errors="replace")

    def close(self):
        """Ends this process, and no other, and removes its data."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self.log.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def cli(self, *words):
        """Runs the command line against this server; gives what it prints as JSON."""
        command = [BINARY, *words, "--json", "--data", self.data]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return json.loads(done.stdout)

    def room(self):
        """A new room."""
        name = fresh("room")
        self.cli("room", "add", name)
        return name

    def channel_key(self, agent, room):
        """A new agent with a key for one room: what an MXF agent socket sends as `auth`."""
        self.cli("agent", "add", agent)
        key = self.cli("key", "add", "--agent", agent, "--room", room)
        return {
            "domainKey": self.credentials["domain_key"],
            "agentId": agent,
            "keyId": key["key_id"],
            "secretKey": key["secret"],
        }


class EncryptedServer(Server):
    """A server whose listeners all speak TLS, with certificates that vouch for themselves."""

    def __init__(self):
        super().__init__()
        self.http = self.http.replace("http:", "https:")
        self.hive, self.megabot, self.open_agi = (url.replace("ws:", "wss:") for url in [self.hive, self.megabot, self.open_agi])

    def listening(self):
        self.issue("first")
        tls = f'{{ certificate = "{self.data}/certificate.pem", key = "{self.data}/key.pem" }}'
        all_of_them = [f'{{ address = "127.0.0.1:0", bare_ws = "{bare_ws}", tls = {tls} }}' for bare_ws in MEANINGS]
        return ["--set", f"server.listen=[{', '.join(all_of_them)}]"]

    def issue(self, name, folder=None):
        """Makes a certificate for this machine and its key, in the data directory or another folder."""
        folder = folder or self.data
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
        names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
        subprocess.run([*command, *names, *files], check=True, capture_output=True, timeout=PATIENCE)


class Inbox:
    """Everything a client was told, in order; a test waits for what it expects or fails with what came instead."""

    def __init__(self):
        self.items = []
        self.changed = threading.Condition()

    def put(self, item):
        with self.changed:
            self.items.append(item)
            self.changed.notify_all()

    def all(self, wanted):
        with self.changed:
            return [item for item in self.items if wanted(item)]

    def at_least(self, count, what, wanted):
        """At least so many items that are wanted."""
        with self.changed:
            if not self.changed.wait_for(lambda: sum(map(bool, map(wanted, self.items))) >= count, PATIENCE):
                raise AssertionError(f"waited for {count} x {what}; the newest of {len(self.items)}: {self.items[-12:]}")
            return [item for item in self.items if wanted(item)]

    def first(self, what, wanted=lambda item: True):
        """The first item that is wanted, whether it came already or comes in time."""
        return self.at_least(1, what, wanted)[0]


def curl(*words):
    """What curl gets: (status, headers as text, body as text)."""
    command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE), "--dump-header", "-", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE + 5)
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition("\n\n") if "\r\n" not in done.stdout else done.stdout.partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def curl_json(url, body, *words):
    """POSTs JSON with curl: (status, headers as text, answer)."""
    status, head, text = curl("--request", "POST", "--header", "Content-Type: application/json", "--data", json.dumps(body), *words, url)
    return status, head, json.loads(text)


_numbers = itertools.count(1)


def fresh(stem):
    """A name that no other test of this run uses."""
    return f"{stem}-{os.getpid()}-{next(_numbers)}"
