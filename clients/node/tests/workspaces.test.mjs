// Workspaces are closed to each other: the same names in two of them, MXF and AIWM clients in each, and nobody hears the other.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Server, socketIo, webSocket } from '../harness.mjs'

let server
const homes = {}
before(async () => {
  server = await Server.start()
  const made = await server.cli('workspace', 'add', 'acme')
  for (const [name, domainKey] of [['default', server.credentials.domain_key], ['acme', made.domain_key]]) {
    const cli = (...words) => server.cli(...words, '--workspace', name)
    await cli('room', 'add', 'lobby')
    await cli('agent', 'add', 'scout')
    await cli('agent', 'add', 'helper')
    const key = await cli('key', 'add', '--agent', 'scout', '--room', 'lobby')
    const { token } = await cli('token', 'issue', '--agent', 'helper')
    const { token: mxf } = await cli('token', 'issue', '--agent', 'scout', '--dialect', 'mxf')
    homes[name] = { cli, domainKey, key: { keyId: key.key_id, secretKey: key.secret }, token, mxf }
  }
})
after(() => server.close())

const options = { transports: ['websocket'] }

/** An MXF agent `scout` and an AIWM agent `helper` in the room `lobby` of one workspace. */
async function party(name) {
  const { domainKey, key, token } = homes[name]
  const scout = socketIo(server.http, { auth: { domainKey, agentId: 'scout', ...key }, ...options })
  await scout.event('auth:success')
  const helper = socketIo(`${server.http}/dev/aiwm/chat`, { auth: { token }, ...options })
  await helper.event('presence:update')
  const joined = await helper.ask('conversation:join', { conversationId: 'lobby' })
  assert.equal(joined.success, true, JSON.stringify(joined))
  return { scout, helper, close() { scout.close(); helper.close() } }
}

/** Why MXF does not let somebody in. */
async function refused(auth) {
  const socket = socketIo(server.http, { auth, ...options })
  try {
    const why = await socket.inbox.first('refusal', ({ name }) => ['connect_error', 'auth:error'].includes(name))
    return why.data.message ?? why.data.error
  } finally {
    socket.close()
  }
}

const heard = socket => socket.inbox.items
  .filter(({ name }) => ['message', 'message:new'].includes(name)).map(({ data }) => data.content)

test('equal names in two workspaces never meet', async t => {
  const [here, there] = [await party('default'), await party('acme')]
  t.after(() => { here.close(); there.close() })
  for (const [party, place] of [[here, 'default'], [there, 'acme']]) {
    const spoken = await party.scout.ask('message:send', { channelId: 'lobby', content: `scout in ${place}` })
    assert.equal(spoken.success, true, JSON.stringify(spoken))
    const written = await party.helper.ask('message:send', { conversationId: 'lobby', role: 'assistant', content: `helper in ${place}` })
    assert.equal(written.success, true, JSON.stringify(written))
  }
  for (const [party, place] of [[here, 'default'], [there, 'acme']]) {
    for (const socket of [party.scout, party.helper]) {
      await socket.event(socket === party.scout ? 'message' : 'message:new', ({ content }) => content === `helper in ${place}`)
      assert.deepEqual(heard(socket), [`scout in ${place}`, `helper in ${place}`])
    }
    const { messages } = await homes[place].cli('room', 'history', 'lobby')
    assert.deepEqual(messages.map(({ event }) => event.content.text), [`scout in ${place}`, `helper in ${place}`])
  }
  const direct = await here.scout.ask('message:direct', { targetAgentId: 'helper', content: 'a note in default' })
  assert.equal(direct.success, true, JSON.stringify(direct))
  const everything = JSON.stringify([there.scout.inbox.items, there.helper.inbox.items])
  assert.ok(!everything.includes('in default'), everything)
})

test('a credential of one workspace opens no other', async () => {
  const [ours, theirs] = [homes.default, homes.acme]
  const wrong = [
    { domainKey: theirs.domainKey, agentId: 'scout', ...ours.key },
    { domainKey: ours.domainKey, agentId: 'scout', ...theirs.key },
    { domainKey: ours.domainKey, token: theirs.mxf },
    { domainKey: 'of-nobody', agentId: 'scout', ...ours.key },
  ]
  for (const auth of wrong) assert.match(await refused(auth), /failed|key/, JSON.stringify(auth))
  for (const auth of [{ domainKey: theirs.domainKey, token: theirs.mxf }, { token: theirs.mxf }]) {
    const socket = socketIo(server.http, { auth, ...options })
    await socket.event('auth:success')
    socket.close()
  }
  const hive = await webSocket(`${server.hive}?token=${theirs.token}`)
  assert.equal((await hive.closing()).closed, 1008)
  await assert.rejects(theirs.cli('token', 'issue', '--agent', 'scout', '--dialect', 'megabot'), /default workspace/)
  await assert.rejects(server.cli('room', 'list', '--workspace', 'nowhere'), /no workspace nowhere/)
})

test('who is suspended in one workspace stays in the other, and all is there after a restart', async t => {
  const [here, there] = [await party('default'), await party('acme')]
  t.after(() => { here.close(); there.close() })
  await homes.acme.cli('agent', 'suspend', 'scout')
  await there.scout.event('disconnect')
  const said = await here.scout.ask('message:send', { channelId: 'lobby', content: 'still here' })
  assert.equal(said.success, true, JSON.stringify(said))
  assert.match(await refused({ domainKey: homes.acme.domainKey, agentId: 'scout', ...homes.acme.key }), /suspended|failed/)
  await homes.acme.cli('agent', 'resume', 'scout')
  await server.end()
  await server.up()
  const { workspaces } = await server.cli('workspace', 'list')
  assert.deepEqual(workspaces.map(({ workspace, default: first }) => [workspace, first]), [['acme', false], ['default', true]])
  const back = await party('acme')
  t.after(() => back.close())
  const { messages } = await homes.acme.cli('room', 'history', 'lobby')
  assert.deepEqual(messages.map(({ event }) => event.content.text), ['scout in acme', 'helper in acme'])
})
