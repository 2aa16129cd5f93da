// A MegaBot chat: enters a session, says one thing and prints what others say there.
//
//   MEGABOT_USERNAME=… MEGABOT_PASSWORD=… node megabot-chat.mjs HOST PORT SESSION [TEXT] [--once]
//
// Without name and password it comes as a guest, which is possible only from the same machine.
// With --once it ends after the first message of somebody else.

import WebSocket from 'ws'

const [host, port, session_id, text = 'Hello'] = process.argv.slice(2).filter(word => word !== '--once')
const once = process.argv.includes('--once')
const { MEGABOT_USERNAME: username, MEGABOT_PASSWORD: password } = process.env

async function login() {
  const response = await fetch(`http://${host}:${port}/api/auth/login`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ username, password }),
  })
  const answer = await response.json()
  if (!response.ok) throw new Error(`no login: ${answer.error}`)
  return { Authorization: `Bearer ${answer.token}` }
}

const headers = username ? await login() : {}
const socket = new WebSocket(`ws://${host}:${port}/ws`, { headers })
let id = 0
let finished = false
const tell = (type, payload) => socket.send(JSON.stringify({ id: `example-${++id}`, type, payload, timestamp: Date.now() }))

const on = {
  connection_established: ({ user_id }) => {
    console.log(`connected as ${user_id}`)
    tell('session_join', { session_id })
  },
  session_joined: ({ participants }) => {
    console.log(`in ${session_id} with ${participants.length}`)
    tell('chat_send', { session_id, content: text })
  },
  participant_joined: ({ user_id }) => console.log(`${user_id} came`),
  participant_left: ({ user_id }) => console.log(`${user_id} went`),
  chat_receive: message => {
    console.log(`${message.user_id ?? message.agent_id ?? message.sender}: ${message.content}`)
    if (!once) return
    finished = true
    socket.close()
  },
  chat_stream: ({ chunk }) => process.stdout.write(chunk),
  error: ({ message }) => console.error(message),
  connection_error: ({ message }) => console.error(message),
}

socket.on('message', raw => {
  const { type, payload } = JSON.parse(raw)
  on[type]?.(payload)
})
socket.on('error', error => console.error(error.message))
socket.on('close', code => {
  if (finished) return
  console.error(`closed with ${code}`)
  process.exitCode = 1
})
