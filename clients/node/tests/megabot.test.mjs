// MegaBot with Node's ws.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Server, fresh, refusedUpgrade, webSocket } from '../harness.mjs'

let server
before(async () => { server = await Server.start() })
after(() => server.close())

async function connect(t, query = '', options = {}) {
  const socket = await webSocket(`${server.megabot}${query}`, options)
  t.after(() => socket.terminate())
  return socket
}

async function account() {
  const username = fresh('user')
  const { password } = await server.cli('user', 'add', username)
  return { username, password }
}

const login = body => server.post('/api/auth/login', body, server.ports.megabot)
let id = 0
const frame = (type, payload) => ({ id: `f${++id}`, type, payload })

test('a guest is welcomed under the name it asks for', async t => {
  const name = fresh('ada')
  const socket = await connect(t, `?user_id=${name}&platform=desktop`)
  const first = await socket.inbox.first('frame', () => true)
  assert.equal(first.type, 'connection_established')
  assert.deepEqual([first.payload.user_id, first.payload.verified, first.payload.resumed], [name, false, false])
  assert.match(first.payload.session_id, /^sess_.{20,}/)
  for (const capability of ['chat', 'realtime', 'streaming']) assert.ok(first.payload.capabilities.includes(capability))
  assert.ok(Number.isInteger(first.timestamp) && String(first.timestamp).length === 10)
  assert.equal(first.metadata.platform, 'desktop')
})

test('login, token and API key are one user', async t => {
  const { username, password } = await account()
  const answer = await login({ username, password })
  assert.equal(answer.status, 200, JSON.stringify(answer.body))
  assert.deepEqual([answer.body.token_type, answer.body.expires_in, answer.body.user.username], ['bearer', 3600, username])
  const { key } = await server.cli('key', 'add', '--user', username)
  const ways = [
    [`?token=${answer.body.token}`],
    ['', { headers: { Authorization: `Bearer ${answer.body.token}` } }],
    ['', { headers: { Authorization: `Bearer ${key}` } }],
    ['', { headers: { 'X-API-Key': key } }],
  ]
  const users = new Set()
  for (const [query, options] of ways) {
    const { payload } = await (await connect(t, query, options)).frame('connection_established')
    assert.equal(payload.verified, true)
    users.add(payload.user_id)
  }
  assert.equal(users.size, 1)
})

test('wrong credentials are told in a frame, then the connection closes', async t => {
  const refused = async (query, options) => {
    const socket = await connect(t, query, options)
    const { closed, reason } = await socket.closing()
    assert.equal(closed, 1008)
    assert.notEqual(reason, '')
    assert.deepEqual(socket.inbox.items.filter(item => item.type).map(item => item.type), ['connection_error'])
    return socket.inbox.items[0].payload
  }
  assert.deepEqual(await refused('?token=wrong'),
    { error: 'authentication_failed', message: 'Invalid token provided', code: 401 })
  assert.equal((await refused('', { headers: { 'X-API-Key': 'wrong' } })).message, 'Invalid API key provided')
  const { username } = await account()
  assert.equal((await refused(`?user_id=${username}`)).code, 403)
  const answer = await login({ username, password: 'wrong' })
  assert.deepEqual([answer.status, answer.body.error], [401, 'Invalid credentials'])
  assert.equal((await login({ username })).status, 400)
})

test('two people converse in a session', async t => {
  const [ada, bob] = [await connect(t, `?user_id=${fresh('ada')}`), await connect(t, `?user_id=${fresh('bob')}&platform=mobile`)]
  const session_id = fresh('session')
  const names = []
  for (const person of [ada, bob]) {
    names.push((await person.frame('connection_established')).payload.user_id)
    person.tell(frame('session_join', { session_id }))
    assert.equal((await person.frame('session_joined')).payload.session_id, session_id)
  }
  assert.equal((await ada.frame('participant_joined')).payload.user_id, names[1])
  const content = 'Grüße, 世界 👋'
  const said = frame('chat_send', { content, session_id })
  bob.tell(said)
  const { payload } = await ada.frame('chat_receive', heard => heard.payload.sender === 'user')
  assert.deepEqual([payload.content, payload.user_id, payload.session_id], [content, names[1], session_id])
  assert.ok(Number.isInteger(payload.timestamp))
  ada.tell(frame('chat_send', { content: 'over', session_id }))
  await bob.frame('chat_receive', heard => heard.payload.content === 'over')
  assert.deepEqual(bob.inbox.all(heard => heard.type === 'chat_receive' && heard.payload.content === content), [])
})

