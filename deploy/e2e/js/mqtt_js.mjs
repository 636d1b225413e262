// MQTT.js, MQTT 3.1.1 and 5: see mqtt_clients_test.go.
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import mqtt from 'mqtt'

const env = process.env
const version = process.argv[2]
const five = version === '5'
const patience = 60000 // ms until something must have come
const quiet = 300 // ms until it would have come
const prefix = `mqtt-js/${version}`
const pause = ms => new Promise(resolve => setTimeout(resolve, ms))
const ok = what => console.log('ok', what)

function want(got, expected) {
  if (!isDeepStrictEqual(got, expected)) throw new Error(`got ${JSON.stringify(got)}, want ${JSON.stringify(expected)}`)
}

// until waits for a condition, and then whether more comes.
async function until(condition) {
  for (const end = Date.now() + patience; !condition() && Date.now() < end;) await pause(5)
  await pause(quiet)
}

// A connected client and what came to it: [packet, ...].
class Peer {
  static async connect(name, options = {}) {
    const p = new Peer()
    p.got = []
    p.c = mqtt.connect({
      protocol: 'mqtts', host: 'localhost', port: Number(env.IOT_MQTT_PORT), clientId: `mqtt-js-${version}-${name}`, protocolVersion: five ? 5 : 4,
      ca: readFileSync(env.AWS_CA_BUNDLE), cert: readFileSync(env.IOT_CERT), key: readFileSync(env.IOT_KEY), reconnectPeriod: 0, ...options
    })
    p.c.on('message', (topic, payload, packet) => p.got.push({ ...packet, topic, payload: payload.toString() }))
    p.connack = await new Promise((resolve, reject) => {
      p.c.once('connect', resolve)
      p.c.once('error', reject)
    })
    return p
  }

  async subscribe(name, qos, options = {}) {
    const granted = await this.c.subscribeAsync(name, { qos, ...options })
    want(granted.map(g => g.qos), [qos])
  }

  publish(name, payload, qos = 1, options = {}) { return this.c.publishAsync(name, payload, { qos, ...options }) }

  // expect waits for all of the payloads, in any order, and no more.
  async expect(...payloads) {
    await until(() => this.got.length >= payloads.length)
    const got = this.got
    this.got = []
    want(got.map(m => m.payload).sort(), payloads.sort())
    return got
  }

  end() { return this.c.endAsync() }

  // drop breaks the connection.
  async drop() {
    this.c.stream.destroy()
    await this.c.endAsync(true)
  }
}

async function keepAlive() {
  const a = await Peer.connect('k', { keepalive: 3600 })
  want(a.connack.properties.serverKeepAlive, 1200)
  ok('server keep alive')
  await a.end()
}

