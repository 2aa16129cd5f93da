// What the tests of real Node clients share: a server of their own, and an inbox per client.
//
// Every test file starts its own server with data in a temporary folder, on ports that were free, and ends exactly that
// process.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { io } from 'socket.io-client'
import WebSocket from 'ws'

const TOP = fileURLToPath(new URL('../..', import.meta.url))
export const BINARY = path.resolve(TOP, process.env.ROUNDTABLE_BIN ?? 'target/debug/roundtable')
/** How long anything may take before a test gives up, in milliseconds: a busy build machine is slow. */
const PATIENCE = 10_000

const run = promisify(execFile)
const pause = ms => new Promise(done => setTimeout(done, ms))

/** One running `roundtable serve`, with what a person would read from its data directory. */
export class Server {
  /** Starts a server with fresh data. `settings` are `key=value` strings. */
  static async start(settings = []) {
    const server = new Server(await mkdtemp(path.join(os.tmpdir(), 'roundtable-node-')), settings)
    await server.up()
    return server
  }

  constructor(data, settings) {
    Object.assign(this, { data, settings, ports: { main: 0, megabot: 0, openAgi: 0 }, said: '' })
  }

  get http() { return `http://127.0.0.1:${this.ports.main}` }
  get hive() { return `ws://127.0.0.1:${this.ports.main}/ws` }
  get megabot() { return `ws://127.0.0.1:${this.ports.megabot}/ws` }
  get openAgi() { return `ws://127.0.0.1:${this.ports.openAgi}/api/v1/ws` }

  /** The arguments that say where it listens. */
  listening() {
    const { main, megabot, openAgi } = this.ports
    const listen = [`127.0.0.1:${main}=hive`, `127.0.0.1:${megabot}=megabot`, `127.0.0.1:${openAgi}=auto`]
    return listen.flatMap(address => ['--listen', address])
  }

  /** Starts the process on the same data and, after the first time, the same ports; waits until it serves. */
  async up() {
    this.child = spawn(BINARY, [
      'serve', '--data', this.data,
      ...this.listening(),
      // Tests of one server fail to log in on purpose, all from one address.
      '--set', 'security.failed_logins=off',
      ...this.settings.flatMap(setting => ['--set', setting]),
    ], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.gone = once(this.child, 'exit')
    for (const pipe of [this.child.stdout, this.child.stderr]) {
      pipe.setEncoding('utf8').on('data', text => { this.said = (this.said + text).slice(-20_000) })
    }
    const deadline = Date.now() + PATIENCE
    let place
    while ((place = await this.read('server.json'))?.pid !== this.child.pid) {
      if (this.child.exitCode !== null) throw new Error(`the server ended at once:\n${this.said}`)
      if (Date.now() > deadline) throw new Error(`the server does not serve:\n${this.said}`)
      await pause(20)
    }
    const [first, second, third] = place.listeners.map(({ address }) => Number(address.split(':').pop()))
    this.ports = { main: first, megabot: second, openAgi: third }
    this.credentials = await this.read('credentials.json')
  }

  /** A JSON file of the data directory; null if it is not there or not whole yet. */
  async read(name) {
    try {
      return JSON.parse(await readFile(path.join(this.data, name), 'utf8'))
    } catch {
      return null
    }
  }

  /** Ends this process, and no other, with a signal; then waits until it is gone. */
  async end(signal = 'SIGTERM') {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal)
    await this.gone
  }

  /** Ends the server for good and removes its data. */
  async close() {
    await this.end('SIGKILL')
    await rm(this.data, { recursive: true, force: true })
  }

  /** Runs the command line against this server; gives what it prints as JSON. */
  async cli(...words) {
    const done = run(BINARY, [...words, '--json', '--data', this.data], { timeout: PATIENCE, maxBuffer: 64 << 20 })
    done.child.stdin.end()
    return JSON.parse((await done).stdout)
  }

