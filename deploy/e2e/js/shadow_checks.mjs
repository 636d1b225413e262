// What every IoT SDK is asked to do with shadows: see sdk_test.go.
import assert from 'node:assert/strict'
import { Inbox, within } from './checks.mjs'

export { within }

const ok = what => console.log('ok', what)

// A request that was refused.
export class Refused extends Error {
  constructor(code) { super(`refused: ${code}`); this.code = code }
}

async function refused(code, call) {
  try { await call() } catch (err) {
    if (!(err instanceof Refused)) throw err
    assert.equal(err.code, code)
    return
  }
  throw new Error(`not refused with ${code}`)
}

// run tries the clients of make(id, thing, heard): connect(), watch(name), get(name)
// and update(name, state, version) with a document {state, version}, remove(name),
// disconnect(), all promises; heard(name, version, state) is told of differences. A name of
// undefined is the classic shadow.
export async function run(make, { named, versions }) {
  const variant = process.argv[2]
  const thing = `js-${variant}`
  const deltas = new Inbox()
  const device = make(`${variant}-device`, thing, (name, version, state) => deltas.put(name, JSON.stringify({ version, state })))
  const operator = make(`${variant}-operator`, thing, () => {})
  for (const c of [device, operator]) await within('connection', c.connect())
  for (const name of named ? [undefined, 'config'] : [undefined]) {
    const kind = name ? 'named ' : ''
    await refused(404, () => device.get(name))
    const first = await device.update(name, { reported: { mode: 'auto', level: 1 } })
    assert.equal(first.version, 1)
    ok(`${kind}update`)
    const doc = await device.get(name)
    assert.deepEqual([doc.state, doc.version], [{ reported: { mode: 'auto', level: 1 } }, 1])
    ok(`${kind}get`)
    await within('SUBACK', device.watch(name))
    await operator.update(name, { desired: { level: 2 } })
    await deltas.expect(name, JSON.stringify({ version: 2, state: { level: 2 } }))
    await device.update(name, { reported: { level: 2 } })
    ok(`${kind}delta`)
    if (versions) {
      await refused(409, () => device.update(name, { reported: { level: 3 } }, 1))
      ok(`${kind}version conflict`)
    }

    // Both ends change it while they are apart, and agree when they meet.
    await within('end', device.disconnect())
    await operator.get(name) // it may send the version that it knows
    await operator.update(name, { desired: { level: 7, fan: true } })
    await operator.update(name, { desired: { fan: null } })
    await within('connection', device.connect())
    const local = { mode: 'manual', level: 2, ...(await device.get(name)).state.delta }
    await device.update(name, { reported: local })
    for (const end of [device, operator]) {
      assert.deepEqual((await end.get(name)).state, { desired: { level: 7 }, reported: { mode: 'manual', level: 7 } })
    }
    ok(`${kind}offline edits`)

    await operator.remove(name)
    await refused(404, () => device.get(name))
    ok(`${kind}delete`)
  }
  for (const c of [device, operator]) await within('end', c.disconnect())
  console.log('done')
  process.exit(0)
}
