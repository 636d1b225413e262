"""AWS IoT Device SDK for Python, version 1: mutual TLS, and WebSocket with SigV4."""
import configparser
import os
import socket
import sys

from AWSIoTPythonSDK.MQTTLib import AWSIoTMQTTClient

import checks

env, variant = os.environ, sys.argv[1]


class Client:
    def __init__(self, client_id, clean, will, inbox):
        websocket = "wss" in variant
        self.inbox = inbox
        self.c = AWSIoTMQTTClient(client_id, useWebsocket=websocket, cleanSession=clean)
        self.c.onMessage = lambda m: inbox.put(m.topic, m.payload)
        if websocket:
            keys = configparser.ConfigParser()
            keys.read(env["AWS_SHARED_CREDENTIALS_FILE"])
            # The SDK reads the region from a name of this form, and signs for it.
            port = int(env["IOT_HTTPS_PORT"])
            self.c.configureEndpoint("data.iot.eu-local-1.amazonaws.localhost", port)
            self.c.configureSocketFactory(lambda: socket.create_connection(("localhost", port)))
            self.c.configureCredentials(env["AWS_CA_BUNDLE"])
            self.c.configureIAMCredentials(keys["default"]["aws_access_key_id"], keys["default"]["aws_secret_access_key"])
        else:
            self.c.configureEndpoint("localhost", int(env["IOT_MQTT_PORT"]))
            self.c.configureCredentials(env["AWS_CA_BUNDLE"], env["IOT_KEY"], env["IOT_CERT"])
        self.c.configureConnectDisconnectTimeout(checks.PATIENCE)
        self.c.configureMQTTOperationTimeout(checks.PATIENCE)
        if will:
            self.c.configureLastWill(will[0], will[1], 1)

    def connect(self):
        assert self.c.connect()

    def subscribe(self, topic):
        assert self.c.subscribe(topic, 1, None)

    def publish(self, topic, payload):
        assert self.c.publish(topic, payload, 1)

    def disconnect(self):
        assert self.c.disconnect()


checks.run(variant, Client)
