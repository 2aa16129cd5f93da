// AIWM with socket.io-client and, for its plain endpoint, ws.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { Server, Wire, fresh, refusedUpgrade, socketIo, webSocket } from '../harness.mjs'

let server
before(async () => { server = await Server.start() })
after(() => server.close())

const chat = (token, options = {}) => socketIo(`${server.http}/dev/aiwm/chat`, { auth: { token }, ...options })

async function user(name = fresh('user')) {
  const { password } = await server.cli('user', 'add', name)
  const login = await server.post('/dev/aiwm/auth/login', { username: name, password })
  assert.equal(login.status, 200, JSON.stringify(login.body))
  return login.body.accessToken
}

for (const [way, options] of Object.entries({
  websocket: { transports: ['websocket'] }, polling: { transports: ['polling'] }, upgrade: {},
})) {
  test(`an agent may speak at once after connecting over ${way}`, async t => {
    const agentId = fresh('agent')
    const socket = chat(await server.aiwmToken(agentId), options)
    t.after(() => socket.close())
    const acked = new Promise(done => socket.on('connect', () =>
      socket.emit('message:send', { role: 'assistant', content: 'Hello', usage: { promptTokens: 1, completionTokens: 2, totalTokens: 3 } }, done)))
    const ack = await acked
    assert.equal(ack.success, true, JSON.stringify(ack))
    const told = (await socket.event('message:new')).data
    const sent = (await socket.event('message:sent')).data
    assert.deepEqual([told.role, told.content, told.participantId, told.type, told.status], ['assistant', 'Hello', agentId, 'text', 'sent'])
    assert.deepEqual(told.attachments, [])
    assert.deepEqual(told.usage, { promptTokens: 1, completionTokens: 2, totalTokens: 3 })
    assert.match(told._id, /^[0-9a-f]{24}$/)
    assert.match(told.conversationId, /^[0-9a-f]{24}$/)
    assert.deepEqual([sent.success, sent.messageId, ack.message._id], [true, told._id, told._id])
    const order = socket.inbox.items.map(item => item.name).filter(name => name.startsWith('message:'))
    assert.deepEqual(order, ['message:new', 'message:sent'])
    const presence = (await socket.event('presence:update')).data
    assert.deepEqual([presence.type, presence.agentId, presence.userId, presence.conversationId, presence.status],
      ['agent', agentId, null, told.conversationId, 'online'])
  })
}

test('the token is found in auth, query and header, and the conversation is the same', async t => {
  const token = await server.aiwmToken(fresh('agent'))
  const url = `${server.http}/dev/aiwm/chat`
  const ways = [
    chat(token),
    socketIo(`${url}?token=${token}`),
    socketIo(url, { extraHeaders: { Authorization: `Bearer ${token}` } }),
  ]
  t.after(() => ways.forEach(socket => socket.close()))
  const conversations = await Promise.all(ways.map(async socket => (await socket.event('presence:update')).data.conversationId))
  assert.equal(new Set(conversations).size, 1)
})

test('an agent and a user converse', async t => {
  const agentId = fresh('agent')
  const agent = chat(await server.aiwmToken(agentId))
  const { conversationId } = (await agent.event('presence:update')).data
  const person = chat(await user())
  t.after(() => { agent.close(); person.close() })
  await person.event('connect')
  assert.deepEqual(await person.ask('conversation:join', { conversationId }), { success: true, conversationId })

  agent.on('message:new', message => {
    if (message.participantId === agentId || message.role !== 'user') return
    agent.emit('message:send', { conversationId, role: 'assistant', content: `Echo: ${message.content}` })
  })
  await person.ask('message:send', { role: 'user', content: 'Is it raining?' })
  const answer = (await person.event('message:new', message => message.role === 'assistant')).data
  assert.deepEqual([answer.content, answer.participantId], ['Echo: Is it raining?', agentId])
  const order = await Promise.all([agent, person].map(async socket =>
    (await socket.inbox.atLeast(2, 'message:new', item => item.name === 'message:new')).map(item => item.data._id)))
  assert.deepEqual(order[0], order[1])
})