  /** A new agent with a key for one room: what an MXF agent socket sends as `auth`. */
  async channelKey(agentId, room) {
    await this.cli('agent', 'add', agentId)
    const key = await this.cli('key', 'add', '--agent', agentId, '--room', room)
    return { domainKey: this.credentials.domain_key, agentId, keyId: key.key_id, secretKey: key.secret }
  }

  /** A new agent and a token that it may use as an AIWM agent. */
  async aiwmToken(agentId) {
    const { secret } = await this.cli('agent', 'add', agentId)
    const answer = await this.post(`/dev/aiwm/agents/${agentId}/connect`, { secret })
    if (answer.status !== 200) throw new Error(`no token: ${answer.status} ${JSON.stringify(answer.body)}`)
    return answer.body.accessToken
  }

  /** POSTs JSON to the main listener, or to another one by its port. */
  async post(route, body, port = this.ports.main) {
    const answer = await fetch(`http://127.0.0.1:${port}${route}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    })
    return { status: answer.status, headers: answer.headers, body: await answer.json() }
  }

  /** What was said in a room, oldest first, as the log has it: `{from, text}`. */
  async history(room) {
    const all = []
    for (;;) {
      const before = all.length ? ['--before', all[0].cursor] : []
      const { messages } = await this.cli('room', 'history', room, '--limit', '1000', ...before)
      if (messages.length === 0) break
      all.unshift(...messages)
    }
    return all.map(({ actor, event }) => ({ from: actor, text: event.content.text }))
  }
}

/** A server whose listeners all speak TLS, with certificates of an authority of its own. */
export class EncryptedServer extends Server {
  static async start(settings = []) {
    const server = new EncryptedServer(await mkdtemp(path.join(os.tmpdir(), 'roundtable-node-')), settings)
    await server.issue('first')
    await server.up()
    return server
  }

  get http() { return super.http.replace('http:', 'https:') }
  get hive() { return super.hive.replace('ws:', 'wss:') }
  get megabot() { return super.megabot.replace('ws:', 'wss:') }
  get openAgi() { return super.openAgi.replace('ws:', 'wss:') }

  listening() {
    const tls = `{ certificate = "${this.data}/certificate.pem", key = "${this.data}/key.pem" }`
    const one = (name, bareWs) => `{ address = "127.0.0.1:${this.ports[name]}", bare_ws = "${bareWs}", tls = ${tls} }`
    const all = [one('main', 'hive'), one('megabot', 'megabot'), one('openAgi', 'auto')]
    return ['--set', `server.listen=[${all.join(', ')}]`]
  }

  /** Makes a certificate with this common name that vouches for itself; clients trust it as `ca`. */
  async issue(name) {
    await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
      '-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
      '-keyout', path.join(this.data, 'key.pem'), '-out', path.join(this.data, 'new.pem')])
    this.ca = await readFile(path.join(this.data, 'new.pem'), 'utf8')
    await writeFile(path.join(this.data, 'certificate.pem'), this.ca)
  }
}

/** A stretch of network before a port of the server: it can go silent, so that neither side notices the other's end. */
export class Wire {
  static async to(port) {
    const wire = new Wire()
    wire.pairs = []
    wire.listener = net.createServer(near => {
      const far = net.connect(port, '127.0.0.1')
      for (const [from, to] of [[near, far], [far, near]]) {
        from.on('data', bytes => { if (!wire.pairs.find(pair => pair.near === near)?.silent) to.write(bytes) })
        from.on('close', () => { if (!wire.pairs.find(pair => pair.near === near)?.silent) to.destroy() })
        from.on('error', () => {})
      }
      wire.pairs.push({ near, far, silent: false })
    })
    wire.listener.listen(0, '127.0.0.1')
    await once(wire.listener, 'listening')
    wire.port = wire.listener.address().port
    return wire
  }

  /** From now on nothing of the present connections gets through, in either direction, not even their end. */
  silence() {
    for (const pair of this.pairs) pair.silent = true
  }

  close() {
    for (const { near, far } of this.pairs) { near.destroy(); far.destroy() }
    this.listener.close()
  }
}

/** Everything a client was told, in order; a test waits for what it expects or fails with what came instead. */
export class Inbox {
  constructor() {
    this.items = []
    this.waiting = new Set()
  }

  put(item) {
    this.items.push(item)
    for (const look of this.waiting) look()
  }

  all(wanted) {
    return this.items.filter(wanted)
  }

  /** The first item that is wanted, whether it came already or comes in time. */
  async first(what, wanted) {
    return (await this.atLeast(1, what, wanted))[0]
  }

  /** At least so many items that are wanted. */
  async atLeast(count, what, wanted) {
    const found = () => this.all(wanted)
    if (found().length < count) {
      await new Promise((done, fail) => {
        const look = () => {
          if (found().length < count) return
          clearTimeout(timer)
          this.waiting.delete(look)
          done()
        }
        const timer = setTimeout(() => {
          this.waiting.delete(look)
          const came = JSON.stringify(this.items.slice(-12), null, 1)
          fail(new Error(`waited for ${count} × ${what}, got ${found().length}; the newest of ${this.items.length}: ${came}`))
        }, PATIENCE)
        this.waiting.add(look)
      })
    }
    return found()
  }
}

/** A Socket.IO client with an inbox of `{name, data, args}`. Nothing is retried behind the test's back. */
export function socketIo(url, options = {}) {
  const socket = io(url, { reconnection: false, forceNew: true, timeout: PATIENCE, ...options })
  const inbox = new Inbox()
  socket.onAny((name, ...args) => inbox.put({ name, data: args[0], args }))
  socket.on('connect', () => inbox.put({ name: 'connect' }))
  socket.on('connect_error', error => inbox.put({ name: 'connect_error', data: { message: error.message, ...error.data }, error }))
  socket.on('disconnect', reason => inbox.put({ name: 'disconnect', data: reason }))
  return Object.assign(socket, {
    inbox,
    event: (name, wanted = () => true) => inbox.first(name, item => item.name === name && wanted(item.data)),
    ask: (name, ...args) => socket.timeout(PATIENCE).emitWithAck(name, ...args),
  })
}

/** A plain WebSocket client with an inbox of parsed frames; its close is `{closed, reason}`. */
export async function webSocket(url, options = {}) {
  const socket = new WebSocket(url, { handshakeTimeout: PATIENCE, ...options })
  const inbox = new Inbox()
  socket.on('message', raw => inbox.put(JSON.parse(raw.toString())))
  socket.on('close', (closed, reason) => inbox.put({ closed, reason: reason.toString() }))
  socket.on('ping', () => inbox.put({ pinged: true }))
  await once(socket, 'open')
  return Object.assign(socket, {
    inbox,
    tell: frame => socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame)),
    frame: (type, wanted = () => true) => inbox.first(type, item => item.type === type && wanted(item)),
    closing: () => inbox.first('close', item => 'closed' in item),
  })
}

/** The HTTP status with which a server refuses a WebSocket. */
export async function refusedUpgrade(url, options = {}) {
  const socket = new WebSocket(url, { handshakeTimeout: PATIENCE, ...options })
  socket.on('error', () => {})
  const opened = once(socket, 'open').then(() => { socket.terminate(); return 101 }, () => 0)
  const refused = once(socket, 'unexpected-response').then(([request, response]) => { request.destroy(); return response.statusCode })
  return Promise.race([opened.then(status => status || refused), refused])
}

/** Waits until a Socket.IO client that began with polling speaks WebSocket. */
export async function upgraded(socket) {
  const { engine } = socket.io
  if (engine.transport.name !== 'websocket') await once(engine, 'upgrade', { signal: AbortSignal.timeout(PATIENCE) })
}

/** What `look` finds once it finds something; it is asked again and again until then. */
export async function eventually(look, missing = 'nothing came') {
  const deadline = Date.now() + PATIENCE
  for (;;) {
    const found = await look()
    if (found) return found
    if (Date.now() > deadline) throw new Error(missing)
    await new Promise(done => setTimeout(done, 20))
  }
}

let number = 0
/** A name that no other test of this run uses. */
export const fresh = stem => `${stem}-${process.pid}-${++number}`
