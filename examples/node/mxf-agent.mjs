// An MXF agent: logs in as a user, registers an agent, says one thing in its channel and prints what is said there.
//
//   MXF_DOMAIN_KEY=… MXF_USERNAME=… MXF_PASSWORD=… node mxf-agent.mjs HOST PORT CHANNEL [--once]
//
// With --once it ends when its message is acknowledged; without, it stays and comes back after every break.

import { io } from 'socket.io-client'

const [host, port, channelId] = process.argv.slice(2)
const once = process.argv.includes('--once')
const { MXF_DOMAIN_KEY: domainKey, MXF_USERNAME: username, MXF_PASSWORD: password } = process.env
const agentId = `${username}-example`
const greeting = `${agentId} is here`

const socket = io(`http://${host}:${port}`, { auth: { domainKey, username, password } })

socket.on('auth:success', async () => {
  try {
    // Also after a reconnect: the agent is registered for this connection.
    const registered = await socket.emitWithAck('agent:register', {
      agentId, name: 'Example agent', channelId, capabilities: ['greeting'], metadata: { version: '1.0.0' },
    })
    if (!registered.success) return end(registered.error)
    console.log(`registered ${agentId} in ${channelId}`)
    const sent = await socket.emitWithAck('message:send', { channelId, content: greeting })
    if (!sent.success) return end(sent.error)
    // An acknowledgement comes after the message itself.
    if (once) end()
  } catch (error) {
    // The connection broke before the answer; the next one begins again.
    console.error(error.message)
  }
})

socket.on('message', ({ from, content }) => console.log(`${from}: ${content}`))

socket.on('auth:error', ({ error }) => end(error))
socket.on('error', ({ code, message }) => console.error(`${code}: ${message}`))
socket.on('connect_error', error => {
  console.error(error.message)
  if (once) end(error.message)
})
socket.on('disconnect', reason => {
  console.log(`disconnected: ${reason}`)
  // The library comes back by itself, except when the server said goodbye.
  if (reason === 'io server disconnect') setTimeout(() => socket.connect(), 5_000)
})

function end(error) {
  if (error) console.error(error)
  process.exitCode = error ? 1 : 0
  socket.removeAllListeners()
  socket.disconnect()
}
