"""AWS IoT Device SDK for Python, version 2: MQTT 3.1.1 and 5, mutual TLS and WebSocket with SigV4."""
import os
import sys
import threading

from awscrt import auth, mqtt, mqtt5
from awsiot import mqtt5_client_builder, mqtt_connection_builder

import checks

env, variant = os.environ, sys.argv[1]
websocket = "wss" in variant
common = {"endpoint": "localhost", "port": int(env["IOT_HTTPS_PORT" if websocket else "IOT_MQTT_PORT"]), "ca_filepath": env["AWS_CA_BUNDLE"]}
if websocket:
    common.update(region=env["AWS_REGION"], credentials_provider=auth.AwsCredentialsProvider.new_profile(profile_name="default"))
else:
    common.update(cert_filepath=env["IOT_CERT"], pri_key_filepath=env["IOT_KEY"])


class Three:
    def __init__(self, client_id, clean, will, inbox):
        make = mqtt_connection_builder.websockets_with_default_aws_signing if websocket else mqtt_connection_builder.mtls_from_path
        self.c = make(client_id=client_id, clean_session=clean, keep_alive_secs=30,
                      will=mqtt.Will(will[0], mqtt.QoS.AT_LEAST_ONCE, will[1].encode(), False) if will else None, **common)
        self.c.on_message(lambda topic, payload, **_: inbox.put(topic, payload))

    def connect(self):
        self.c.connect().result(checks.PATIENCE)

    def subscribe(self, topic):
        assert self.c.subscribe(topic, mqtt.QoS.AT_LEAST_ONCE)[0].result(checks.PATIENCE)["qos"] == 1

    def publish(self, topic, payload):
        self.c.publish(topic, payload, mqtt.QoS.AT_LEAST_ONCE)[0].result(checks.PATIENCE)

    def disconnect(self):
        self.c.disconnect().result(checks.PATIENCE)


class Five:
    def __init__(self, client_id, clean, will, inbox):
        make = mqtt5_client_builder.websockets_with_default_aws_signing if websocket else mqtt5_client_builder.mtls_from_path
        self.up, self.down = threading.Event(), threading.Event()
        behavior = mqtt5.ClientSessionBehaviorType
        self.c = make(
            connect_options=mqtt5.ConnectPacket(
                client_id=client_id, session_expiry_interval_sec=0 if clean else 3600,
                will=mqtt5.PublishPacket(topic=will[0], payload=will[1], qos=mqtt5.QoS.AT_LEAST_ONCE) if will else None),
            session_behavior=behavior.CLEAN if clean else behavior.REJOIN_ALWAYS,
            on_publish_received=lambda data: self.received(inbox, data.publish_packet),
            on_lifecycle_connection_success=lambda _: self.up.set(),
            on_lifecycle_connection_failure=lambda data: print("connection failure", data.exception, data.connack_packet, flush=True),
            on_lifecycle_stopped=lambda _: self.down.set(), **common)

    def received(self, inbox, p):
        assert p.content_type == "text/plain" or p.topic.endswith("/will"), p
        inbox.put(p.topic, p.payload)

    def connect(self):
        self.c.start()
        assert self.up.wait(checks.PATIENCE)

    def subscribe(self, topic):
        ack = self.c.subscribe(mqtt5.SubscribePacket([mqtt5.Subscription(topic, mqtt5.QoS.AT_LEAST_ONCE)])).result(checks.PATIENCE)
        assert ack.reason_codes == [mqtt5.SubackReasonCode.GRANTED_QOS_1], ack

    def publish(self, topic, payload):
        done = self.c.publish(mqtt5.PublishPacket(
            topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE, content_type="text/plain",
            user_properties=[mqtt5.UserProperty("k", "v")])).result(checks.PATIENCE)
        assert done.puback.reason_code in (mqtt5.PubackReasonCode.SUCCESS, mqtt5.PubackReasonCode.NO_MATCHING_SUBSCRIBERS), done

    def disconnect(self):
        self.c.stop()
        assert self.down.wait(checks.PATIENCE)


checks.run(variant, Five if "mqtt5" in variant else Three)
