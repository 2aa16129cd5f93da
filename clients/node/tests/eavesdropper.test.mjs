// Whoever is in nothing hears nothing: one outsider of every kind listens while others converse, and every frame that any of
// them got is searched for the words that were not for them. Who watches agents, nodes or alerts sees those, and that alone.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Server, fresh, socketIo, webSocket } from '../harness.mjs'

const CHANNELS = ['network_events', 'consensus_events', 'security_events', 'monitoring_events']

let server
// Alerts come soon after they have a cause.
before(async () => { server = await Server.start(['figures.interval=300ms']) })
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

async function account(...options) {
  const username = fresh('user')
  const { password } = await server.cli('user', 'add', username, ...options)
  return { username, password }
}

async function mxfUser() {
  const known = await account()
  const socket = packets(server.http, { domainKey: server.credentials.domain_key, ...known })
  await socket.event('auth:success')
  return Object.assign(socket, known)
}

async function aiwmUser(namespace) {
  const known = await account()
  const { body } = await server.post('/dev/aiwm/auth/login', known)
  const socket = packets(`${server.http}${namespace}`, { token: body.accessToken })
  await socket.event('connect')
  return Object.assign(socket, known, { token: body.accessToken })
}

async function megabotUser(...options) {
  const known = await account(...options)
  const { body } = await server.post('/api/auth/login', known, server.ports.megabot)
  const socket = await frames(`${server.megabot}?token=${body.token}`)
  await socket.frame('connection_established')
  return Object.assign(socket, known, { token: body.token })
}

/** Somebody without an account who talks with the agent of a token; both are in a conversation of their own. */
async function visitor() {
  const { username, password } = await account('--role', 'owner')
  const { body } = await server.post('/dev/aiwm/auth/login', { username, password })
  const agentId = fresh('hostess')
  await server.cli('agent', 'add', agentId)
  const made = await fetch(`${server.http}/dev/aiwm/agents/${agentId}/anonymous-token`, {
    method: 'POST', headers: { Authorization: `Bearer ${body.accessToken}` },
  })
  const socket = packets(`${server.http}/ws/chat`, { token: (await made.json()).token })
  await socket.event('presence:update')
  return socket
}

let frameId = 0
const tell = (socket, type, payload) => socket.tell({ id: `e${++frameId}`, type, payload })

async function done(asked) {
  const ack = await asked
  assert.equal(ack.success, true, JSON.stringify(ack))
  return ack
}

/** A token of AIWM's own login. */
async function aiwmLogin() {
  const { body } = await server.post('/dev/aiwm/auth/login', await account())
  return { token: body.accessToken }
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

  const raw = await frames(`ws://127.0.0.1:${server.ports.main}/dev/aiwm/chat?token=${(await aiwmLogin()).token}`)
  all['AIWM user on a plain WebSocket'] = Object.assign(raw, { over: async () => {
    raw.tell({ event: 'conversation:join', id: 1, data: { conversationId: lobby } })
    await raw.inbox.first('its ack', item => item.event === 'ack' && item.data.success)
    return () => raw.inbox.first('the end', item => item.event === 'message:new' && item.data.content === 'over')
  } })

  const anonymous = await visitor()
  all['AIWM visitor'] = Object.assign(anonymous, { over: async () => {
    // Speaks with itself: what it hears comes in the order of the log.
    return () => done(anonymous.ask('message:send', { role: 'user', content: 'over' }))
  } })

  // Who has not said who it is gets no word of anything.
  const { username, password } = await account()
  const stranger = packets(server.http, { domainKey: server.credentials.domain_key, username, password: 'wrong' })
  await stranger.event('auth:error')
  all['MXF socket that failed to log in'] = Object.assign(stranger, { over: async () => {
    stranger.emit('auth', { domainKey: server.credentials.domain_key, username, password })
    await stranger.event('auth:success')
    const agentId = fresh('late')
    await done(stranger.ask('agent:register', { agentId, name: 'Late', channelId: fresh('own') }))
    await done(stranger.ask('channel:join', { channelId: lobby, agentId }))
    return () => stranger.event('message', message => message.content === 'over')
  } })

  all['MegaBot guest'] = await frames(`${server.megabot}?user_id=${fresh('guest')}`)
  all['MegaBot user'] = await megabotUser()
  const { username: owner } = await account()
  const { key } = await server.cli('key', 'add', '--user', owner)
  all['MegaBot user by key'] = await frames(server.megabot, { headers: { 'X-API-Key': key } })
  all['MegaBot operator'] = Object.assign(await megabotUser('--role', 'owner'), { may: ['alerts'] })
  for (const kind of ['MegaBot guest', 'MegaBot user', 'MegaBot user by key', 'MegaBot operator']) {
    all[kind].over = async () => {
      tell(all[kind], 'session_join', { session_id: lobby })
      await all[kind].frame('session_joined')
      return () => all[kind].frame('chat_receive', frame => frame.payload.content === 'over')
    }
  }
  return all
}

