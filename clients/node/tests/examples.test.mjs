// The sample clients under examples/node and examples/shell, each a process of its own that is given host, port and credentials only.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { Inbox, Server, fresh, socketIo, webSocket } from '../harness.mjs'

const EXAMPLES = fileURLToPath(new URL('../../../examples/node', import.meta.url))
const SHELL = fileURLToPath(new URL('../../../examples/shell', import.meta.url))
const LIBRARIES = fileURLToPath(new URL('../node_modules', import.meta.url))

let server
let folder
before(async () => {
  server = await Server.start(['figures.interval=200ms'])
  // A folder of its own with the locked libraries, as after `npm install`.
  folder = await mkdtemp(path.join(os.tmpdir(), 'roundtable-examples-'))
  await cp(EXAMPLES, folder, { recursive: true, filter: source => path.basename(source) !== 'node_modules' })
  await symlink(LIBRARIES, path.join(folder, 'node_modules'))
})
after(async () => {
  await server?.close()
  if (folder) await rm(folder, { recursive: true, force: true })
})

/** Runs an example with `--once`, or for as long as the test lasts: `line(pattern)` waits for one of its lines, `ended()` for exit 0. */
function example(t, name, words, env = {}, last = ['--once']) {
  const shell = name.endsWith('.sh')
  const program = shell ? ['sh', path.join(SHELL, name)] : [process.execPath, path.join(folder, name)]
  const child = spawn(program[0], [program[1], '127.0.0.1', ...words.map(String), ...last], {
    env: { PATH: `${path.join(LIBRARIES, '.bin')}:${process.env.PATH}`, ...env }, stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  })
  // With what it started itself.
  t.after(() => { try { process.kill(-child.pid, 'SIGKILL') } catch { /* all of it is gone */ } })
  const gone = once(child, 'exit')
  const inbox = new Inbox()
  for (const pipe of [child.stdout, child.stderr]) {
    let rest = ''
    pipe.setEncoding('utf8').on('data', text => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()
      lines.forEach(line => inbox.put(line))
    })
  }
  gone.then(([code]) => inbox.put(`exit ${code}`))
  return {
    say: text => child.stdin.write(text),
    line: async pattern => (await inbox.first(pattern, line => pattern.test(line))).match(pattern),
    lines: async (count, pattern) => { await inbox.atLeast(count, pattern, line => pattern.test(line)) },
    ended: async (code = 0) => {
      assert.equal(await inbox.first('its end', line => line.startsWith('exit ')), `exit ${code}`, inbox.items.join('\n'))
    },
  }
}

/** The memory is used more than a user wants: a resource alert, once. */
async function scarce() {
  const alerts = [{ name: fresh('memory'), metric: 'memory_usage', condition: 'greater_than', threshold: 0.001 }]
  const { status } = await server.post('/metrics/alerts', { alerts })
  assert.equal(status, 201)
}

async function account() {
  const username = fresh('user')
  const { password } = await server.cli('user', 'add', username)
  return { username, password }
}

test('what the examples ask for is what the tests have', async () => {
  const asked = async folder => JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')).dependencies
  assert.deepEqual(await asked(EXAMPLES), await asked(path.dirname(LIBRARIES)))
})

test('the MXF agent registers, speaks and hears itself', async t => {
  const { username, password } = await account()
  const channel = fresh('channel')
  const env = { MXF_DOMAIN_KEY: server.credentials.domain_key, MXF_USERNAME: username, MXF_PASSWORD: password }
  await example(t, 'mxf-agent.mjs', [server.ports.main, channel], env).ended()
  assert.deepEqual(await server.history(channel), [{ from: `agent:${username}-example`, text: `${username}-example is here` }])
  const wrong = example(t, 'mxf-agent.mjs', [server.ports.main, channel], { ...env, MXF_PASSWORD: 'wrong' })
  await wrong.line(/^Authentication failed - please provide valid/)
  await wrong.ended(1)
})

