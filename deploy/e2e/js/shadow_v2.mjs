// Shadows by the AWS IoT Device SDK for JavaScript, version 2: its first client of
// the service over MQTT 3.1.1, its second, by request and response, over MQTT 5.
import { iot, iotshadow, mqtt, mqtt5 } from 'aws-iot-device-sdk-v2'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Refused, run, within } from './shadow_checks.mjs'

const env = process.env
const port = Number(env.IOT_MQTT_PORT)
const cap = op => op[0].toUpperCase() + op.slice(1)
const document = answer => {
  const state = Object.fromEntries(['desired', 'reported', 'delta'].filter(k => answer.state?.[k] !== undefined).map(k => [k, answer.state[k]]))
  return { state, version: answer.version }
}
// which shadow, as the SDK names it.
const of = (thingName, name) => name ? ['Named', { thingName, shadowName: name }] : ['', { thingName }]

function three(id, thing, heard) {
  const b = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(env.IOT_CERT, env.IOT_KEY)
  b.with_certificate_authority_from_path(undefined, env.AWS_CA_BUNDLE)
  b.with_clean_session(true).with_client_id(id).with_endpoint('localhost').with_port(port)
  const waiting = new Map() // by token
  let c, shadow, listens
  const ask = async (op, name, more) => {
    const [kind, which] = of(thing, name)
    if (!listens.has(op + name)) {
      listens.add(op + name)
      for (const end of ['Accepted', 'Rejected']) {
        await shadow[`subscribeTo${cap(op)}${kind}Shadow${end}`](which, mqtt.QoS.AtLeastOnce, (err, answer) => {
          const w = waiting.get(answer?.clientToken)
          waiting.delete(answer?.clientToken)
          err ? w?.reject(err) : end === 'Accepted' ? w?.resolve(answer) : w?.reject(new Refused(answer.code))
        })
      }
    }
    const clientToken = randomUUID()
    const answer = within(`answer to ${op}`, new Promise((resolve, reject) => waiting.set(clientToken, { resolve, reject })))
    answer.catch(() => {}) // it may come before the PUBACK that is waited for first
    await shadow[`publish${cap(op)}${kind}Shadow`]({ ...which, clientToken, ...more }, mqtt.QoS.AtLeastOnce)
    return answer
  }
  return {
    connect: () => { // a connection that was closed is not used again
      c = new mqtt.MqttClient().new_connection(b.build())
      c.on('error', err => console.error(err))
      shadow = new iotshadow.IotShadowClient(c)
      listens = new Set()
      return c.connect()
    },
    watch: name => {
      const [kind, which] = of(thing, name)
      return shadow[`subscribeTo${kind}ShadowDeltaUpdatedEvents`](which, mqtt.QoS.AtLeastOnce, (err, e) => err || heard(name, e.version, e.state))
    },
    get: async name => document(await ask('get', name)),
    update: async (name, state, version) => document(await ask('update', name, { state, version })),
    remove: name => ask('delete', name),
    disconnect: () => c.disconnect()
  }
}

function five(id, thing, heard) {
  const b = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath('localhost', env.IOT_CERT, env.IOT_KEY)
  b.withCertificateAuthorityFromPath(undefined, env.AWS_CA_BUNDLE).withPort(port)
  b.withConnectProperties({ keepAliveIntervalSeconds: 60, clientId: id })
  let c, shadow, streams
  const ask = async (op, name, more) => {
    const [kind, which] = of(thing, name)
    try {
      return await shadow[`${op}${kind}Shadow`]({ ...which, ...more })
    } catch (err) {
      throw err.modeledError?.code ? new Refused(err.modeledError.code) : err
    }
  }
  return {
    connect: async () => {
      c = new mqtt5.Mqtt5Client(b.build())
      c.on('error', err => console.error(err))
      c.on('connectionFailure', e => console.error('connection failure', e.error, e.connack))
      const up = once(c, 'connectionSuccess')
      c.start()
      await up
      streams = []
      shadow = iotshadow.IotShadowClientv2.newFromMqtt5(c, { maxRequestResponseSubscriptions: 6, maxStreamingSubscriptions: 4, operationTimeoutInSeconds: 60 })
    },
    watch: async name => {
      const [kind, which] = of(thing, name)
      const stream = shadow[`create${kind}ShadowDeltaUpdatedStream`](which)
      stream.on('incomingPublish', e => heard(name, e.message.version, e.message.state))
      const ready = once(stream, 'subscriptionStatus')
      stream.open()
      streams.push(stream)
      await ready
    },
    get: async name => document(await ask('get', name)),
    update: async (name, state, version) => document(await ask('update', name, { state, version })),
    remove: name => ask('delete', name),
    disconnect: async () => {
      streams.forEach(s => s.close())
      shadow.close()
      const down = once(c, 'stopped')
      c.stop()
      await down
    }
  }
}

run(process.argv[2].includes('mqtt5') ? five : three, { named: true, versions: true }).catch(err => { console.error(err); process.exit(1) })