/** Those who watch: each with what it `may` see, and `over`. */
async function watchers() {
  const all = {}
  const { username } = await account()
  const { token } = await server.cli('token', 'issue', '--user', username)
  const { key } = await server.cli('key', 'add', '--user', username)
  const doors = {
    'Hive guest': [server.hive, {}],
    'Hive user': [`${server.hive}?token=${token}`, {}],
    'Hive user by key': [server.hive, { headers: { 'X-API-Key': key } }],
  }
  for (const [who, [url, options]] of Object.entries(doors)) {
    const hive = await frames(url, options)
    await hive.frame('hive_status_update')
    all[who] = Object.assign(hive, { may: ['agents', 'alerts'], over: async () => {
      const last = fresh('last')
      await server.cli('agent', 'add', last)
      return () => hive.frame('agent_created', frame => frame.data.agent.id === last)
    } })
  }

  const channels = {
    'Open-A.G.I node on all channels': [CHANNELS, ['nodes', 'alerts']],
    'Open-A.G.I node on the network': [['network_events'], ['nodes']],
    'Open-A.G.I node on monitoring': [['monitoring_events'], ['alerts']],
    'Open-A.G.I node on consensus and security': [['consensus_events', 'security_events'], []],
    'Open-A.G.I node on nothing': [[], []],
    'Open-A.G.I user on all channels': [CHANNELS, ['nodes', 'alerts']],
  }
  for (const [who, [wanted, may]] of Object.entries(channels)) {
    const bearer = who.includes('user')
      ? ['--user', (await account()).username, '--dialect', 'openagi']
      : ['--node', fresh('watcher')]
    const node = await frames(`${server.openAgi}?token=${(await server.cli('token', 'issue', ...bearer)).token}`)
    // Also without channels: who has said anything is not subscribed by itself.
    node.tell(wanted.length > 0 ? { type: 'subscribe', channels: wanted } : { type: 'ping' })
    await (wanted.length > 0 ? node.frame('subscribed') : node.frame('pong'))
    // What was said before is handed out before a later ping is answered.
    all[who] = Object.assign(node, { may, over: async () => async () => {
      const pongs = node.inbox.all(item => item.type === 'pong').length
      node.tell({ type: 'ping' })
      await node.inbox.atLeast(pongs + 1, 'pong', item => item.type === 'pong')
    } })
  }
  return all
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

  // What nobody outside may get, and what those may get who watch it.
  const secrets = [vault, den]
  const watched = { agents: [], nodes: [], alerts: [] }
  const names = watched.agents
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
  secrets.push(owner.username)
  await done(owner.ask('channel:update', { channelId: vault, updates: { name: word(), description: word(), metadata: { [word()]: word() } } }))
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
  secrets.push(secret, body.accessToken, person.token, chatter.token, person.username, chatter.username)
  for (const member of [agent, person]) await done(member.ask('conversation:join', { conversationId: den }))
  tell(chatter, 'session_join', { session_id: den })
  await chatter.frame('session_joined')
  const [answer, thought, chat] = [word(), word(), word()]
  await done(agent.ask('message:typing', { conversationId: den, isTyping: true }))
  const answered = await done(agent.ask('message:send', { conversationId: den, role: 'assistant', content: answer, thinking: { visible: true, content: thought, duration: 5 } }))
  await done(agent.ask('message:typing', { conversationId: den, isTyping: false }))
  await done(person.ask('message:read', { conversationId: den, messageId: answered.message._id }))
  tell(chatter, 'chat_send', { session_id: den, content: chat })
  secrets.push(answered.message._id)

  // Keys and tokens of people, made meanwhile.
  const { username, password } = await account()
  const key = await server.cli('key', 'add', '--user', username)
  secrets.push(password, key.key, (await server.cli('token', 'issue', '--user', username)).token)

  // Alterations of shared text, a node that comes and goes, and an alert with a cause.
  const edit = word()
  tell(chatter, 'collaborative_action', { session_id: den, action: 'text_edit', data: { text: edit } })
  const node = fresh('node')
  watched.nodes.push(node)
  const { token: nodeToken } = await server.cli('token', 'issue', '--node', node)
  secrets.push(nodeToken)
  const passing = await frames(`${server.openAgi}?token=${nodeToken}`)
  const network = watching['Open-A.G.I node on the network']
  await network.frame('network_event', frame => frame.event === 'node_joined' && frame.data.node_id === node)
  passing.terminate()
  // Every form of an alert has its limit.
  const threshold = 0.0137 + process.pid / 1e10
  const alert = String(threshold)
  watched.alerts.push(alert)
  const asked = await server.post('/metrics/alerts', { alerts: [{ name: 'Memory in use', metric: 'memory_usage', condition: 'greater_than', threshold, severity: 'warning' }] })
  assert.equal(asked.status, 201, JSON.stringify(asked.body))
  for (const [who, socket] of Object.entries({ ...out, ...watching })) {
    if (!socket.may?.includes('alerts')) continue
    await socket.inbox.first(`${alert} at the ${who}`, frame => JSON.stringify(frame).includes(alert))
  }

  // The members did get it all.
  const heardIn = (socket, text) => socket.event('message', message => message.content === text)
  assert.deepEqual((await heardIn(bob, said)).data.metadata.tags, [tag])
  await heardIn(bob, broadcast)
  await bob.event('direct_message', message => message.content === direct)
  await person.event('agent:typing')
  await person.event('message:new', message => message.content === answer && JSON.stringify(message).includes(thought))
  await chatter.frame('chat_receive', frame => frame.payload.content === answer)
  await agent.event('message:read', read => read.messageId === answered.message._id)
  for (const member of [agent, person]) await member.event('message:new', message => message.content === chat)
  for (const socket of [bob, agent, person, chatter]) socket.close()
  await watching['Hive guest'].frame('agent_status_changed', frame => frame.data.agent_id === bob.agentId && frame.data.reason === 'connection_lost')

  // Now something comes that is for everybody; whatever was wrongly sent before is there by then.
  const waits = await Promise.all([...Object.values(out), ...Object.values(watching)].map(socket => socket.over()))
  await server.cli('send', lobby, 'over')
  for (const wait of waits) await wait()

  for (const [who, socket] of Object.entries({ ...out, ...watching })) {
    const text = socket.heard.join('\n')
    assert.ok(socket.heard.length > 0, `${who} got frames`)
    for (const hush of secrets) {
      assert.ok(!text.includes(hush), `${who} got ${hush}: ${socket.heard.find(frame => frame.includes(hush))}`)
    }
    for (const [what, words] of Object.entries(watched)) {
      for (const hush of words) {
        const got = socket.heard.find(frame => frame.includes(hush))
        if (socket.may?.includes(what)) assert.ok(got, `${who} did not get ${hush}`)
        else assert.ok(!got, `${who} got ${hush}: ${got}`)
      }
    }
  }
  // The search finds what is there: the members' own frames have the words.
  for (const [socket, hush] of [[bob, said], [bob, direct], [person, answer], [chatter, answer], [owner, vault]]) {
    assert.ok(socket.heard.join('\n').includes(hush), hush)
  }
})
