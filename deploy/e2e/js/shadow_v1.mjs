// Shadows by the AWS IoT Device SDK for JavaScript, version 1.
import awsIot from 'aws-iot-device-sdk'
import { Refused, run, within } from './shadow_checks.mjs'

const env = process.env

function make(clientId, thing, heard) {
  let c
  const waiting = new Map() // by token
  // The SDK works on one request for a thing at a time.
  const ask = (op, ...args) => within(`answer to ${op}`, new Promise((resolve, reject) => {
    const token = c[op](thing, ...args)
    token === null ? reject(new Error(`${op} was not sent`)) : waiting.set(token, { resolve, reject })
  }))
  return {
    connect: () => new Promise((resolve, reject) => {
      c = awsIot.thingShadow({
        clientId, host: 'localhost', protocol: 'mqtts', port: Number(env.IOT_MQTT_PORT),
        caPath: env.AWS_CA_BUNDLE, keyPath: env.IOT_KEY, certPath: env.IOT_CERT
      }, { operationTimeout: 60000 })
      c.on('error', reject)
      c.on('status', (_, status, token, doc) => {
        const w = waiting.get(token)
        waiting.delete(token)
        status === 'accepted' ? w?.resolve(doc) : w?.reject(new Refused(doc.code))
      })
      c.on('timeout', (_, token) => waiting.get(token)?.reject(new Error('no answer')))
      c.on('delta', (_, doc) => heard(undefined, doc.version, doc.state))
      c.once('connect', () => c.register(thing, { ignoreDeltas: false, persistentSubscribe: true }, () => resolve()))
    }),
    watch: async () => {},
    get: () => ask('get'),
    update: (_, state) => ask('update', { state }),
    remove: () => ask('delete'),
    disconnect: () => new Promise(resolve => c.end(false, resolve))
  }
}

run(make, { named: false, versions: false }).catch(err => { console.error(err); process.exit(1) })
