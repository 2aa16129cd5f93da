// A Hive dashboard: prints the state of the server, and who comes, goes and what is wrong.
//
//   [HIVE_TOKEN=…] node hive-dashboard.mjs HOST PORT [--once]
//
// With --once it ends after the first new agent. Without a token only from the same machine.

import WebSocket from 'ws'

const [host, port] = process.argv.slice(2)
const once = process.argv.includes('--once')
const token = process.env.HIVE_TOKEN
const url = new URL(`ws://${host}:${port}/ws`)
if (token) url.searchParams.set('token', token)

const TRIES = 5
let tries = 0
/** Frames are numbered; after a reconnect one that was shown already is passed over. */
let newest = 0

const show = {
  hive_status_update: ({ status, metrics }) => `${status}: ${metrics.active_agents} of ${metrics.total_agents} agents active`,
  agent_created: ({ agent }) => `new agent ${agent.id} (${agent.name})`,
  agent_status_changed: data => `${data.agent_id}: ${data.old_status} -> ${data.new_status}`,
  agent_removed: data => `agent ${data.agent_id} is gone`,
  error: ({ error }) => `refused: ${error}`,
  system_alert: ({ title, message }) => `alert: ${title}: ${message}`,
  resource_alert: data => `alert: ${data.resource} at ${data.usage_percent.toFixed(1)} %, above ${data.threshold_percent} %`,
}

function connect() {
  const socket = new WebSocket(url)
  let finished = false
  socket.on('open', () => { tries = 0; console.log('connected') })
  socket.on('message', raw => {
    const { type, data, sequence } = JSON.parse(raw)
    if (sequence !== undefined && sequence <= newest) return
    newest = sequence ?? newest
    console.log(show[type]?.(data) ?? `${type}`)
    if (once && type === 'agent_created') {
      finished = true
      socket.close()
    }
  })
  socket.on('error', error => console.error(error.message))
  socket.on('close', code => {
    if (finished) return
    console.error(`closed with ${code}`)
    if (once || ++tries > TRIES) process.exitCode = 1
    else setTimeout(connect, Math.min(1_000 * 2 ** tries, 30_000))
  })
}

connect()
