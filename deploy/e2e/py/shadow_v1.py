"""Shadows by the AWS IoT Device SDK for Python, version 1."""
import json
import os
import queue
import sys
import time

from AWSIoTPythonSDK.exception.AWSIoTExceptions import publishQueueDisabledException
from AWSIoTPythonSDK.MQTTLib import AWSIoTMQTTShadowClient

import shadow_checks as checks

env = os.environ


class Client:
    def __init__(self, client_id, thing):
        self.thing, self.deltas = thing, checks.Deltas()
        self.c = AWSIoTMQTTShadowClient(client_id)
        self.c.configureEndpoint("localhost", int(env["IOT_MQTT_PORT"]))
        self.c.configureCredentials(env["AWS_CA_BUNDLE"], env["IOT_KEY"], env["IOT_CERT"])
        self.c.configureConnectDisconnectTimeout(checks.PATIENCE)
        self.c.configureMQTTOperationTimeout(checks.PATIENCE)

    def connect(self):
        assert self.c.connect()
        self.settle()
        self.shadow = self.c.createShadowHandlerWithName(self.thing, True)

    def settle(self):
        """After a reconnect the SDK subscribes again in the background, and refuses
        requests until it has done so. Nobody listens to what is published here."""
        end = time.monotonic() + checks.PATIENCE
        while time.monotonic() < end:
            try:
                assert self.c.getMQTTConnection().publish(f"py/{self.thing}/settled", "", 0)
                return
            except publishQueueDisabledException:
                time.sleep(0.02)
        raise SystemExit(f"the client is not stable {checks.PATIENCE} s after its connection")

    def watch(self, _):
        def heard(payload, *_):
            m = json.loads(payload)
            self.deltas.put(None, m["version"], m["state"])
        self.shadow.shadowRegisterDeltaCallback(heard)

    def ask(self, call):
        answers = queue.Queue()
        call(lambda payload, status, token: answers.put((status, payload)))
        status, payload = answers.get(timeout=checks.PATIENCE)
        if status == "timeout":
            raise SystemExit("no answer")
        doc = json.loads(payload)
        if status == "rejected":
            raise checks.Refused(doc["code"])
        return doc

    def get(self, _):
        return self.ask(lambda done: self.shadow.shadowGet(done, checks.PATIENCE))

    def update(self, _, state, version=None):
        doc = {"state": state}
        if version:
            doc["version"] = version
        return self.ask(lambda done: self.shadow.shadowUpdate(json.dumps(doc), done, checks.PATIENCE))

    def delete(self, _):
        return self.ask(lambda done: self.shadow.shadowDelete(done, checks.PATIENCE))

    def disconnect(self):
        assert self.c.disconnect()


checks.run(sys.argv[1], Client, named=False)
