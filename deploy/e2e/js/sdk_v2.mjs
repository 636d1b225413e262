// AWS IoT Device SDK for JavaScript, version 2: MQTT 3.1.1 and 5, mutual TLS and WebSocket with SigV4.
import { auth, iot, mqtt, mqtt5 } from 'aws-iot-device-sdk-v2'
import { once } from 'node:events'
import { run } from './checks.mjs'

const env = process.env
const wss = process.argv[2].includes('wss')
const port = Number(wss ? env.IOT_HTTPS_PORT : env.IOT_MQTT_PORT)

function three(id, clean, will, inbox) {
  const b = wss
    ? iot.AwsIotMqttConnectionConfigBuilder.new_with_websockets({ region: env.AWS_REGION, credentials_provider: auth.AwsCredentialsProvider.newDefault() })
    : iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(env.IOT_CERT, env.IOT_KEY)
  b.with_certificate_authority_from_path(undefined, env.AWS_CA_BUNDLE)
  b.with_clean_session(clean).with_client_id(id).with_endpoint('localhost').with_port(port)
  if (will) b.with_will(new mqtt.MqttWill(will.topic, mqtt.QoS.AtLeastOnce, Buffer.from(will.payload), false))
  const c = new mqtt.MqttClient().new_connection(b.build())
  c.on('error', err => console.error(err))
  c.on('message', (topic, payload) => inbox.put(topic, payload))
  return {
    connect: () => c.connect(),
    subscribe: async topic => {
      const ack = await c.subscribe(topic, mqtt.QoS.AtLeastOnce)
      if (ack.qos !== 1) throw new Error(JSON.stringify(ack))
    },
    publish: (topic, payload) => c.publish(topic, payload, mqtt.QoS.AtLeastOnce),
    disconnect: () => c.disconnect()
  }
}

function five(id, clean, will, inbox) {
  const b = wss
    ? iot.AwsIotMqtt5ClientConfigBuilder.newWebsocketMqttBuilderWithSigv4Auth('localhost', { region: env.AWS_REGION, credentialsProvider: auth.AwsCredentialsProvider.newDefault() })
    : iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath('localhost', env.IOT_CERT, env.IOT_KEY)
  b.withCertificateAuthorityFromPath(undefined, env.AWS_CA_BUNDLE).withPort(port)
  b.withConnectProperties({
    keepAliveIntervalSeconds: 60, clientId: id, sessionExpiryIntervalSeconds: clean ? 0 : 3600,
    will: will ? { topicName: will.topic, payload: will.payload, qos: mqtt5.QoS.AtLeastOnce } : undefined
  })
  b.withSessionBehavior(clean ? mqtt5.ClientSessionBehavior.Clean : mqtt5.ClientSessionBehavior.RejoinAlways)
  const c = new mqtt5.Mqtt5Client(b.build())
  c.on('error', err => console.error(err))
  c.on('connectionFailure', e => console.error('connection failure', e.error, e.connack))
  c.on('messageReceived', e => {
    const m = e.message
    if (m.contentType !== 'text/plain' && !m.topicName.endsWith('/will')) throw new Error(JSON.stringify(m))
    inbox.put(m.topicName, m.payload)
  })
  return {
    connect: async () => { const up = once(c, 'connectionSuccess'); c.start(); await up },
    subscribe: async topicFilter => {
      const ack = await c.subscribe({ subscriptions: [{ topicFilter, qos: mqtt5.QoS.AtLeastOnce }] })
      if (ack.reasonCodes[0] !== 1) throw new Error(JSON.stringify(ack))
    },
    publish: async (topicName, payload) => {
      const ack = await c.publish({ topicName, payload, qos: mqtt5.QoS.AtLeastOnce, contentType: 'text/plain', userProperties: [{ name: 'k', value: 'v' }] })
      if (ack.reasonCode >= 0x80) throw new Error(JSON.stringify(ack))
    },
    disconnect: async () => { const down = once(c, 'stopped'); c.stop(); await down }
  }
}

run(process.argv[2].includes('mqtt5') ? five : three).catch(err => { console.error(err); process.exit(1) })
