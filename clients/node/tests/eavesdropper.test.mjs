// Whoever is in nothing hears nothing: one outsider of every kind listens while others converse, and every frame that any of
// them got is searched for the words that were not for them.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Server, fresh, socketIo, webSocket } from '../harness.mjs'

const CHANNELS = ['network_events', 'consensus_events', 'security_events', 'monitoring_events']

let server
before(async () => { server = await Server.start() })
after(() => server.close())

/** A Socket.IO client that also keeps every packet as it came. */
function packets(url, auth, options = {}) {
  const socket = socketIo(url, { auth, ...options })
  const heard = []
  socket.io.engine.on('packet', packet => heard.push(JSON.stringify(packet)))
  return Object.assign(socket, { heard })
}

/** A plain WebSocket whose frames come as text. */
async function frames(url, options = {}) {
  const socket = await webSocket(url, options)
  return Object.defineProperty(socket, 'heard', { get: () => socket.inbox.items.map(item => JSON.stringify(item)) })
}

async function account() {
  const username = fresh('user')
  const { password } = await server.cli('user', 'add', username)
  return { username, password }
}

async function mxfUser() {
  const socket = packets(server.http, { domainKey: server.credentials.domain_key, ...await account() })
  await socket.event('auth:success')
  return socket
}

async function aiwmUser(namespace) {
  const { body } = await server.post('/dev/aiwm/auth/login', await account())
  const socket = packets(`${server.http}${namespace}`, { token: body.accessToken })
  await socket.event('connect')
  return Object.assign(socket, { token: body.accessToken })
}

async function megabotUser() {
  const { body } = await server.post('/api/auth/login', await account(), server.ports.megabot)
  const socket = await frames(`${server.megabot}?token=${body.token}`)
  await socket.frame('connection_established')
  return Object.assign(socket, { token: body.token })
}

let frameId = 0
const tell = (socket, type, payload) => socket.tell({ id: `e${++frameId}`, type, payload })

async function done(asked) {
  const ack = await asked
  assert.equal(ack.success, true, JSON.stringify(ack))
  return ack
}

/** One connection of every kind, each with `over`: it takes part in something at last, so that all before must have come. */
async function outsiders(lobby) {
  const all = {}
  const user = await mxfUser()
  all['MXF user'] = Object.assign(user, { over: async () => {
    const agentId = fresh('late')
    await done(user.ask('agent:register', { agentId, name: 'Late', channelId: fresh('own') }))
    await done(user.ask('channel:join', { channelId: lobby, agentId }))
    return () => user.event('message', message => message.content === 'over')
  } })

  const other = fresh('other-room')
  await server.cli('room', 'add', other)
  const agent = packets(server.http, await server.channelKey(fresh('outsider'), other))
  await agent.event('auth:success')
  all['MXF agent'] = Object.assign(agent, { over: async () => {
    const agentId = (await agent.event('auth:success')).data.agentId
    await done(agent.ask('channel:join', { channelId: lobby, agentId }))
    return () => agent.event('message', message => message.content === 'over')
  } })

  const own = packets(`${server.http}/dev/aiwm/chat`, { token: await server.aiwmToken(fresh('outsider')) })
  await own.event('presence:update')
  all['AIWM agent'] = own
  all['AIWM user'] = await aiwmUser('/dev/aiwm/chat')
  all['AIWM user on /'] = await aiwmUser('')
  for (const kind of ['AIWM agent', 'AIWM user', 'AIWM user on /']) {
    all[kind].over = async () => {
      await done(all[kind].ask('conversation:join', { conversationId: lobby }))
      return () => all[kind].event('message:new', message => message.content === 'over')
    }
  }

  all['MegaBot guest'] = await frames(`${server.megabot}?user_id=${fresh('guest')}`)
  all['MegaBot user'] = await megabotUser()
  for (const kind of ['MegaBot guest', 'MegaBot user']) {
    all[kind].over = async () => {
      tell(all[kind], 'session_join', { session_id: lobby })
      await all[kind].frame('session_joined')
      return () => all[kind].frame('chat_receive', frame => frame.payload.content === 'over')
    }
  }
  return all
}

/** Those who watch agents and nodes, and may see no more than that. */
async function watchers() {
  const hive = await frames(server.hive)
  await hive.frame('hive_status_update')
  hive.over = async () => {
    const last = fresh('last')
    await server.cli('agent', 'add', last)
    return () => hive.frame('agent_created', frame => frame.data.agent.id === last)
  }

  const { token } = await server.cli('token', 'issue', '--node', fresh('watcher'))
  const openAgi = await frames(`${server.openAgi}?token=${token}`)
  openAgi.tell({ type: 'subscribe', channels: CHANNELS })
  await openAgi.frame('subscribed', frame => frame.data.channels.length === CHANNELS.length)
  openAgi.over = async () => {
    const node = fresh('node')
    const late = await server.cli('token', 'issue', '--node', node)
    const socket = await frames(`${server.openAgi}?token=${late.token}`)
    await openAgi.frame('network_event', frame => frame.event === 'node_joined' && frame.data.node_id === node)
    socket.terminate()
    return async () => {}
  }
  return { 'Hive guest': hive, 'Open-A.G.I subscriber': openAgi }
}

