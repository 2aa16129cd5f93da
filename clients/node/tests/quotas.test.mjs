// What somebody may have made is used up: every dialect says so in its own words, nothing is half done, and what ends makes room.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Server, fresh, socketIo, webSocket } from '../harness.mjs'

let server
before(async () => {
  server = await Server.start(['quotas.principal_rooms=1', 'quotas.principal_agents=1', 'quotas.principal_thresholds=1'])
})
after(() => server.close())

const said = told => JSON.stringify(told)

/** Asks over REST with a token, if there is one. */
async function ask(route, body, token) {
  const headers = { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) }
  const answer = await fetch(`${server.http}${route}`, { method: 'POST', headers, body: JSON.stringify(body) })
  return { status: answer.status, body: await answer.json() }
}

/** Asks twice: the first is done, the second more than there may be. */
async function once(first, second) {
  const [done, refused] = [await first, await second()]
  assert.ok([200, 201].includes(done.status), said(done))
  assert.equal(refused.status, 507, said(refused))
  return refused.body
}

async function account(role = 'editor') {
  const username = fresh(role)
  const { password } = await server.cli('user', 'add', username, '--role', role)
  return { username, password }
}

test('MXF: channels', async () => {
  const { token } = (await ask('/api/users/login', await account())).body
  const create = channel => ask(`/api/channels/${channel}/context`, { name: 'Lab' }, token)
  const [first, second] = [fresh('channel'), fresh('channel')]
  const { message } = await once(create(first), () => create(second))
  assert.match(message, /has made 1 rooms/)
  await server.cli('room', 'remove', first)
  assert.equal((await create(second)).status, 201, 'what is removed makes room')
})

test('MXF: a channel that a socket would make is told in an event', async t => {
  const { username, password } = await account()
  const auth = { domainKey: server.credentials.domain_key, username, password }
  const socket = socketIo(server.http, { auth, transports: ['websocket'] })
  t.after(() => socket.close())
  await socket.event('auth:success')
  const create = (channelId, eventId) => socket.emit('channel:create', {
    eventId, eventType: 'channel:create', timestamp: Date.now(), agentId: username, channelId, data: { name: channelId },
  })
  create(fresh('channel'), 'e1')
  await socket.event('channel:created')
  create(fresh('channel'), 'e2')
  const refused = await socket.event('error', told => /has made 1 rooms/.test(said(told)))
  assert.match(said(refused.data), /PERMISSION_DENIED/)
})

test('AIWM: conversations', async () => {
  const { accessToken } = (await ask('/dev/aiwm/auth/login', await account())).body
  const agentId = fresh('agent')
  await server.cli('agent', 'add', agentId)
  const create = title => ask('/dev/aiwm/conversations', { title, agentId }, accessToken)
  const { message } = await once(create('one'), () => create('two'))
  assert.match(message, /has made 1 rooms/)
})

test('Hive: agents and alerts', async () => {
  const { token } = (await ask('/api/auth/login', await account())).body
  const agent = name => ask('/api/agents', { name, agent_type: 'worker', capabilities: [] }, token)
  assert.match(said(await once(agent('one'), () => agent('two'))), /QUOTA_EXCEEDED/)
  const alert = name => ask('/metrics/alerts', { alerts: [{ name, metric: 'memory_usage', condition: 'greater_than', threshold: 99.9 }] }, token)
  assert.match(said(await once(alert('one'), () => alert('two'))), /QUOTA_EXCEEDED/)
})

test('MegaBot: sessions', async t => {
  const guest = await webSocket(`${server.megabot}?user_id=${fresh('guest')}`)
  t.after(() => guest.close())
  await guest.frame('connection_established')
  const join = (id, room) => guest.tell({ id, type: 'session_join', payload: { session_id: room } })
  const lobby = fresh('lobby')
  join('j1', lobby)
  await guest.frame('session_joined', ({ payload }) => payload.session_id === lobby)
  join('j2', fresh('lobby'))
  const { payload } = await guest.frame('error')
  assert.deepEqual([payload.error, payload.code, payload.request_id], ['quota_exceeded', 507, 'j2'], said(payload))
})