async function main() {
  const a = await Peer.connect('a', { autoUseTopicAlias: five, autoAssignTopicAlias: five })
  const b = await Peer.connect('b')

  const pairs = [0, 1, 2].flatMap(sent => [0, 1, 2].map(granted => [sent, granted]))
  for (const qos of [0, 1, 2]) await b.subscribe(`${prefix}/qos/${qos}`, qos)
  for (const [sent, granted] of pairs) await a.publish(`${prefix}/qos/${granted}`, `${sent}${granted}`, sent)
  for (const m of await b.expect(...pairs.map(([s, g]) => `${s}${g}`))) {
    want([m.qos, m.retain, m.dup], [Math.min(...[...m.payload].map(Number)), false, false])
    want(m.topic, `${prefix}/qos/${m.payload[1]}`)
  }
  ok('qos 0, 1 and 2')

  for (const n of [0, 1, 2]) await a.publish(`${prefix}/kept/${n}`, `kept ${n}`, n, { retain: true })
  await b.subscribe(`${prefix}/kept/+`, 2)
  for (const m of await b.expect('kept 0', 'kept 1', 'kept 2')) want([m.retain, m.qos], [true, Number(m.topic.at(-1))])
  for (const n of [0, 1, 2]) await a.publish(`${prefix}/kept/${n}`, '', n, { retain: true })
  want((await b.expect('', '', '')).map(m => m.retain), [false, false, false])
  const c = await Peer.connect('c')
  await c.subscribe(`${prefix}/kept/#`, 2)
  await c.expect()
  ok('retained messages')

  await b.subscribe(`${prefix}/will/#`, 1)
  await (await Peer.connect('w', { will: { topic: `${prefix}/will/x`, payload: Buffer.from('gone'), qos: 1 } })).drop()
  await b.expect('gone')
  await (await Peer.connect('w', { will: { topic: `${prefix}/will/x`, payload: Buffer.from('not sent'), qos: 1 } })).end()
  await b.expect()
  ok('will')

  const durable = { clean: false, ...(five ? { properties: { sessionExpiryInterval: 300 } } : {}) }
  let d = await Peer.connect('d', durable)
  want(d.connack.sessionPresent, false)
  await d.subscribe(`${prefix}/d/+`, 2)
  await d.end()
  for (const qos of [0, 1, 2]) await a.publish(`${prefix}/d/${qos}`, `missed ${qos}`, qos)
  if (five) {
    await a.publish(`${prefix}/d/old`, 'expires', 1, { properties: { messageExpiryInterval: 1 } })
    await a.publish(`${prefix}/d/new`, 'stays', 1, { properties: { messageExpiryInterval: 600 } })
    await pause(1500)
  }
  d = await Peer.connect('d', durable)
  want(d.connack.sessionPresent, true)
  const missed = await d.expect('missed 1', 'missed 2', ...(five ? ['stays'] : []))
  if (five) {
    const left = missed.find(m => m.payload === 'stays').properties.messageExpiryInterval
    want(left > 300 && left < 600, true)
    ok('message expiry')
  }
  await d.end()
  d = await Peer.connect('d')
  want(d.connack.sessionPresent, false)
  await a.publish(`${prefix}/d/1`, 'nobody')
  await d.expect()
  ok('durable session')

  await b.subscribe(`${prefix}/over/#`, 2)
  await b.subscribe(`${prefix}/over/x`, 1)
  await a.publish(`${prefix}/over/x`, 'both', 2)
  await until(() => b.got.length > 0)
  const over = b.got // one, or one for each subscription [MQTT-3.3.5-1]
  b.got = []
  want([Math.max(...over.map(m => m.qos)), over.every(m => m.payload === 'both'), over.length <= 2], [2, true, true])
  ok('overlapping subscriptions')

  await c.subscribe(`$share/g/${prefix}/job/#`, 1)
  await d.subscribe(`$share/g/${prefix}/job/#`, 1)
  for (let n = 0; n < 20; n++) await a.publish(`${prefix}/job/${n}`, String(n))
  await until(() => c.got.length + d.got.length >= 20)
  want([c.got.length > 0, d.got.length > 0], [true, true])
  want([...c.got, ...d.got].map(m => Number(m.payload)).sort((x, y) => x - y), [...Array(20).keys()])
  c.got = []
  d.got = []
  ok('shared subscription')

  if (five) {
    await b.subscribe(`${prefix}/props/#`, 1)
    const user = Object.assign(Object.create(null), { k: ['1', '2'], 'é': 'ü' })
    await a.publish(`${prefix}/props/x`, 'p', 1, { properties: { userProperties: user, contentType: 'text/plain', payloadFormatIndicator: true } })
    const { userProperties, contentType, payloadFormatIndicator } = (await b.expect('p'))[0].properties
    want([{ ...userProperties }, contentType, payloadFormatIndicator], [{ ...user }, 'text/plain', true])
    ok('user properties')

    // Both ways: MQTT.js sends aliases by itself, and undoes those of the bridge
    // (but not in messages with QoS 2, whose topic it loses).
    const r = await Peer.connect('r', { properties: { topicAliasMaximum: 4 } })
    const cut = []
    r.c.on('packetreceive', p => { if (p.cmd === 'publish') cut.push(p.topic === '') })
    await r.subscribe(`${prefix}/props/alias`, 1)
    want(a.connack.properties.topicAliasMaximum > 0, true)
    const sent = []
    a.c.on('packetsend', p => { if (p.cmd === 'publish') sent.push([p.topic === '', p.properties?.topicAlias > 0]) })
    for (const n of ['1', '2', '3']) await a.publish(`${prefix}/props/alias`, n)
    want(sent, [[false, true], [true, true], [true, true]])
    for (const p of [b, r]) {
      const got = await p.expect('1', '2', '3')
      want([...new Set(got.map(m => m.topic))], [`${prefix}/props/alias`])
    }
    want(cut, [false, true, true])
    await r.end()
    ok('topic alias')

    await a.subscribe(`${prefix}/answer`, 1)
    await a.publish(`${prefix}/props/ask`, '?', 1, { properties: { responseTopic: `${prefix}/answer`, correlationData: Buffer.from([0, 1]) } })
    const q = (await b.expect('?'))[0].properties
    await b.publish(q.responseTopic, '!', 1, { properties: { correlationData: q.correlationData } })
    want([...(await a.expect('!'))[0].properties.correlationData], [0, 1])
    ok('request and response')

    await a.publish(`${prefix}/opts/kept`, 'kept', 1, { retain: true })
    await c.subscribe(`${prefix}/opts/#`, 1, { nl: true, rap: true, rh: 2 })
    await c.publish(`${prefix}/opts/own`, 'own')
    await c.expect()
    await a.publish(`${prefix}/opts/kept`, 'again', 1, { retain: true })
    want((await c.expect('again'))[0].retain, true)
    await a.publish(`${prefix}/opts/kept`, '', 1, { retain: true })
    ok('subscription options')
  }
  for (const p of [a, b, c, d]) await p.end()
}

(process.argv[3] === 'keep-alive' ? keepAlive() : main()).then(() => process.exit(0), err => { console.error(err); process.exit(1) })