test('who is in nothing hears nothing', async t => {
  const lobby = fresh('lobby')
  const den = fresh('den')
  const vault = fresh('vault')
  for (const room of [lobby, den]) await server.cli('room', 'add', room)
  const out = await outsiders(lobby)
  const watching = await watchers()
  const open = [...Object.values(out), ...Object.values(watching)]
  t.after(() => open.forEach(socket => (socket.terminate ?? socket.close).call(socket)))

  // What nobody outside may get, and what those may get who watch agents.
  const secrets = [vault, den]
  const names = []
  const word = () => { secrets.push(fresh('hush')); return secrets.at(-1) }

  // A private channel of MXF, whose owner issues keys, with two agents in it.
  const owner = await mxfUser()
  open.push(owner)
  owner.emit('channel:create', { eventId: 'c', eventType: 'channel:create', timestamp: 1, agentId: 'owner', channelId: vault,
    data: { name: word(), description: word(), isPrivate: true, metadata: { note: word() } } })
  await owner.event('channel:created')
  const [ada, bob] = await Promise.all(['ada', 'bob'].map(async stem => {
    const agentId = fresh(stem)
    names.push(agentId)
    owner.emit('key:generate', { eventId: agentId, eventType: 'key:generate', timestamp: 1, agentId: 'owner', channelId: vault,
      data: { channelId: vault, agentId, name: fresh('key') } })
    const { keyId, secretKey } = (await owner.event('key:generated', key => key.data.agentId === agentId)).data.data
    secrets.push(keyId, secretKey)
    const socket = packets(server.http, { domainKey: server.credentials.domain_key, agentId, keyId, secretKey })
    open.push(socket)
    await socket.event('auth:success')
    return Object.assign(socket, { agentId })
  }))
  const [said, broadcast, direct, tag] = [word(), word(), word(), word()]
  await done(ada.ask('message:send', { channelId: vault, content: said, metadata: { tags: [tag] } }))
  await done(ada.ask('message:broadcast', { channelId: vault, content: broadcast, type: 'alert' }))
  await done(ada.ask('message:direct', { targetAgentId: bob.agentId, content: direct }))
  ada.emit('agent:status', { agentId: ada.agentId, status: 'busy' })
  const made = fresh('made')
  names.push(made)
  await done(owner.ask('agent:register', { agentId: made, name: 'Made', channelId: vault, capabilities: ['listening'] }))

  // An open room that the outsiders did not enter: AIWM and MegaBot.
  const scribe = fresh('scribe')
  names.push(scribe)
  const { secret } = await server.cli('agent', 'add', scribe)
  const { body } = await server.post(`/dev/aiwm/agents/${scribe}/connect`, { secret })
  const agent = packets(`${server.http}/dev/aiwm/chat`, { token: body.accessToken })
  await agent.event('presence:update')
  const person = await aiwmUser('/dev/aiwm/chat')
  const chatter = await megabotUser()
  open.push(agent, person, chatter)
  secrets.push(secret, body.accessToken, person.token, chatter.token)
  for (const member of [agent, person]) await done(member.ask('conversation:join', { conversationId: den }))
  tell(chatter, 'session_join', { session_id: den })
  await chatter.frame('session_joined')
  const [answer, thought, chat] = [word(), word(), word()]
  await done(agent.ask('message:typing', { conversationId: den, isTyping: true }))
  const told = await done(agent.ask('message:send', { conversationId: den, role: 'assistant', content: answer, thinking: { visible: true, content: thought, duration: 5 } }))
  await done(agent.ask('message:typing', { conversationId: den, isTyping: false }))
  await done(person.ask('message:read', { conversationId: den, messageId: told.message._id }))
  tell(chatter, 'chat_send', { session_id: den, content: chat })
  secrets.push(told.message._id)

  // Keys and tokens of people, made meanwhile.
  const { username, password } = await account()
  const key = await server.cli('key', 'add', '--user', username)
  secrets.push(password, key.key, (await server.cli('token', 'issue', '--user', username)).token)

  // The members did get it all.
  const heardIn = (socket, text) => socket.event('message', message => message.content === text)
  assert.deepEqual((await heardIn(bob, said)).data.metadata.tags, [tag])
  await heardIn(bob, broadcast)
  await bob.event('direct_message', message => message.content === direct)
  await person.event('agent:typing')
  await person.event('message:new', message => message.content === answer && JSON.stringify(message).includes(thought))
  await chatter.frame('chat_receive', frame => frame.payload.content === answer)
  await agent.event('message:read', read => read.messageId === told.message._id)
  for (const member of [agent, person]) await member.event('message:new', message => message.content === chat)
  for (const socket of [bob, agent, person, chatter]) socket.close()
  await watching['Hive guest'].frame('agent_status_changed', frame => frame.data.agent_id === bob.agentId && frame.data.reason === 'connection_lost')

  // Now something comes that is for everybody; whatever was wrongly sent before is there by then.
  const waits = await Promise.all([...Object.values(out), ...Object.values(watching)].map(socket => socket.over()))
  await server.cli('send', lobby, 'over')
  await Promise.all(waits.map(wait => wait()))

  for (const [who, socket] of Object.entries({ ...out, ...watching })) {
    const text = socket.heard.join('\n')
    assert.ok(socket.heard.length > 0, `${who} got frames`)
    const hidden = who in out ? [...secrets, ...names] : secrets
    for (const hush of hidden) {
      assert.ok(!text.includes(hush), `${who} got ${hush}: ${socket.heard.find(frame => frame.includes(hush))}`)
    }
  }
  // The search finds what is there: the members' own frames have the words.
  for (const [socket, hush] of [[bob, said], [bob, direct], [person, answer], [chatter, answer], [owner, vault]]) {
    assert.ok(socket.heard.join('\n').includes(hush), hush)
  }
  // And a watcher sees that agents come and go.
  for (const name of names) assert.ok(watching['Hive guest'].heard.join('\n').includes(name), name)
})
