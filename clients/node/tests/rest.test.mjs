// REST of Hive and MXF with fetch, beside the sockets.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Agent, get } from 'node:http'
import { WebSocket } from 'ws'

import { Server, eventually, fresh, socketIo, webSocket } from '../harness.mjs'

let server
before(async () => { server = await Server.start(['figures.interval=200ms']) })
after(() => server.close())

/** Asks the main listener; a body makes it a POST unless `method` says otherwise. */
async function ask(route, { method, body, headers = {} } = {}) {
  const answer = await fetch(server.http + route, {
    method: method ?? (body ? 'POST' : 'GET'),
    headers: { 'Content-Type': 'application/json', ...headers },
    body: body && JSON.stringify(body),
  })
  const text = await answer.text()
  const json = answer.headers.get('content-type').startsWith('application/json')
  return { status: answer.status, headers: answer.headers, text, body: json ? JSON.parse(text) : undefined }
}

test('/metrics is Prometheus\' text, or Hive\'s JSON for who names it', async () => {
  const plain = await ask('/metrics')
  assert.match(plain.text, /^# HELP roundtable_connections/m)
  const json = await ask('/metrics', { headers: { Accept: 'application/json' } })
  assert.equal(json.body.data.architecture, 'modular')
  assert.equal((await ask('/api/metrics')).body.data.architecture, 'modular')
  const exported = await ask('/metrics/export/prometheus')
  assert.match(exported.text, /^ai_orchestrator_process_memory \d+$/m)
})

test('what is measured is measured, and a history of it is kept', async () => {
  const { system_resources: system } = (await ask('/api/resources')).body
  assert.ok(system.available_memory > 1 << 20 && system.cpu_cores > 0, JSON.stringify(system))
  const points = await eventually(async () => {
    const history = (await ask('/metrics/history?interval=1m&metrics=process_memory')).body.data
    return history.metrics.process_memory.length > 0 && history.metrics.process_memory
  })
  assert.ok(points.every(point => point.value > 1 << 20), JSON.stringify(points))
})

test('an alert that a user asks for is raised, outlives a restart, and ends with its threshold', async t => {
  const alerts = [{ name: 'Memory', metric: 'process_memory', condition: 'greater_than', threshold: 1, severity: 'info' }]
  const socket = await webSocket(server.hive)
  t.after(() => socket.terminate())
  const set = await ask('/metrics/alerts', { body: { alerts } })
  assert.deepEqual([set.status, set.body.data.alerts_created], [201, 1])
  const [id] = set.body.data.alert_ids
  const raised = await socket.frame('system_alert', frame => frame.data.title === 'Memory')
  assert.deepEqual([raised.data.level, raised.data.details.affected_components], ['info', ['process_memory']])

  await server.end('SIGKILL')
  await server.up()
  const after = (await ask('/metrics/alerts')).body.data
  assert.deepEqual(after.configured_alerts.map(alert => alert.alert_id), [id])
  // The machine may have alerts of its own.
  const own = alerts => alerts.filter(alert => alert.name === 'Memory').map(alert => alert.alert_id)
  assert.deepEqual(own(after.active_alerts), [raised.data.alert_id])
  assert.equal((await ask(`/metrics/alerts/${id}`, { method: 'DELETE' })).status, 200)
  const over = (await ask('/metrics/alerts')).body.data
  assert.deepEqual([own(over.active_alerts), own(over.resolved_alerts)], [[], [raised.data.alert_id]])
})

test('an MXF account is registered, makes a channel and speaks in it, heard by a socket', async t => {
  const username = fresh('user')
  const registered = await ask('/api/users/register', { body: { username, email: 'u@example.org', password: 'secret' } })
  assert.equal(registered.status, 201)
  const again = await ask('/api/users/register', { body: { username, email: 'u@example.org', password: 'secret' } })
  assert.match(again.body.message, /already/)
  const { token } = (await ask('/api/users/login', { body: { username, password: 'secret' } })).body
  const headers = { Authorization: `Bearer ${token}` }
  const channel = fresh('channel')
  assert.equal((await ask(`/api/channels/${channel}/context`, { body: { name: 'Lab' }, headers })).status, 201)
  const socket = socketIo(server.http, { auth: { domainKey: server.credentials.domain_key, username, password: 'secret' } })
  t.after(() => socket.close())
  await socket.event('auth:success')
  const posted = await ask(`/api/channels/${channel}/messages`, { body: { content: 'Hello over REST' }, headers })
  const heard = await socket.event('message', data => data.channelId === channel)
  assert.deepEqual([heard.data.content, heard.data.messageId], ['Hello over REST', posted.body.data.messageId])
  const { messages } = (await ask(`/api/channels/${channel}/history?limit=5`, { headers })).body.data
  assert.deepEqual(messages.map(message => message.content), ['Hello over REST'])
  assert.equal((await ask(`/api/channels/${channel}/history`)).status, 401)
})

test('the two headers of the SDK open the key\'s own agent, beside Hive\'s agents', async () => {
  const room = fresh('room')
  await server.cli('room', 'add', room)
  const { agentId, keyId, secretKey } = await server.channelKey(fresh('agent'), room)
  const headers = { 'x-key-id': keyId, 'x-secret-key': secretKey }
  const { data } = (await ask(`/api/agents/context/${keyId}`, { headers })).body
  assert.deepEqual([data.agentId, data.channelId], [agentId, room])
  assert.equal((await ask(`/api/agents/context/${keyId}`, { headers: { ...headers, 'x-secret-key': 'x' } })).status, 401)
  assert.equal((await ask(`/api/agents/${agentId}`)).body.data.agent.id, agentId)
})

test('a keep-alive agent uses one connection again and again, and is told for how long', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const used = new Set()
  for (let round = 0; round < 20; round += 1) {
    const answer = await new Promise((resolve, reject) => {
      const request = get(`${server.http}/livez`, { agent }, resolve).on('error', reject)
      request.on('socket', socket => used.add(socket))
    })
    assert.equal(answer.headers['keep-alive'], 'timeout=75')
    answer.resume()
    await new Promise(resolve => answer.on('end', resolve))
  }
  assert.equal(used.size, 1)
  agent.destroy()
})

test('a WebSocket that offers subprotocols opens with the first that hides nothing', async () => {
  const socket = new WebSocket(server.hive, ['my-bearer-secret', 'chat', 'other'])
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject))
  assert.equal(socket.protocol, 'chat')
  socket.close()
})
