// AWS IoT Device SDK for JavaScript, version 1: mutual TLS, and WebSocket with SigV4.
import { readFileSync } from 'node:fs'
import awsIot from 'aws-iot-device-sdk'
import { run } from './checks.mjs'

const env = process.env
const wss = process.argv[2].includes('wss')
const key = name => new RegExp(`${name}\\s*=\\s*(\\S+)`).exec(readFileSync(env.AWS_SHARED_CREDENTIALS_FILE, 'utf8'))[1]

run((clientId, clean, will, inbox) => {
  let c
  return {
    connect: () => new Promise((resolve, reject) => {
      c = awsIot.device({
        clientId, clean, host: 'localhost', will: will ? { ...will, qos: 1 } : undefined, caPath: env.AWS_CA_BUNDLE,
        ...(wss
          ? { protocol: 'wss', port: Number(env.IOT_HTTPS_PORT), region: env.AWS_REGION, accessKeyId: key('aws_access_key_id'), secretKey: key('aws_secret_access_key') }
          : { protocol: 'mqtts', port: Number(env.IOT_MQTT_PORT), keyPath: env.IOT_KEY, certPath: env.IOT_CERT })
      })
      c.on('message', (topic, payload) => inbox.put(topic, payload))
      c.once('connect', resolve)
      c.on('error', reject)
    }),
    subscribe: topic => new Promise((resolve, reject) => c.subscribe(topic, { qos: 1 }, (err, granted) => {
      err || granted[0].qos !== 1 ? reject(err ?? new Error(JSON.stringify(granted))) : resolve()
    })),
    publish: (topic, payload) => new Promise((resolve, reject) => c.publish(topic, payload, { qos: 1 }, err => err ? reject(err) : resolve())),
    disconnect: () => new Promise(resolve => c.end(false, resolve))
  }
}).catch(err => { console.error(err); process.exit(1) })
