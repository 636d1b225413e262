// What every IoT SDK is asked to do: see sdk_test.go.
import { fork } from 'node:child_process'

const patience = 60000 // ms; what is waited for comes at once, but on a busy machine

export class Inbox {
  constructor() { this.topics = new Map() }
  of(topic) {
    if (!this.topics.has(topic)) this.topics.set(topic, { got: [], waiting: [] })
    return this.topics.get(topic)
  }
  put(topic, payload) {
    const t = this.of(topic)
    const text = typeof payload === 'string' ? payload : Buffer.from(payload).toString()
    t.waiting.length ? t.waiting.shift()(text) : t.got.push(text)
  }
  async expect(topic, payload) {
    const t = this.of(topic)
    const got = t.got.length ? t.got.shift() : await within(`message on ${topic}`, new Promise(r => t.waiting.push(r)))
    if (got !== payload) throw new Error(`${topic}: got ${got}, want ${payload}`)
  }
}

// within fails when p takes too long.
export function within(what, p) {
  let timer
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no ${what}`)), patience) })
  return Promise.race([p, late]).finally(() => clearTimeout(timer))
}

const ok = what => console.log('ok', what)

// run tries the clients of make(id, clean, will, inbox): connect(),
// subscribe(topic), publish(topic, payload), disconnect(), all promises.
export async function run(make) {
  const variant = process.argv[2]
  const prefix = `js/${variant}`
  if (process.argv[3] === 'will') { // a process of its own, which is killed
    await make(`js-${variant}-w`, true, { topic: `${prefix}/will`, payload: 'gone' }, new Inbox()).connect()
    process.send('up')
    setInterval(() => {}, 1000)
    return
  }
  let inbox = new Inbox()
  const a = make(`js-${variant}-a`, true, null, inbox)
  await within('connection', a.connect())
  ok('connect')
  for (const name of ['x', 'will']) await within('SUBACK', a.subscribe(`${prefix}/${name}`))
  ok('subscribe')
  await within('PUBACK', a.publish(`${prefix}/x`, 'hello'))
  await inbox.expect(`${prefix}/x`, 'hello')
  ok('publish and receive')

  const other = fork(process.argv[1], [variant, 'will'])
  await within('client with a will', new Promise(r => other.on('message', r)))
  other.kill('SIGKILL')
  await inbox.expect(`${prefix}/will`, 'gone')
  ok('will')

  let d = make(`js-${variant}-d`, false, null, new Inbox())
  await within('connection', d.connect())
  await within('SUBACK', d.subscribe(`${prefix}/d`))
  await within('end', d.disconnect())
  await within('PUBACK', a.publish(`${prefix}/d`, 'missed'))
  inbox = new Inbox()
  d = make(`js-${variant}-d`, false, null, inbox)
  await within('connection', d.connect())
  await inbox.expect(`${prefix}/d`, 'missed')
  ok('durable session')
  await within('end', d.disconnect())
  await within('end', a.disconnect())
  console.log('done')
  process.exit(0)
}
