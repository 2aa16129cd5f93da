// MXF with socket.io-client: websocket, polling and the upgrade between them.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { Server, fresh, socketIo, upgraded } from '../harness.mjs'

let server
before(async () => { server = await Server.start() })
after(() => server.close())

const WAYS = {
  websocket: { transports: ['websocket'] },
  polling: { transports: ['polling'] },
  upgrade: {},
}

async function agent(room, options = {}) {
  const auth = await server.channelKey(fresh('agent'), room)
  const socket = socketIo(server.http, { auth, ...options })
  const { data } = await socket.event('auth:success')
  assert.equal(data.agentId, auth.agentId)
  assert.equal(data.channelId, room)
  assert.equal(data.authType, 'key')
  return Object.assign(socket, { agentId: auth.agentId })
}

async function room() {
  const id = fresh('room')
  await server.cli('room', 'add', id)
  return id
}

for (const [way, options] of Object.entries(WAYS)) {
  test(`two agents converse over ${way}`, async t => {
    const channelId = await room()
    const [ada, bob] = [await agent(channelId, options), await agent(channelId, options)]
    t.after(() => { ada.close(); bob.close() })

    const content = 'Grüße, 世界 👋 "quoted" \\ back'
    const metadata = { priority: 'high', tags: ['a'], own: { n: 1.5 } }
    const ack = await ada.ask('message:send', { channelId, content, metadata })
    assert.equal(ack.success, true, JSON.stringify(ack))
    for (const member of [ada, bob]) {
      const { data } = await member.event('message', message => message.messageId === ack.messageId)
      assert.equal(data.channelId, channelId)
      assert.equal(data.from, ada.agentId)
      assert.equal(data.content, content)
      assert.equal(data.type, 'message')
      assert.deepEqual(data.metadata, metadata)
      assert.equal(new Date(data.timestamp).toISOString(), data.timestamp)
    }
    if (way === 'upgrade') await upgraded(ada)
    assert.equal(ada.io.engine.transport.name, way === 'polling' ? 'polling' : 'websocket')
  })
}

test('nothing is lost, repeated or reordered while the transport is upgraded', async t => {
  const channelId = await room()
  const bob = await agent(channelId, WAYS.websocket)
  const auth = await server.channelKey(fresh('agent'), channelId)
  const ada = socketIo(server.http, { auth })
  t.after(() => { ada.close(); bob.close() })
  const texts = Array.from({ length: 40 }, (_, n) => `number ${n}`)
  await ada.event('auth:success')
  const acks = texts.map(content => ada.ask('message:send', { channelId, content }))
  await upgraded(ada)
  assert.ok((await Promise.all(acks)).every(ack => ack.success))
  for (const member of [ada, bob]) {
    const heard = await member.inbox.atLeast(texts.length, 'message', item => item.name === 'message')
    assert.deepEqual(heard.map(item => item.data.content), texts)
  }
})

test('all members see one order', async t => {
  const channelId = await room()
  const members = [await agent(channelId, WAYS.websocket), await agent(channelId, WAYS.polling), await agent(channelId, {})]
  t.after(() => members.forEach(member => member.close()))
  const acks = await Promise.all(members.flatMap(member =>
    Array.from({ length: 15 }, (_, n) => member.ask('message:send', { channelId, content: `${member.agentId} ${n}` }))))
  assert.ok(acks.every(ack => ack.success))
  const orders = await Promise.all(members.map(async member => {
    const heard = await member.inbox.atLeast(45, 'message', item => item.name === 'message')
    return heard.map(item => item.data.messageId)
  }))
  assert.equal(new Set(orders[0]).size, 45)
  assert.deepEqual(orders[1], orders[0])
  assert.deepEqual(orders[2], orders[0])
})

test('a direct message reaches its addressee alone, also one who comes later', async t => {
  const channelId = await room()
  const [ada, bob, eve] = [await agent(channelId), await agent(channelId), await agent(channelId)]
  const late = await server.channelKey(fresh('agent'), channelId)
  t.after(() => { ada.close(); bob.close(); eve.close() })
  const ack = await ada.ask('message:direct', { targetAgentId: bob.agentId, content: 'for you' })
  assert.equal(ack.success, true, JSON.stringify(ack))
  assert.equal(ack.delivered, true)
  const { data } = await bob.event('direct_message')
  assert.deepEqual([data.from, data.to, data.content], [ada.agentId, bob.agentId, 'for you'])

  const waiting = await ada.ask('message:direct', { targetAgentId: late.agentId, content: 'welcome' })
  assert.equal(waiting.delivered, false, JSON.stringify(waiting))
  const newcomer = socketIo(server.http, { auth: late })
  t.after(() => newcomer.close())
  assert.equal((await newcomer.event('direct_message')).data.content, 'welcome')

  // A message to the room comes after; whatever was wrongly sent to eve would be there by then.
  await ada.ask('message:send', { channelId, content: 'over' })
  await eve.event('message', message => message.content === 'over')
  assert.deepEqual(eve.inbox.all(item => item.name === 'direct_message'), [])
})

test('a broadcast says its type', async t => {
  const channelId = await room()
  const [ada, bob] = [await agent(channelId), await agent(channelId)]
  t.after(() => { ada.close(); bob.close() })
  await ada.ask('message:broadcast', { channelId, content: 'mind the gap', type: 'alert' })
  assert.equal((await bob.event('message')).data.type, 'alert')
})