test('the AIWM agent answers a user', async t => {
  const AIWM_AGENT_ID = fresh('agent')
  const { secret } = await server.cli('agent', 'add', AIWM_AGENT_ID)
  const agent = example(t, 'aiwm-agent.mjs', [server.ports.main], { AIWM_AGENT_ID, AIWM_AGENT_SECRET: secret })
  const [, conversationId] = await agent.line(/^conversation (\S+)$/)
  const { body } = await server.post('/dev/aiwm/auth/login', await account())
  const person = socketIo(`${server.http}/dev/aiwm/chat`, { auth: { token: body.accessToken } })
  t.after(() => person.close())
  await person.event('connect')
  await person.ask('conversation:join', { conversationId })
  await person.ask('message:send', { conversationId, role: 'user', content: 'Is it raining?' })
  await person.event('message:new', message => message.content === 'You said: Is it raining?' && message.participantId === AIWM_AGENT_ID)
  await agent.ended()
  const wrong = example(t, 'aiwm-agent.mjs', [server.ports.main], { AIWM_AGENT_ID, AIWM_AGENT_SECRET: 'wrong' })
  await wrong.line(/Invalid credentials/)
  await wrong.ended(1)
})

test('the Hive dashboard sees the state and a new agent', async t => {
  const { token } = await server.cli('token', 'issue', '--user', (await account()).username)
  for (const env of [{}, { HIVE_TOKEN: token }]) {
    const dashboard = example(t, 'hive-dashboard.mjs', [server.ports.main], env)
    await dashboard.line(/^(healthy|degraded|unhealthy): \d+ of \d+ agents active$/)
    await scarce()
    await dashboard.line(/^alert: memory at \d+\.\d %, above 0\.001 %$/)
    const id = fresh('agent')
    await server.cli('agent', 'add', id)
    await dashboard.line(new RegExp(`^new agent ${id} `))
    await dashboard.ended()
  }
  const wrong = example(t, 'hive-dashboard.mjs', [server.ports.main], { HIVE_TOKEN: 'wrong' })
  await wrong.line(/^refused: Invalid credentials$/)
  await wrong.ended(1)
})

test('the Open-A.G.I subscriber sees a node join', async t => {
  const subscriber = example(t, 'open-agi-subscriber.mjs', [server.ports.openAgi, fresh('watcher')])
  await subscriber.line(/^subscribed to network_events$/)
  const node = fresh('node')
  const { token } = await server.cli('token', 'issue', '--node', node)
  const other = await webSocket(`${server.openAgi}?token=${token}`)
  t.after(() => other.terminate())
  await subscriber.line(new RegExp(`^node_joined ${node}$`))
  await subscriber.ended()
  const wrong = example(t, 'open-agi-subscriber.mjs', [server.ports.openAgi], { OPEN_AGI_TOKEN: 'wrong' })
  await wrong.line(/Invalid token/)
  await wrong.ended(1)
})

test('two MegaBot chats hear each other', async t => {
  const session = fresh('session')
  const { username, password } = await account()
  const first = example(t, 'megabot-chat.mjs', [server.ports.megabot, session, 'anybody?'])
  await first.line(/^in \S+ with 1$/)
  const other = await webSocket(`${server.megabot}?user_id=${fresh('ada')}`)
  t.after(() => other.terminate())
  other.tell({ id: 'j', type: 'session_join', payload: { session_id: session } })
  await other.frame('session_joined')
  const second = example(t, 'megabot-chat.mjs', [server.ports.megabot, session, 'me'], { MEGABOT_USERNAME: username, MEGABOT_PASSWORD: password })
  await first.line(new RegExp(`^${username}: me$`))
  await first.ended()
  await other.frame('chat_receive', frame => frame.payload.content === 'me')
  other.tell({ id: 's', type: 'chat_send', payload: { session_id: session, content: 'and me' } })
  await second.line(/: and me$/)
  await second.ended()
  const wrong = example(t, 'megabot-chat.mjs', [server.ports.megabot, session], { MEGABOT_USERNAME: username, MEGABOT_PASSWORD: 'wrong' })
  await wrong.line(/no login: Invalid credentials/)
  await wrong.ended(1)
})