test('what is wrong is told, and the connection stays', async t => {
  const socket = await connect(t)
  const error = async (sent, wanted) => {
    socket.tell(sent)
    const { payload } = await socket.frame('error', told => told.payload.message === wanted)
    return [payload.error, payload.code, payload.request_id]
  }
  assert.deepEqual(await error('no json', 'Invalid JSON'), ['invalid_json', 400, null])
  assert.deepEqual(await error({ type: 'chat_send', payload: {} }, 'Missing required message fields'), ['validation_error', 400, null])
  assert.deepEqual(await error({ id: 'e1', type: 'fly', payload: {} }, 'Unknown message type: fly'), ['unknown_message_type', 400, 'e1'])
  assert.deepEqual(await error({ id: 'e2', type: 'chat_send', payload: { content: '' } }, 'Invalid chat message content'), ['validation_error', 400, 'e2'])
  assert.deepEqual(await error({ id: 'e3', type: 'chat_send', payload: { content: 'x'.repeat(10_001) } }, 'Message content too long'), ['validation_error', 400, 'e3'])
  socket.tell({ type: 'ping' })
  await socket.frame('pong')
  assert.equal(socket.readyState, socket.OPEN)
})

test('a page of another origin is refused', async () => {
  assert.equal(await refusedUpgrade(server.megabot, { origin: 'https://evil.example' }), 403)
})

test('a close is answered with the same code', async t => {
  const socket = await connect(t)
  await socket.frame('connection_established')
  socket.close(4000, 'bye')
  assert.equal((await socket.closing()).closed, 4000)
})

test('a restart cuts the connection without a close frame, and the session goes on', async t => {
  const own = await Server.start()
  t.after(() => own.close())
  const people = []
  for (const name of ['ada', 'bob']) {
    const { password } = await own.cli('user', 'add', name)
    const { body } = await own.post('/api/auth/login', { username: name, password }, own.ports.megabot)
    people.push({ name, token: body.token, socket: await webSocket(`${own.megabot}?token=${body.token}`) })
  }
  for (const person of people) {
    person.session = (await person.socket.frame('connection_established')).payload.session_id
    person.socket.tell(frame('session_join', { session_id: 'desk' }))
    await person.socket.frame('session_joined')
  }
  const [ada, bob] = people
  bob.socket.tell(frame('chat_send', { session_id: 'desk', content: 'before' }))
  await ada.socket.frame('chat_receive', item => item.payload.content === 'before')
  const clean = new Promise(done => ada.socket.addEventListener('close', event => done([event.wasClean, event.code])))
  await own.end('SIGTERM')
  // The document's client comes back only if this is false.
  assert.deepEqual(await clean, [false, 1006])

  await own.up()
  const talking = await webSocket(`${own.megabot}?token=${bob.token}&session_id=${bob.session}`)
  assert.equal((await talking.frame('connection_established')).payload.resumed, true)
  talking.tell(frame('chat_send', { session_id: 'desk', content: 'meanwhile' }))
  talking.tell(frame('ping', {}))
  await talking.frame('pong')
  const back = await webSocket(`${own.megabot}?token=${ada.token}&session_id=${ada.session}`)
  t.after(() => { talking.terminate(); back.terminate() })
  const { payload } = await back.frame('connection_established')
  assert.deepEqual([payload.session_id, payload.resumed], [ada.session, true])
  await back.frame('chat_receive', item => item.payload.content === 'meanwhile')
  talking.tell(frame('chat_send', { session_id: 'desk', content: 'after' }))
  await back.frame('chat_receive', item => item.payload.content === 'after')
  const order = back.inbox.all(item => item.type === 'chat_receive').map(item => item.payload.content)
  assert.deepEqual(order.slice(-2), ['meanwhile', 'after'])
})
