// Open-A.G.I where nobody is a guest: a node proves its key with a signature, gets a token, and opens its WebSocket.

import assert from 'node:assert/strict'
import { generateKeyPairSync, sign } from 'node:crypto'
import { after, before, describe, test } from 'node:test'

import { Server, eventually, fresh, webSocket } from '../harness.mjs'

/** A node with a key of its own. */
class Node {
  constructor(id = fresh('node')) {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    // The last 32 bytes of the DER form are the bare key.
    this.publicKey = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('base64')
    Object.assign(this, { id, privateKey })
  }

  post(server, more = {}) {
    return server.post('/api/v1/auth/token', { node_id: this.id, public_key: this.publicKey, ...more }, server.ports.openAgi)
  }

  answer(challenge, text = `${this.id}\n${challenge}`) {
    return { challenge, signature: sign(null, Buffer.from(text), this.privateKey).toString('base64') }
  }

  /** The whole exchange; what the second POST is answered. */
  async token(server) {
    const asked = await this.post(server)
    assert.equal(asked.status, 401, JSON.stringify(asked.body))
    return this.post(server, this.answer(asked.body.error.details.challenge))
  }
}

describe('the first key that is proved', () => {
  let server
  before(async () => { server = await Server.start(['auth.anonymous=false']) })
  after(() => server.close())

  test('gets a token that opens the WebSocket, and is shown with the node', async t => {
    const node = new Node()
    const asked = await node.post(server)
    const { challenge, expires_at } = asked.body.error.details
    assert.equal(asked.status, 401)
    assert.ok(Date.parse(expires_at) > Date.now() && Date.parse(expires_at) < Date.now() + 120_000)
    const { status, body } = await node.post(server, node.answer(challenge))
    assert.equal(status, 200, JSON.stringify(body))
    assert.equal(body.node_id, node.id)
    const socket = await webSocket(`${server.openAgi}?token=${body.token}`)
    t.after(() => socket.close())
    // A node is shown once it has joined, which is a moment after its socket has opened.
    const shown = await eventually(async () => {
      const answer = await fetch(`http://127.0.0.1:${server.ports.openAgi}/api/v1/node/${node.id}`, { headers: { Authorization: `Bearer ${body.token}` } })
      return answer.ok && await answer.json()
    })
    assert.equal(shown.public_key, node.publicKey)
    const { nodes } = await server.cli('node', 'list')
    assert.equal(nodes.find(one => one.node_id === node.id).public_key, node.publicKey)
  })

  test('is the only one of its node, until the operator says otherwise', async () => {
    const node = new Node()
    assert.equal((await node.token(server)).status, 200)
    assert.equal((await node.token(server)).status, 200, 'a new token at any time')
    const other = new Node(node.id)
    assert.equal((await other.post(server)).status, 403)
    await server.cli('node', 'bind', node.id, other.publicKey)
    assert.equal((await node.post(server)).status, 403)
    assert.equal((await other.token(server)).status, 200)
    await server.cli('node', 'forget', node.id)
    assert.equal((await node.token(server)).status, 200)
  })

  test('is proved with a challenge of its own, once', async () => {
    const [node, other] = [new Node(), new Node()]
    const challenge = async who => (await who.post(server)).body.error.details.challenge
    const mine = await challenge(node)
    const refused = async (who, more) => {
      const { status, body } = await who.post(server, more)
      assert.equal(status, 401, JSON.stringify(body))
      assert.ok(body.error.details.challenge, 'with a new one')
    }
    await refused(other, other.answer(mine))
    await refused(node, other.answer(mine, `${node.id}\n${mine}`))
    await refused(node, node.answer(mine, mine))
    await refused(node, node.answer('made-up'))
    const good = node.answer(mine)
    assert.equal((await node.post(server, good)).status, 200)
    await refused(node, good)
  })

  test('of two keys at once one is the first', async () => {
    const rivals = Array.from({ length: 6 }, () => new Node('rival'))
    const challenges = await Promise.all(rivals.map(async one => (await one.post(server)).body.error.details.challenge))
    const answers = await Promise.all(rivals.map((one, n) => one.post(server, one.answer(challenges[n]))))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 403, 403, 403, 403, 403])
  })

  test('stays bound over a restart', async () => {
    const node = new Node()
    assert.equal((await node.token(server)).status, 200)
    await server.end()
    await server.up()
    assert.equal((await new Node(node.id).post(server)).status, 403)
    assert.equal((await node.token(server)).status, 200)
  })
})

test('where the operator approves nodes, a key is worth nothing before', async t => {
  const server = await Server.start(['auth.anonymous=false', 'openagi.approve_nodes=true'])
  t.after(() => server.close())
  const node = new Node()
  const { status, body } = await node.post(server)
  assert.equal(status, 403)
  assert.equal(body.error.details.public_key, node.publicKey, 'what to approve')
  await server.cli('node', 'bind', node.id, node.publicKey)
  assert.equal((await node.token(server)).status, 200)
})