test('who is left without a word comes back: the Hive dashboard and the MegaBot chat', async t => {
  const own = await Server.start()
  t.after(() => own.close())
  const session = fresh('session')
  const username = fresh('user')
  const { password } = await own.cli('user', 'add', username)
  const dashboard = example(t, 'hive-dashboard.mjs', [own.ports.main], {}, [])
  await dashboard.lines(1, /^connected$/)
  const chat = example(t, 'megabot-resilient.mjs', [own.ports.megabot, session], { MEGABOT_USERNAME: username, MEGABOT_PASSWORD: password })
  await chat.line(new RegExp(`^in ${session} with 1$`))
  const other = async text => {
    const socket = await webSocket(`${own.megabot}?user_id=${fresh('ada')}`)
    t.after(() => socket.terminate())
    socket.tell({ id: 'j', type: 'session_join', payload: { session_id: session } })
    await socket.frame('session_joined')
    socket.tell({ id: 's', type: 'chat_send', payload: { session_id: session, content: text } })
    return socket
  }
  const ada = await other('before')
  await chat.line(/: before$/)
  chat.say('one\ntwo\nthree\n')
  for (const text of ['one', 'two', 'three']) await ada.frame('chat_receive', frame => frame.payload.content === text)
  await own.end('SIGKILL')
  await own.up()
  await other('meanwhile')
  await chat.line(/^reconnecting \(1\/5\)$/)
  await chat.line(new RegExp(`^resumed as ${username}$`))
  await chat.line(/: meanwhile$/)
  await chat.ended()
  await dashboard.lines(2, /^connected$/)
  const id = fresh('agent')
  await own.cli('agent', 'add', id)
  await dashboard.line(new RegExp(`^new agent ${id} `))
})