test('a repeated client id has one effect', async t => {
  const channelId = await room()
  const ada = await agent(channelId)
  t.after(() => ada.close())
  const once = { channelId, content: 'once', metadata: { clientMessageId: 'c-1' } }
  const first = await ada.ask('message:send', once)
  const second = await ada.ask('message:send', once)
  assert.equal(second.messageId, first.messageId)
  await ada.ask('message:send', { channelId, content: 'end' })
  await ada.event('message', message => message.content === 'end')
  assert.equal(ada.inbox.all(item => item.name === 'message' && item.data.content === 'once').length, 1)
})

test('joining and leaving are told to the members', async t => {
  const channelId = await room()
  const [ada, bob] = [await agent(channelId), await agent(channelId)]
  t.after(() => { ada.close(); bob.close() })
  const joined = await ada.ask('channel:join', { channelId, agentId: ada.agentId })
  assert.equal(joined.success, true, JSON.stringify(joined))
  const { data } = await ada.event('channel:joined')
  assert.deepEqual([data.channelId, data.agentId], [channelId, ada.agentId])
  const list = (await ada.event('channel:participants')).data
  assert.equal(list.count, list.participants.length)
  assert.ok(list.participants.some(participant => participant.agentId === bob.agentId))

  assert.equal((await bob.ask('channel:leave', { channelId, agentId: bob.agentId })).success, true)
  const refused = await bob.ask('message:send', { channelId, content: 'still here?' })
  assert.deepEqual([refused.success, refused.code], [false, 'PERMISSION_DENIED'])
})

test('a user logs in, registers an agent and so makes a channel', async t => {
  const { domain_key: domainKey, admin } = server.credentials
  const socket = socketIo(server.http, { auth: { domainKey, username: admin.username, password: admin.password } })
  t.after(() => socket.close())
  assert.equal((await socket.event('auth:success')).data.authType, 'password')
  const [agentId, channelId] = [fresh('agent'), fresh('channel')]
  const ack = await socket.ask('agent:register', { agentId, name: 'Made here', channelId, capabilities: ['research'] })
  assert.deepEqual([ack.success, ack.agentId, ack.channelId], [true, agentId, channelId], JSON.stringify(ack))
  const { data } = await socket.event('agent:registered')
  assert.deepEqual([data.agentId, data.status], [agentId, 'registered'])
  await socket.ask('message:send', { channelId, content: 'first' })
  assert.equal((await socket.event('message')).data.from, agentId)
})

describe('refusals', () => {
  const refused = async auth => {
    const socket = socketIo(server.http, { auth, transports: ['websocket'] })
    const { data } = await socket.event('connect_error')
    socket.close()
    return data.message
  }

  test('without or with a wrong domain key', async () => {
    assert.equal(await refused({}), 'Domain key required for SDK connection')
    assert.equal(await refused({ domainKey: 'wrong', username: 'a', password: 'b' }), 'Invalid domain key')
  })

  for (const [what, change, code] of [
    ['a wrong secret', auth => ({ ...auth, secretKey: 'wrong' }), 'INVALID_KEY'],
    ['another agent than the key is for', auth => ({ ...auth, agentId: 'somebody-else' }), 'INVALID_KEY'],
    ['an object as secret', auth => ({ ...auth, secretKey: { $ne: '' } }), 'INVALID_KEY'],
    ['a wrong password', auth => ({ domainKey: auth.domainKey, username: 'admin', password: 'wrong' }), 'AUTH_FAILED'],
  ]) {
    test(what, async t => {
      const channelId = await room()
      const socket = socketIo(server.http, { auth: change(await server.channelKey(fresh('agent'), channelId)) })
      t.after(() => socket.close())
      const { data } = await socket.event('auth:error')
      assert.match(data.error, /^Authentication failed - please provide valid/)
      assert.equal((await socket.event('error')).data.code, code)
      const ack = await socket.ask('message:send', { channelId, content: 'let me in' })
      assert.deepEqual([ack.success, ack.code], [false, 'AUTH_FAILED'])
      assert.ok(socket.connected)
    })
  }

  test('payloads and places that are wrong', async t => {
    const channelId = await room()
    const ada = await agent(channelId)
    t.after(() => ada.close())
    const code = async payload => (await ada.ask('message:send', payload)).code
    assert.equal(await code({ channelId: fresh('nowhere'), content: 'x' }), 'CHANNEL_NOT_FOUND')
    assert.equal(await code({ channelId: await room(), content: 'x' }), 'PERMISSION_DENIED')
    for (const wrong of [{ channelId }, { channelId, content: 7 }, { channelId, content: '' }, [], null, 'text']) {
      assert.equal(await code(wrong), 'VALIDATION_ERROR', JSON.stringify(wrong))
    }
    assert.equal((await ada.event('error')).data.code, 'CHANNEL_NOT_FOUND')
    assert.deepEqual(ada.inbox.all(item => item.name === 'message'), [])
  })

  test('a namespace that does not exist', async () => {
    const socket = socketIo(`${server.http}/nope`, { auth: {} })
    assert.equal((await socket.event('connect_error')).data.message, 'Invalid namespace')
    socket.close()
  })
})