test('a conversation is there again after reconnecting, and what was missed comes once', async t => {
  const agentId = fresh('agent')
  const token = await server.aiwmToken(agentId)
  const agent = chat(token)
  const { conversationId } = (await agent.event('presence:update')).data
  await agent.ask('message:send', { role: 'assistant', content: 'before' })
  const person = chat(await user())
  t.after(() => person.close())
  await person.ask('conversation:join', { conversationId })
  agent.close()
  await person.event('presence:update', presence => presence.agentId === agentId && presence.status === 'offline')
  const sent = await person.ask('message:send', { conversationId, role: 'user', content: 'while you were away' })
  assert.equal(sent.success, true, JSON.stringify(sent))

  const again = chat(token)
  t.after(() => again.close())
  assert.equal((await again.event('presence:update')).data.conversationId, conversationId)
  await again.event('message:new', message => message.content === 'while you were away')
  await again.ask('message:send', { role: 'assistant', content: 'end' })
  await again.event('message:new', message => message.content === 'end')
  const heard = again.inbox.all(item => item.name === 'message:new').map(item => item.data.content)
  assert.deepEqual(heard, ['while you were away', 'end'])
})

describe('refusals', () => {
  const refused = async token => {
    const socket = chat(token, { transports: ['websocket'] })
    const { data } = await socket.event('connect_error')
    assert.ok(!socket.inbox.items.some(item => item.name === 'connect'))
    socket.close()
    return data
  }

  test('of a missing and a bad token, before the connection', async () => {
    assert.deepEqual(await refused(undefined), { message: 'Missing token (401)', code: 'MISSING_TOKEN', status: 401 })
    assert.deepEqual(await refused('abc.def.ghi'), { message: 'Invalid token (401)', code: 'INVALID_TOKEN', status: 401 })
    const token = await server.aiwmToken(fresh('agent'))
    assert.equal((await refused(`${token}x`)).code, 'INVALID_TOKEN')
  })

  test('a second CONNECT with a good token works on the same socket', async t => {
    const socket = chat('bad', { transports: ['websocket'] })
    t.after(() => socket.close())
    const { error } = await socket.event('connect_error')
    assert.ok(error.message.includes('token'))
    socket.auth.token = await server.aiwmToken(fresh('agent'))
    socket.connect()
    await socket.event('connect')
  })

  test('of messages that are wrong; nobody hears them', async t => {
    const socket = chat(await server.aiwmToken(fresh('agent')))
    t.after(() => socket.close())
    for (const [message, error] of [
      [{ role: 'agent', content: 'x' }, 'Validation error: role must be one of user, assistant, system, tool'],
      [{ role: 'assistant' }, 'Validation error: content is required'],
      [{ role: 'assistant', content: '' }, 'Validation error: content is required'],
    ]) {
      assert.deepEqual(await socket.ask('message:send', message), { success: false, error })
      await socket.event('message:error', told => told.success === false && told.error === error)
    }
    const foreign = await socket.ask('message:send', { role: 'assistant', content: 'x', conversationId: 'f'.repeat(24) })
    assert.match(foreign.error, /^Permission denied/)
    const ack = await socket.ask('message:send', { role: 'assistant', content: 'good' })
    await socket.event('message:new', message => message._id === ack.message._id)
    assert.equal(socket.inbox.all(item => item.name === 'message:new').length, 1)
  })

  test('of secrets, over REST', async () => {
    const agentId = fresh('agent')
    await server.cli('agent', 'add', agentId)
    const connect = (id, body) => server.post(`/dev/aiwm/agents/${id}/connect`, body)
    const wrong = await connect(agentId, { secret: 'wrong' })
    assert.deepEqual([wrong.status, wrong.body.message], [401, 'Invalid credentials'])
    assert.equal((await connect(agentId, {})).status, 400)
    const unknown = await connect('nobody', { secret: 'x' })
    assert.deepEqual([unknown.status, unknown.body.message], [401, 'Invalid credentials'], 'nobody learns who exists')
  })
})

test('the plain endpoint speaks event and data', async t => {
  const token = await server.aiwmToken(fresh('agent'))
  const url = `ws://127.0.0.1:${server.ports.main}/dev/aiwm/chat`
  assert.equal(await refusedUpgrade(`${url}?token=bad`), 401)
  const socket = await webSocket(`${url}?token=${token}`)
  t.after(() => socket.close())
  const event = name => socket.inbox.first(name, item => item.event === name)
  socket.tell({ event: 'message:send', id: 7, data: { role: 'assistant', content: 'plain' } })
  const told = (await event('message:new')).data
  const ack = await event('ack')
  assert.deepEqual([told.content, ack.id, ack.data.success, ack.data.message._id], ['plain', 7, true, told._id])
  socket.tell('no json')
  assert.equal((await event('message:error')).data.success, false)
  assert.equal(socket.readyState, socket.OPEN)
})

