// A MegaBot chat that comes back: lines from its input go out in batches, and after a break it resumes its session and
// prints what it missed.
//
//   [MEGABOT_USERNAME=… MEGABOT_PASSWORD=…] node megabot-resilient.mjs HOST PORT SESSION
//
// Without name and password it comes as a guest, which is possible only from the same machine. With --once it ends after the
// first message that comes after it resumed.

import readline from 'node:readline'

import WebSocket from 'ws'

const [host, port, session_id] = process.argv.slice(2)
const once = process.argv.includes('--once')
const { MEGABOT_USERNAME: username, MEGABOT_PASSWORD: password } = process.env

const RETRIES = 5
const RETRY_MS = 1_000
const BATCH = 10
const BATCH_MS = 100

const query = new URLSearchParams()
if (username) {
  const response = await fetch(`http://${host}:${port}/api/auth/login`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ username, password }),
  })
  const answer = await response.json()
  if (!response.ok) {
    console.error(`no login: ${answer.error}`)
    process.exit(1)
  }
  query.set('token', answer.token)
}

let socket
let tries = 0
let resumed = false
let frameId = 0
const envelope = (type, payload) => ({ id: `example-${++frameId}`, type, payload, timestamp: Date.now() })

/** Messages wait for company, but not for long; while there is no connection they wait for that. */
let batch = []
let timer
function say(content) {
  batch.push(envelope('chat_send', { session_id, content }))
  if (batch.length >= BATCH) flush()
  else timer ??= setTimeout(flush, BATCH_MS)
}
function flush() {
  clearTimeout(timer)
  timer = undefined
  if (batch.length === 0 || socket.readyState !== WebSocket.OPEN) return
  const messages = batch.splice(0, BATCH)
  socket.send(JSON.stringify(messages.length === 1 ? messages[0] : envelope('batch', { messages })))
  if (batch.length > 0) timer = setTimeout(flush, BATCH_MS)
}

const on = {
  connection_established: payload => {
    tries = 0
    resumed = payload.resumed
    console.log(`${resumed ? 'resumed' : 'connected'} as ${payload.user_id}`)
    // What the next connection comes back to.
    query.set('session_id', payload.session_id)
    query.set('user_id', payload.user_id)
    if (!resumed) socket.send(JSON.stringify(envelope('session_join', { session_id })))
    flush()
  },
  session_joined: ({ participants }) => console.log(`in ${session_id} with ${participants.length}`),
  chat_receive: message => {
    console.log(`${message.user_id ?? message.agent_id ?? message.sender}: ${message.content}`)
    if (once && resumed) socket.close()
  },
  error: ({ message }) => console.error(message),
  connection_error: ({ message }) => console.error(message),
}

function connect() {
  socket = new WebSocket(`ws://${host}:${port}/ws?${query}`)
  socket.on('message', raw => {
    const { type, payload } = JSON.parse(raw)
    on[type]?.(payload)
  })
  socket.on('error', error => console.error(error.message))
  // Without a close frame, which the library shows as 1006, the connection broke; with one, somebody wanted it.
  socket.on('close', (code, reason) => {
    if (code !== 1006) {
      if (!once || !resumed) console.error(`closed with ${code} ${reason}`)
      process.exit(once && resumed ? 0 : 1)
    }
    if (++tries > RETRIES) {
      console.error('the server does not come back')
      process.exit(1)
    }
    console.log(`reconnecting (${tries}/${RETRIES})`)
    setTimeout(connect, RETRY_MS * tries)
  })
}

connect()
readline.createInterface({ input: process.stdin }).on('line', say)
