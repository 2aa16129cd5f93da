// An Open-A.G.I subscriber: gets a token for a node, subscribes to network events and prints them.
//
//   node open-agi-subscriber.mjs HOST PORT NODE_ID [--once]
//   OPEN_AGI_TOKEN=… node open-agi-subscriber.mjs HOST PORT [--once]
//
// With --once it unsubscribes and ends after the first event.

import WebSocket from 'ws'

const [host, port, nodeId] = process.argv.slice(2).filter(word => word !== '--once')
const once = process.argv.includes('--once')
const CHANNEL = 'network_events'

async function tokenOf(id) {
  const response = await fetch(`http://${host}:${port}/api/v1/auth/token`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ node_id: id, public_key: 'ZXhhbXBsZQ==' }),
  })
  const answer = await response.json()
  if (!response.ok) throw new Error(`no token: ${answer.error.message}`)
  return answer.token
}

const token = process.env.OPEN_AGI_TOKEN ?? await tokenOf(nodeId)
const socket = new WebSocket(`ws://${host}:${port}/api/v1/ws?token=${token}`)
const tell = frame => socket.send(JSON.stringify(frame))
let finished = false

socket.on('open', () => tell({ type: 'subscribe', channel: CHANNEL }))
socket.on('message', raw => {
  const frame = JSON.parse(raw)
  switch (frame.type) {
    case 'subscribed':
      console.log(`subscribed to ${frame.data.channels.join(', ')}`)
      break
    case 'network_event':
      console.log(`${frame.event} ${frame.data.node_id ?? ''}`)
      if (once) tell({ type: 'unsubscribe', channel: CHANNEL })
      break
    case 'unsubscribed':
      finished = true
      socket.close()
      break
    case 'error':
      console.error(`${frame.code}: ${frame.message}`)
      break
  }
})
socket.on('error', error => console.error(error.message))
socket.on('close', (code, reason) => {
  if (finished) return
  console.error(`closed with ${code} ${reason}`)
  process.exitCode = 1
})