test('twenty first connections at once make one conversation', async t => {
  const agentId = fresh('agent')
  const token = await server.aiwmToken(agentId)
  const ways = [['websocket'], ['polling'], ['polling', 'websocket']]
  const sockets = Array.from({ length: 20 }, (_, n) => chat(token, { transports: ways[n % ways.length] }))
  t.after(() => sockets.forEach(socket => socket.close()))
  const told = await Promise.all(sockets.map(async socket => (await socket.event('presence:update')).data))
  assert.equal(new Set(told.map(presence => presence.conversationId)).size, 1)
  const { conversationId } = told[0]
  // Each of them may speak there, and all hear all of it once.
  await Promise.all(sockets.map((socket, n) => socket.ask('message:send', { role: 'assistant', content: `${n}` })))
  for (const socket of sockets) {
    const heard = await socket.inbox.atLeast(20, 'message:new', item => item.name === 'message:new')
    assert.equal(new Set(heard.map(item => item.data._id)).size, 20)
    assert.ok(heard.every(item => item.data.conversationId === conversationId))
  }
  const list = await fetch(`${server.http}/dev/aiwm/conversations/agent/${agentId}`, { headers: { Authorization: `Bearer ${token}` } })
  assert.deepEqual((await list.json()).map(conversation => conversation._id), [conversationId])
})

test('every tenth message refreshes the summary of a conversation', async t => {
  const token = await server.aiwmToken(fresh('agent'))
  const agent = chat(token)
  t.after(() => agent.close())
  const { conversationId } = (await agent.event('presence:update')).data
  const summary = async () => {
    const answer = await fetch(`${server.http}/dev/aiwm/conversations/${conversationId}`, { headers: { Authorization: `Bearer ${token}` } })
    return (await answer.json()).contextSummary
  }
  const say = text => agent.ask('message:send', { role: 'assistant', content: text })
  for (let n = 1; n < 10; n++) await say(`Point ${n}. And more.`)
  assert.equal(await summary(), '')
  await say('Point 10.')
  const deadline = Date.now() + 10_000
  while (await summary() === '' && Date.now() < deadline) await new Promise(done => setTimeout(done, 20))
  const text = await summary()
  assert.match(text, /^10 messages\. The newest:\n.*: Point 1\.\n/)
  assert.match(text, /: Point 10\.$/)
})

for (const [way, transports] of Object.entries({ websocket: ['websocket'], polling: ['polling'], upgrade: ['polling', 'websocket'] })) {
  test(`what was written into a connection that is dead and does not look it comes again, over ${way}`, async t => {
    const agentId = fresh('agent')
    const token = await server.aiwmToken(agentId)
    const wire = await Wire.to(server.ports.main)
    const agent = socketIo(`http://127.0.0.1:${wire.port}/dev/aiwm/chat`, { auth: { token }, transports })
    const { conversationId } = (await agent.event('presence:update')).data
    const person = chat(await user())
    t.after(() => { agent.close(); person.close(); wire.close() })
    await person.event('connect')
    await person.ask('conversation:join', { conversationId })
    const say = text => person.ask('message:send', { role: 'user', content: text })
    await say('heard')
    await agent.event('message:new', message => message.content === 'heard')
    // Time for the proof, by pong or by the next poll.
    await new Promise(done => setTimeout(done, 1_000))

    wire.silence()
    for (const text of ['lost 1', 'lost 2', 'lost 3']) await say(text)
    const back = chat(token)
    t.after(() => back.close())
    const missed = await back.inbox.atLeast(3, 'message:new', item => item.name === 'message:new')
    assert.deepEqual(missed.map(item => item.data.content), ['lost 1', 'lost 2', 'lost 3'])
    await say('live')
    await back.event('message:new', message => message.content === 'live')
    assert.deepEqual(back.inbox.all(item => item.name === 'message:new').map(item => item.data.content), ['lost 1', 'lost 2', 'lost 3', 'live'])
    assert.deepEqual(agent.inbox.all(item => item.name === 'message:new').map(item => item.data.content), ['heard'])
  })
}
