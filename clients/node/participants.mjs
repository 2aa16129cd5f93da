// Node clients that take part in a conversation: one MXF agent per transport, an AIWM agent, a MegaBot person, a Hive page.
//
// argv[2] is JSON: {room, main, megabot, mxf: [auth, auth], aiwm: token, person: name}. On standard output come lines of
// JSON: {who, ready} once each is in the room, then {who, heard: {from, role, text, at}} and {who, saw: type, of}.
// A line of standard input, {who, say}, makes one of them speak; the end of standard input ends them all.

import readline from 'node:readline'

import { socketIo, webSocket } from './harness.mjs'

const { room, main, megabot, mxf, aiwm, person } = JSON.parse(process.argv[2])
const tell = line => process.stdout.write(`${JSON.stringify(line)}\n`)
const speakers = {}
const open = []

{
  const who = 'hive-node'
  const socket = await webSocket(`ws://127.0.0.1:${main}/ws`)
  socket.on('message', raw => {
    const { type, data } = JSON.parse(raw.toString())
    tell({ who, saw: type, of: data.agent?.id ?? data.agent_id ?? null })
  })
  open.push(socket)
  tell({ who, ready: null })
}

for (const [who, auth, transports] of [['mxf-websocket', mxf[0], ['websocket']], ['mxf-polling', mxf[1], ['polling']]]) {
  const socket = socketIo(`http://127.0.0.1:${main}`, { auth, transports })
  socket.on('message', m => tell({ who, heard: { from: m.from, text: m.content, at: m.timestamp } }))
  await socket.event('auth:success')
  speakers[who] = text => socket.ask('message:send', { channelId: room, content: text })
  open.push(socket)
  tell({ who, ready: auth.agentId })
}

{
  const who = 'aiwm-node'
  const socket = socketIo(`ws://127.0.0.1:${main}/dev/aiwm/chat`, { auth: { token: aiwm }, transports: ['websocket'] })
  socket.on('message:new', m => {
    if (m.conversationId === room) tell({ who, heard: { from: m.participantId, role: m.role, text: m.content, at: m.createdAt } })
  })
  const { data } = await socket.event('presence:update')
  const joined = await socket.ask('conversation:join', { conversationId: room })
  if (!joined.success) throw new Error(`${who}: ${JSON.stringify(joined)}`)
  speakers[who] = text => socket.ask('message:send', { conversationId: room, role: 'assistant', content: text })
  open.push(socket)
  tell({ who, ready: data.agentId })
}

{
  const who = 'megabot-node'
  const socket = await webSocket(`ws://127.0.0.1:${megabot}/ws?user_id=${person}`)
  socket.on('message', raw => {
    const { type, payload } = JSON.parse(raw.toString())
    if (type === 'chat_receive') tell({ who, heard: { from: payload.user_id ?? payload.agent_id, role: payload.sender, text: payload.content, at: payload.timestamp } })
  })
  await socket.frame('connection_established')
  socket.tell({ id: 'join', type: 'session_join', payload: { session_id: room } })
  await socket.frame('session_joined')
  speakers[who] = text => socket.tell({ id: `say ${text}`, type: 'chat_send', payload: { session_id: room, content: text } })
  open.push(socket)
  tell({ who, ready: person })
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { who, say } = JSON.parse(line)
  await speakers[who](say)
}
for (const socket of open) socket.close()
