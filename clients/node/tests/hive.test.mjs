// Hive with Node's ws.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Server, fresh, refusedUpgrade, socketIo, webSocket } from '../harness.mjs'

let server
before(async () => { server = await Server.start() })
after(() => server.close())

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

async function dashboard(t, options = {}) {
  const socket = await webSocket(server.hive, options)
  t.after(() => socket.terminate())
  return socket
}

test('the first frame is the status, with real figures', async t => {
  const socket = await dashboard(t)
  const first = await socket.inbox.first('frame', () => true)
  assert.deepEqual([first.type, first.message_type, first.correlation_id], ['hive_status_update', 'hive_status', null])
  assert.match(first.message_id, UUID)
  assert.match(first.timestamp, /Z$/)
  assert.ok(Number.isInteger(first.sequence) && first.sequence >= 1)
  assert.ok(['healthy', 'degraded', 'unhealthy'].includes(first.data.status))
  const { metrics } = first.data
  for (const key of ['total_agents', 'active_agents', 'pending_tasks', 'completed_tasks_today']) {
    assert.ok(Number.isInteger(metrics[key]), `${key}: ${metrics[key]}`)
  }
  assert.ok(metrics.system_load >= 0 && metrics.system_load <= 1, `system_load: ${metrics.system_load}`)
})

test('an agent that comes and goes in another dialect is seen', async t => {
  const socket = await dashboard(t)
  await socket.frame('hive_status_update')
  const room = fresh('room')
  await server.cli('room', 'add', room)
  const auth = await server.channelKey(fresh('agent'), room)
  const created = await socket.frame('agent_created', frame => frame.data.agent.id === auth.agentId)
  assert.ok(Array.isArray(created.data.agent.capabilities))
  const agent = socketIo(server.http, { auth })
  await agent.event('auth:success')
  const came = await socket.frame('agent_status_changed', frame => frame.data.agent_id === auth.agentId)
  assert.notEqual(came.data.old_status, came.data.new_status)
  agent.close()
  const left = await socket.frame('agent_status_changed', frame =>
    frame.data.agent_id === auth.agentId && frame.sequence > came.sequence)
  assert.equal(left.data.reason, 'connection_lost')
})

test('sequence rises on a connection, over reconnects and over kill -9', async t => {
  const seen = []
  const look = async () => {
    const socket = await dashboard(t)
    await socket.frame('hive_status_update')
    socket.tell({ action: 'ping', sequenceId: 5 })
    const pong = await socket.frame('pong')
    assert.deepEqual([pong.action, pong.sequenceId], ['pong', 5])
    seen.push(...socket.inbox.items.map(frame => frame.sequence).filter(Number.isInteger))
    socket.close()
    assert.equal((await socket.closing()).closed, 1005)
  }
  await look()
  await look()
  await server.end('SIGKILL')
  await server.up()
  await look()
  assert.deepEqual(seen, [...new Set(seen)].sort((a, b) => a - b))
  assert.ok(seen.every(Number.isSafeInteger))
})

test('what is wrong is told, and the connection stays', async t => {
  const socket = await dashboard(t)
  socket.tell('no json')
  assert.equal((await socket.frame('error')).data.error, 'Invalid message format')
  socket.tell({ action: 'fly' })
  await socket.frame('error', frame => frame.data.error === 'Unknown action: fly')
  socket.send(Buffer.from([1, 2, 3]))
  await socket.inbox.atLeast(2, 'error', frame => frame.type === 'error' && frame.data.error === 'Invalid message format')
  assert.equal(socket.readyState, socket.OPEN)
})

test('a page of another origin is refused, our own is not', async t => {
  assert.equal(await refusedUpgrade(server.hive, { origin: 'https://evil.example' }), 403)
  await dashboard(t, { origin: server.http })
})

test('compression is agreed on and works both ways', async t => {
  const socket = await dashboard(t)
  assert.match(socket.extensions, /permessage-deflate/)
  const agents = Array.from({ length: 8 }, () => fresh('agent'))
  for (const agent of agents) await server.cli('agent', 'add', agent)
  // From 1,024 bytes on frames are compressed: this request and the list that answers it.
  socket.tell({ action: 'get_status', correlation_id: 'list', padding: 'x'.repeat(3000) })
  const { data } = await socket.frame('agents_update')
  assert.ok(JSON.stringify(data).length > 1024)
  assert.ok(agents.every(agent => data.agents.some(({ id }) => id === agent)))
  assert.equal((await socket.frame('hive_status_update', frame => frame.correlation_id !== null)).correlation_id, 'list')
})

test('a restart closes with 1012, and the connection can be made again', async () => {
  const own = await Server.start()
  try {
    const socket = await webSocket(own.hive)
    await socket.frame('hive_status_update')
    await own.end('SIGTERM')
    const { closed } = await socket.inbox.first('the close', item => item.closed !== undefined)
    assert.equal(closed, 1012)
    await own.up()
    const again = await webSocket(own.hive)
    await again.frame('hive_status_update')
    again.terminate()
  } finally {
    await own.close()
  }
})
