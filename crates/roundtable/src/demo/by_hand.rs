//! What a person pastes to join the demo's server, with its real addresses and keys.

use std::path::Path;

use super::{Keys, ROOM, Stage};

/// The lines for each dialect.
pub fn lines(stage: &Stage, keys: &Keys, data: &Path) -> String {
    let Stage { agents, people, nodes, credentials } = stage;
    let Keys { key_id, key_secret, scribe_secret } = keys;
    let (domain_key, data) = (&credentials.domain_key, data.display());
    format!(
        r##"
Join by hand, each in a terminal of its own. What is said in one is heard in the others.

# MegaBot, a person (npx comes with Node). Then paste the two frames.
npx --yes wscat -c 'ws://{people}/ws?user_id=bob'
{{"id":"1","type":"session_join","payload":{{"session_id":"{ROOM}"}}}}
{{"id":"2","type":"chat_send","payload":{{"session_id":"{ROOM}","content":"Hello from bob"}}}}

# MXF, the agent scout, in Node; in an empty folder.
npm install --silent socket.io-client
node -e '
  const socket = require("socket.io-client").io("http://{agents}", {{ auth: {{ domainKey: "{domain_key}",
    agentId: "scout", keyId: "{key_id}", secretKey: "{key_secret}" }} }})
  socket.on("message", m => console.log(m.from + ": " + m.content))
  socket.on("auth:success", () => socket.emit("message:send", {{ channelId: "{ROOM}", content: "Hello from scout" }}))'

# AIWM, the agent scribe, in Python.
python3 -m venv venv && ./venv/bin/pip install --quiet 'python-socketio[client]'
./venv/bin/python -c '
import socketio, requests
token = requests.post("http://{agents}/dev/aiwm/agents/scribe/connect", json={{"secret": "{scribe_secret}"}}).json()["accessToken"]
socket = socketio.Client()
socket.on("message:new", lambda m: print(m["participantId"] + ": " + m["content"], flush=True), namespace="/dev/aiwm/chat")
socket.connect("http://{agents}", auth={{"token": token}}, namespaces=["/dev/aiwm/chat"])
socket.call("conversation:join", {{"conversationId": "{ROOM}"}}, namespace="/dev/aiwm/chat")
socket.emit("message:send", {{"role": "assistant", "content": "Hello from scribe"}}, namespace="/dev/aiwm/chat")
socket.wait()'

# Hive, a dashboard.
npx --yes wscat -c ws://{agents}/ws

# Open-A.G.I, a subscriber. Then paste the frame.
TOKEN=$(curl -s -X POST http://{nodes}/api/v1/auth/token -H 'Content-Type: application/json' \
  -d '{{"node_id":"visitor","public_key":"a2V5"}}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
npx --yes wscat -c "ws://{nodes}/api/v1/ws?token=$TOKEN"
{{"type":"subscribe","channel":"network_events"}}

# The operator: what was said, and a word of your own.
{program} --data {data} room history {ROOM}
{program} --data {data} send {ROOM} 'Welcome'

The server stays up until Ctrl-C; its folder goes with it."##,
        program =
            std::env::current_exe().map_or_else(|_| "roundtable".into(), |path| path.display().to_string()),
    )
}
