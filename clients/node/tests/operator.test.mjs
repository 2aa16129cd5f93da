// What the operator does to connections, with real clients on the other side.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Server, fresh, socketIo, webSocket } from '../harness.mjs'

let server
before(async () => { server = await Server.start() })
after(() => server.close())

const chat = token => socketIo(`${server.http}/dev/aiwm/chat`, { auth: { token }, transports: ['websocket'] })

async function room() {
  const id = fresh('room')
  await server.cli('room', 'add', id)
  return id
}

test('connections are listed with what they are, and end for good when they are closed', async t => {
  const channelId = await room()
  const auth = await server.channelKey(fresh('agent'), channelId)
  const scout = socketIo(server.http, { auth, transports: ['polling'] })
  await scout.event('auth:success')
  const name = fresh('helper')
  const helper = chat(await server.aiwmToken(name))
  await helper.event('presence:update')
  const page = await webSocket(server.hive)
  await page.frame('connection_established').catch(() => {})
  const person = await webSocket(`${server.megabot}?user_id=ada`)
  await person.frame('connection_established')
  const all = [scout, helper, page, person]
  t.after(() => all.forEach(client => client.close()))

  const { connections } = await server.cli('connections', 'list')
  const of = dialect => connections.filter(({ sessions }) => sessions.some(session => session.dialect === dialect))
  for (const dialect of ['mxf', 'aiwm', 'hive', 'megabot']) assert.equal(of(dialect).length, 1, dialect)
  const [mxf] = of('mxf')
  assert.deepEqual([mxf.transport, mxf.peer, mxf.listener], ['polling', '127.0.0.1', `127.0.0.1:${server.ports.main}`])
  assert.deepEqual(mxf.sessions, [{ dialect: 'mxf', namespace: '/', principal: `agent:${auth.agentId}`, workspace: 'default' }])
  const [aiwm] = of('aiwm')
  assert.deepEqual([aiwm.transport, aiwm.sessions[0].namespace, aiwm.sessions[0].principal], ['websocket', '/dev/aiwm/chat', `agent:${name}`])
  assert.ok(Date.parse(aiwm.since) >= Date.parse(mxf.since) && aiwm.queued_bytes >= 0)
  assert.equal(of('megabot')[0].sessions[0].principal, 'guest:ada')

  for (const connection of connections) await server.cli('connections', 'close', String(connection.id))
  assert.equal((await scout.event('disconnect')).data, 'io server disconnect')
  assert.equal((await helper.event('disconnect')).data, 'io server disconnect')
  for (const socket of [page, person]) {
    assert.deepEqual(await socket.closing(), { closed: 1008, reason: 'closed by the operator' })
  }
  assert.deepEqual((await server.cli('connections', 'list')).connections, [])
  await assert.rejects(server.cli('connections', 'close', '1'), /no connection 1/)
})

test('the figures know every dialect', async t => {
  const channelId = await room()
  const [ada, bob] = await Promise.all([0, 1].map(async () => {
    const socket = socketIo(server.http, { auth: await server.channelKey(fresh('agent'), channelId), transports: ['websocket'] })
    await socket.event('auth:success')
    return socket
  }))
  const person = await webSocket(`${server.megabot}?user_id=grace`)
  t.after(() => [ada, bob, person].forEach(client => client.close()))
  const figures = async () => {
    const text = await (await fetch(`${server.http}/metrics`)).text()
    return (name, dialect) => Number(text.match(new RegExp(`^roundtable_${name}${dialect ? `\\{dialect="${dialect}"\\}` : ''} (\\d+)$`, 'm'))?.[1])
  }
  const earlier = await figures()
  assert.equal(earlier('sessions', 'mxf'), 2)
  assert.equal(earlier('sessions', 'megabot'), 1)
  await ada.ask('message:send', { channelId, content: 'hello' })
  await bob.event('message')
  await ada.ask('message:send', { channelId: 'nowhere', content: 'hello' })
  const stranger = socketIo(server.http, { auth: { domainKey: server.credentials.domain_key, agentId: 'x', keyId: 'key_0', secretKey: 'wrong' } })
  await stranger.event('auth:error')
  stranger.close()
  const later = await figures()
  const grown = name => later(name, 'mxf') - earlier(name, 'mxf')
  assert.ok(grown('deliveries_total') >= 2, 'both members got it')
  assert.ok(grown('session_refusals_total') >= 1)
  assert.equal(grown('turned_away_total'), 1)
  assert.equal(later('failed_logins_total') - earlier('failed_logins_total'), 1)
  assert.equal(later('queued_bytes', 'mxf') >= 0 && later('too_slow_total', 'mxf'), 0)
  assert.equal(later('blocked_addresses'), 0)
})

test('a rotated secret ends what came in by the old one, a channel key stays', async t => {
  const [channelId, agentId] = [await room(), fresh('agent')]
  const made = await server.cli('agent', 'add', agentId)
  const connect = secret => server.post(`/dev/aiwm/agents/${agentId}/connect`, { secret })
  const { accessToken } = (await connect(made.secret)).body
  const key = await server.cli('key', 'add', '--agent', agentId, '--room', channelId)
  const auth = { domainKey: server.credentials.domain_key, agentId, keyId: key.key_id, secretKey: key.secret }
  const [old, byKey] = [chat(accessToken), socketIo(server.http, { auth, transports: ['websocket'] })]
  t.after(() => [old, byKey].forEach(client => client.close()))
  await old.event('presence:update')
  await byKey.event('auth:success')

  const again = await server.cli('agent', 'rotate', agentId)
  assert.equal((await old.event('disconnect')).data, 'io server disconnect')
  assert.equal((await connect(made.secret)).status, 401)
  const late = chat(accessToken)
  assert.match((await late.event('connect_error')).data.message, /token/)
  const fresher = await connect(again.secret)
  assert.equal(fresher.status, 200, JSON.stringify(fresher.body))
  const back = chat(fresher.body.accessToken)
  t.after(() => [late, back].forEach(client => client.close()))
  await back.event('presence:update')
  assert.equal((await byKey.ask('message:send', { channelId, content: 'still here' })).success, true)

  await server.cli('agent', 'remove', agentId)
  for (const gone of [back, byKey]) assert.equal((await gone.event('disconnect')).data, 'io server disconnect')
  const { keys } = await server.cli('key', 'list')
  assert.equal(keys.find(({ key_id }) => key_id === key.key_id).revoked, true)
})
