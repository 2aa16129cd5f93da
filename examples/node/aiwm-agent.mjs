// An AIWM agent: gets a token for its secret, connects, and answers what users say in its conversation.
//
//   AIWM_AGENT_ID=… AIWM_AGENT_SECRET=… node aiwm-agent.mjs HOST PORT [--once]
//
// It prints the id of its conversation, for users to join. With --once it ends after its first answer.

import { io } from 'socket.io-client'

const [host, port] = process.argv.slice(2)
const once = process.argv.includes('--once')
const { AIWM_AGENT_ID: agentId, AIWM_AGENT_SECRET: secret } = process.env
const base = `http://${host}:${port}/dev/aiwm`

const response = await fetch(`${base}/agents/${agentId}/connect`, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ secret }),
})
const login = await response.json()
if (!response.ok) {
  console.error(`no token: ${login.message}`)
  process.exit(1)
}

const socket = io(`${base}/chat`, { auth: { token: login.accessToken }, transports: ['websocket'] })
let conversationId

socket.on('presence:update', presence => {
  if (presence.type !== 'agent' || presence.agentId !== agentId) return
  conversationId = presence.conversationId
  console.log(`conversation ${conversationId}`)
})

socket.on('message:new', async message => {
  if (message.participantId === agentId || message.role !== 'user') return
  console.log(`${message.participantId}: ${message.content}`)
  try {
    socket.emit('message:typing', { conversationId, isTyping: true })
    const answer = { conversationId, role: 'assistant', content: answerTo(message.content) }
    const ack = await socket.emitWithAck('message:send', answer)
    await socket.emitWithAck('message:typing', { conversationId, isTyping: false })
    console.log(ack.success ? `delivered ${ack.message._id}` : `not delivered: ${ack.error}`)
    if (!once) return
    process.exitCode = ack.success ? 0 : 1
    socket.disconnect()
  } catch (error) {
    // The connection broke before the answer was acknowledged.
    console.error(error.message)
  }
})

socket.on('message:error', ({ error }) => console.error(`refused: ${error}`))
socket.on('connect_error', error => {
  console.error(error.message)
  // A refused token stays refused; a server that is away may come back, and the library tries again by itself.
  if (once || !socket.active) {
    process.exitCode = 1
    socket.disconnect()
  }
})

/** What this agent has to say: a model would be asked here. */
function answerTo(content) {
  return `You said: ${content}`
}