test('the MXF agent in shell registers over long-polling, speaks and hears itself', async t => {
  const { username, password } = await account()
  const channel = fresh('channel')
  const env = { MXF_DOMAIN_KEY: server.credentials.domain_key, MXF_USERNAME: username, MXF_PASSWORD: password }
  const agent = example(t, 'mxf-agent.sh', [server.ports.main, channel], env)
  await agent.line(new RegExp(`^registered ${username}-shell in ${channel}$`))
  await agent.line(new RegExp(`^${username}-shell: ${username}-shell is here$`))
  await agent.ended()
  assert.deepEqual(await server.history(channel), [{ from: `agent:${username}-shell`, text: `${username}-shell is here` }])
  const wrong = example(t, 'mxf-agent.sh', [server.ports.main, channel], { ...env, MXF_PASSWORD: 'wrong' })
  await wrong.line(/^Authentication failed - please provide valid/)
  await wrong.ended(1)
  const stranger = example(t, 'mxf-agent.sh', [server.ports.main, channel], { ...env, MXF_DOMAIN_KEY: 'wrong' })
  await stranger.line(/^refused: 44\{"message":"Invalid domain key"/)
  await stranger.ended(1)
})

test('an MXF agent that types by hand comes in by its key', async t => {
  const [agent, room] = [fresh('agent'), fresh('room')]
  await server.cli('room', 'add', room)
  const { keyId, secretKey } = await server.channelKey(agent, room)
  const typed = example(t, 'mxf-key.sh', [server.ports.main], { MXF_KEY_ID: keyId, MXF_SECRET_KEY: secretKey })
  await typed.line(new RegExp(`^in ${room}$`))
  await typed.line(new RegExp(`^${agent}: typed by hand$`))
  await typed.ended()
  const wrong = example(t, 'mxf-key.sh', [server.ports.main], { MXF_KEY_ID: keyId, MXF_SECRET_KEY: 'wrong' })
  await wrong.line(/^Authentication failed - please provide valid/)
  await wrong.ended(1)
})

test('the AIWM agent in shell answers a user over long-polling', async t => {
  const AIWM_AGENT_ID = fresh('agent')
  const { secret } = await server.cli('agent', 'add', AIWM_AGENT_ID)
  const agent = example(t, 'aiwm-agent.sh', [server.ports.main], { AIWM_AGENT_ID, AIWM_AGENT_SECRET: secret })
  const [, conversationId] = await agent.line(/^conversation (\S+)$/)
  const { body } = await server.post('/dev/aiwm/auth/login', await account())
  const person = socketIo(`${server.http}/dev/aiwm/chat`, { auth: { token: body.accessToken } })
  t.after(() => person.close())
  await person.event('connect')
  await person.ask('conversation:join', { conversationId })
  await person.ask('message:send', { conversationId, role: 'user', content: 'Is it "raining"?' })
  await person.event('message:new', message => message.content === 'You said: Is it "raining"?' && message.participantId === AIWM_AGENT_ID)
  await agent.ended()
  const wrong = example(t, 'aiwm-agent.sh', [server.ports.main], { AIWM_AGENT_ID, AIWM_AGENT_SECRET: 'wrong' })
  await wrong.line(/^no token: Invalid credentials$/)
  await wrong.ended(1)
})

test('the Hive dashboard in shell sees the health and a new agent', async t => {
  const { token } = await server.cli('token', 'issue', '--user', (await account()).username)
  for (const env of [{}, { HIVE_TOKEN: token }]) {
    const dashboard = example(t, 'hive-dashboard.sh', [server.ports.main], env)
    await dashboard.line(/^health: (healthy|degraded|unhealthy)$/)
    await dashboard.line(/^status: \S+$/)
    await scarce()
    await dashboard.line(/^alert: memory is used too much$/)
    const id = fresh('agent')
    await server.cli('agent', 'add', id)
    await dashboard.line(new RegExp(`^new agent ${id}$`))
    await dashboard.ended()
  }
  const wrong = example(t, 'hive-dashboard.sh', [server.ports.main], { HIVE_TOKEN: 'wrong' })
  await wrong.line(/^UNAUTHORIZED: Invalid credentials$/)
  await wrong.ended(1)
})

test('the Open-A.G.I subscriber in shell sees a node join', async t => {
  const subscriber = example(t, 'open-agi-subscriber.sh', [server.ports.openAgi, fresh('watcher')])
  await subscriber.line(/^network: \S+$/)
  await subscriber.line(/^subscribed to network_events$/)
  const node = fresh('node')
  const { token } = await server.cli('token', 'issue', '--node', node)
  const other = await webSocket(`${server.openAgi}?token=${token}`)
  t.after(() => other.terminate())
  await subscriber.line(new RegExp(`^node_joined ${node}$`))
  await subscriber.ended()
  const wrong = example(t, 'open-agi-subscriber.sh', [server.ports.openAgi, ''], { OPEN_AGI_TOKEN: 'wrong' })
  await wrong.ended(1)
})

test('the MegaBot chat in shell speaks and hears', async t => {
  const session = fresh('session')
  const { username, password } = await account()
  const person = await webSocket(`${server.megabot}?user_id=${fresh('ada')}`)
  t.after(() => person.terminate())
  person.tell({ id: 'j', type: 'session_join', payload: { session_id: session } })
  await person.frame('session_joined')
  const words = [server.ports.megabot, session]
  const guest = example(t, 'megabot-chat.sh', [...words, 'any "body"?'])
  await person.frame('chat_receive', frame => frame.payload.content === 'any "body"?')
  const user = example(t, 'megabot-chat.sh', [...words, 'me'], { MEGABOT_USERNAME: username, MEGABOT_PASSWORD: password })
  await guest.line(new RegExp(`^${username}: me$`))
  await guest.ended()
  await person.frame('chat_receive', frame => frame.payload.user_id === username)
  person.tell({ id: 's', type: 'chat_send', payload: { session_id: session, content: 'and me' } })
  await user.line(/: and me$/)
  await user.ended()
  const wrong = example(t, 'megabot-chat.sh', [...words, 'me'], { MEGABOT_USERNAME: username, MEGABOT_PASSWORD: 'wrong' })
  await wrong.line(/^no login: Invalid credentials$/)
  await wrong.ended(1)
})
