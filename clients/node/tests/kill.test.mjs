// `kill -9` of the server under load: nothing that was acknowledged is missing, nothing is there twice.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'

import { Server, fresh, socketIo } from '../harness.mjs'

const WRITERS = 4
const UNDER_WAY = 8
const ROUNDS = 3
const LOAD_MS = 700

let server
before(async () => { server = await Server.start(['mxf.messages_per_minute=off']) })
after(() => server.close())

/** One writer: what it sent, what was acknowledged, and the same client ids for the same texts, always. */
class Writer {
  constructor(auth, room) {
    Object.assign(this, { auth, room, sent: [], acked: new Map(), next: 0 })
  }

  async connect() {
    this.socket = socketIo(server.http, { auth: this.auth, transports: ['websocket'] })
    await this.socket.event('auth:success')
  }

  async send(content) {
    const ack = await this.socket.ask('message:send', {
      channelId: this.room, content, metadata: { clientMessageId: content },
    })
    assert.equal(ack.success, true, JSON.stringify(ack))
    const before = this.acked.get(content)
    if (before !== undefined) assert.equal(ack.messageId, before)
    this.acked.set(content, ack.messageId)
  }

  /** Keeps some messages under way until the connection is gone. */
  async load() {
    const lane = async () => {
      while (this.socket.connected) {
        const content = `${this.auth.agentId} says ${this.next++}`
        this.sent.push(content)
        try {
          await this.send(content)
        } catch (error) {
          // The server is killed with messages under way; theirs are the acknowledgements that never come.
          if (this.socket.connected) throw error
        }
      }
    }
    await Promise.all(Array.from({ length: UNDER_WAY }, lane))
  }
}

/** How often each text stands in the room's history. */
async function written(room) {
  const counts = new Map()
  for (const { text } of await server.history(room)) counts.set(text, (counts.get(text) ?? 0) + 1)
  return counts
}

test('kill -9 under load loses nothing acknowledged and repeats nothing', async () => {
  const room = fresh('room')
  await server.cli('room', 'add', room)
  const writers = []
  for (let n = 0; n < WRITERS; n++) writers.push(new Writer(await server.channelKey(fresh('writer'), room), room))

  for (let round = 0; round < ROUNDS; round++) {
    await Promise.all(writers.map(writer => writer.connect()))
    const load = Promise.all(writers.map(writer => writer.load()))
    await pause(LOAD_MS)
    await server.end('SIGKILL')
    await load
    await server.up()

    const counts = await written(room)
    const acked = writers.flatMap(writer => [...writer.acked.keys()])
    const sent = new Set(writers.flatMap(writer => writer.sent))
    assert.ok(acked.length > 0, 'nothing was acknowledged: this round proves nothing')
    assert.deepEqual(acked.filter(text => !counts.has(text)), [], 'acknowledged but missing')
    assert.deepEqual([...counts].filter(([, count]) => count > 1), [], 'twice')
    assert.deepEqual([...counts.keys()].filter(text => !sent.has(text)), [], 'never sent')
  }

  // Sending everything again, under the ids it was first sent with, adds what was lost and nothing else.
  await Promise.all(writers.map(writer => writer.connect()))
  for (const writer of writers) {
    for (let at = 0; at < writer.sent.length; at += 64) {
      await Promise.all(writer.sent.slice(at, at + 64).map(content => writer.send(content)))
    }
    writer.socket.close()
  }
  const counts = await written(room)
  const sent = writers.flatMap(writer => writer.sent)
  assert.deepEqual(sent.filter(text => counts.get(text) !== 1), [])
  assert.equal(counts.size, sent.length)
})
