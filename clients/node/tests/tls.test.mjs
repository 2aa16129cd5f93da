// Every dialect over TLS, with an authority of the test's own; and a new certificate while somebody is connected.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import https from 'node:https'
import path from 'node:path'
import { after, before, test } from 'node:test'
import tls from 'node:tls'

import { EncryptedServer, eventually, fresh, refusedUpgrade, socketIo, upgraded, webSocket } from '../harness.mjs'

let server
before(async () => { server = await EncryptedServer.start() })
after(() => server.close())

async function room() {
  const id = fresh('room')
  await server.cli('room', 'add', id)
  return id
}

const WAYS = { websocket: { transports: ['websocket'] }, polling: { transports: ['polling'] }, upgrade: {} }
for (const [way, options] of Object.entries(WAYS)) {
  test(`MXF agents converse over ${way}, and nothing is lost between many messages`, async t => {
    const channelId = await room()
    const agent = async () => {
      const auth = await server.channelKey(fresh('agent'), channelId)
      const socket = socketIo(server.http, { auth, ca: server.ca, ...options })
      await socket.event('auth:success')
      t.after(() => socket.close())
      return socket
    }
    const [ada, bob] = [await agent(), await agent()]
    if (way === 'upgrade') await Promise.all([upgraded(ada), upgraded(bob)])
    const sent = Array.from({ length: 40 }, (_, n) => `${n} ${'ü'.repeat(n * 150)}`)
    for (const content of sent) ada.emit('message:send', { channelId, content })
    const heard = await bob.inbox.atLeast(sent.length, 'message', item => item.name === 'message')
    assert.deepEqual(heard.map(item => item.data.content), sent)
    assert.equal(ada.io.engine.transport.name, way === 'polling' ? 'polling' : 'websocket')
  })
}

test('MegaBot, Hive and Open-A.G.I sockets work, and so does REST', async t => {
  const bot = await webSocket(`${server.megabot}?user_id=${fresh('person')}`, { ca: server.ca })
  await bot.frame('connection_established')
  bot.tell({ id: 'p', type: 'ping', payload: {} })
  await bot.frame('pong')
  const hive = await webSocket(server.hive, { ca: server.ca })
  await hive.frame('hive_status_update')
  const { token } = await server.cli('token', 'issue', '--node', fresh('node'))
  const node = await webSocket(`${server.openAgi}?token=${token}`, { ca: server.ca })
  node.tell({ type: 'ping' })
  await node.frame('pong')
  t.after(() => { for (const socket of [bot, hive, node]) socket.close() })
  const status = await get('/api/v1/security/status', { Authorization: `Bearer ${token}` })
  assert.equal(status.encryption_status, 'active')
})

/** What REST answers, as JSON. */
function get(route, headers = {}) {
  return new Promise((done, fail) => {
    https.get(`${server.http}${route}`, { ca: server.ca, agent: false, headers }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', part => { text += part }).on('end', () => done(JSON.parse(text)))
    }).on('error', fail)
  })
}

test('the page of an encrypted address may connect, on any port of this server, and a foreign one may not', async () => {
  const { main, megabot } = server.ports
  const come = origin => refusedUpgrade(server.hive, { ca: server.ca, origin })
  assert.equal(await come(`https://127.0.0.1:${main}`), 101)
  assert.equal(await come(`https://127.0.0.1:${megabot}`), 101)
  assert.equal(await come(`http://127.0.0.1:${main}`), 101, 'the scheme is not looked at')
  assert.equal(await come('https://127.0.0.1'), 403, 'the port of https is 443')
  assert.equal(await come(`https://evil.example:${main}`), 403)
  const pointed = { ca: server.ca, origin: `https://evil.example:${main}`, headers: { Host: `evil.example:${main}` } }
  assert.equal(await refusedUpgrade(server.hive, pointed), 403, 'a foreign name that points here')
})

test('clients that do not trust the certificate do not get through, nor does anything in the clear', async () => {
  await assert.rejects(webSocket(server.hive), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' })
  await assert.rejects(webSocket(server.hive.replace('wss:', 'ws:')))
})

/** The common name that a new handshake shows. */
function shown() {
  return new Promise((done, fail) => {
    const socket = tls.connect({ host: '127.0.0.1', port: server.ports.main, rejectUnauthorized: false }, () => {
      done(socket.getPeerCertificate().subject.CN)
      socket.destroy()
    })
    socket.on('error', fail)
  })
}

async function until(name) {
  await eventually(async () => (await shown()) === name, `${name} is not shown`)
}

test('a new certificate is taken while a connection lives, a broken one is not, and SIGHUP asks at once', async t => {
  const bot = await webSocket(`${server.megabot}?user_id=${fresh('person')}`, { ca: server.ca })
  t.after(() => bot.close())
  await until('first')
  await server.issue('second')
  await until('second')
  await writeFile(path.join(server.data, 'certificate.pem'), 'broken')
  server.child.kill('SIGHUP')
  await eventually(() => server.said.includes('the old one stays'), 'nothing is said of the broken one')
  assert.equal(await shown(), 'second')
  await server.issue('third')
  server.child.kill('SIGHUP')
  await until('third')
  // The connection of the first certificate goes on, the command line knows the newest.
  bot.tell({ id: 'p', type: 'ping', payload: {} })
  await bot.frame('pong')
  assert.ok(await room())
})

test('a client that knows HTTP/1.0 alone is served', async () => {
  const answer = await new Promise((resolve, reject) => {
    const options = { port: server.ports.main, host: '127.0.0.1', servername: 'localhost', ca: server.ca, ALPNProtocols: ['http/1.0'] }
    const socket = tls.connect(options, () => socket.write('GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n'))
    let text = ''
    socket.setEncoding('utf8').on('data', piece => { text += piece }).on('error', reject)
    socket.on('end', () => resolve([socket.alpnProtocol, text]))
  })
  assert.equal(answer[0], 'http/1.0')
  assert.match(answer[1], /^HTTP\/1\.[01] 200 /)
})
