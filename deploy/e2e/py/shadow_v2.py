"""Shadows by the AWS IoT Device SDK for Python, version 2: its first client of the
service over MQTT 3.1.1, its second, by request and response, over MQTT 5."""
import os
import queue
import sys
import threading
import uuid

import awsiot
from awscrt import mqtt, mqtt5, mqtt_request_response
from awsiot import iotshadow, mqtt5_client_builder, mqtt_connection_builder

import shadow_checks as checks

env, variant = os.environ, sys.argv[1]
common = {"endpoint": "localhost", "port": int(env["IOT_MQTT_PORT"]), "ca_filepath": env["AWS_CA_BUNDLE"],
          "cert_filepath": env["IOT_CERT"], "pri_key_filepath": env["IOT_KEY"]}


def document(answer):
    state = {k: v for k, v in ((k, getattr(answer.state, k, None)) for k in ("desired", "reported", "delta")) if v is not None}
    return {"state": state, "version": answer.version}


def kinds(name):
    """What the SDK puts into the names of classes and methods."""
    return ("Named", "named_", {"shadow_name": name}) if name else ("", "", {})


class Three:
    def __init__(self, client_id, thing):
        self.thing, self.deltas, self.answers = thing, checks.Deltas(), queue.Queue()
        self.c = mqtt_connection_builder.mtls_from_path(client_id=client_id, clean_session=True, keep_alive_secs=30, **common)
        self.shadow = iotshadow.IotShadowClient(self.c)

    def connect(self):
        self.c.connect().result(checks.PATIENCE)
        self.heard = set()

    def ask(self, op, name, **more):
        klass, method, which = kinds(name)
        if (op, name) not in self.heard:
            self.heard.add((op, name))
            subscription = getattr(iotshadow, f"{op.capitalize()}{klass}ShadowSubscriptionRequest")(thing_name=self.thing, **which)
            for end in ("accepted", "rejected"):
                listen = getattr(self.shadow, f"subscribe_to_{op}_{method}shadow_{end}")
                listen(subscription, mqtt.QoS.AT_LEAST_ONCE, self.answers.put)[0].result(checks.PATIENCE)
        token = str(uuid.uuid4())
        request = getattr(iotshadow, f"{op.capitalize()}{klass}ShadowRequest")(thing_name=self.thing, client_token=token, **which, **more)
        getattr(self.shadow, f"publish_{op}_{method}shadow")(request, mqtt.QoS.AT_LEAST_ONCE).result(checks.PATIENCE)
        while True:
            answer = self.answers.get(timeout=checks.PATIENCE)
            if answer.client_token != token:
                continue  # the other client's
            if isinstance(answer, iotshadow.ErrorResponse):
                raise checks.Refused(answer.code)
            return answer

    def get(self, name):
        return document(self.ask("get", name))

    def update(self, name, state, version=None):
        return document(self.ask("update", name, state=iotshadow.ShadowState(**state), version=version))

    def delete(self, name):
        self.ask("delete", name)

    def watch(self, name):
        klass, method, which = kinds(name)
        request = getattr(iotshadow, f"{klass}ShadowDeltaUpdatedSubscriptionRequest")(thing_name=self.thing, **which)
        listen = getattr(self.shadow, f"subscribe_to_{method}shadow_delta_updated_events")
        listen(request, mqtt.QoS.AT_LEAST_ONCE, lambda e: self.deltas.put(name, e.version, e.state))[0].result(checks.PATIENCE)

    def disconnect(self):
        self.c.disconnect().result(checks.PATIENCE)


class Five:
    def __init__(self, client_id, thing):
        self.id, self.thing, self.deltas, self.streams = client_id, thing, checks.Deltas(), []

    def connect(self):
        self.up, self.down = threading.Event(), threading.Event()
        self.c = mqtt5_client_builder.mtls_from_path(
            client_id=self.id, on_lifecycle_connection_success=lambda _: self.up.set(),
            on_lifecycle_connection_failure=lambda data: print("connection failure", data.exception, data.connack_packet, flush=True),
            on_lifecycle_stopped=lambda _: self.down.set(), **common)
        self.c.start()
        assert self.up.wait(checks.PATIENCE)
        self.shadow = iotshadow.IotShadowClientV2(self.c, mqtt_request_response.ClientOptions(
            max_request_response_subscriptions=6, max_streaming_subscriptions=4, operation_timeout_in_seconds=checks.PATIENCE))

    def ask(self, op, name, **more):
        klass, method, which = kinds(name)
        request = getattr(iotshadow, f"{op.capitalize()}{klass}ShadowRequest")(thing_name=self.thing, **which, **more)
        try:
            return getattr(self.shadow, f"{op}_{method}shadow")(request).result(checks.PATIENCE)
        except awsiot.V2ServiceException as e:
            if not e.modeled_error:
                raise
            raise checks.Refused(e.modeled_error.code)

    def get(self, name):
        return document(self.ask("get", name))

    def update(self, name, state, version=None):
        return document(self.ask("update", name, state=iotshadow.ShadowState(**state), version=version))

    def delete(self, name):
        self.ask("delete", name)

    def watch(self, name):
        klass, method, which = kinds(name)
        ready = threading.Event()
        request = getattr(iotshadow, f"{klass}ShadowDeltaUpdatedSubscriptionRequest")(thing_name=self.thing, **which)
        stream = getattr(self.shadow, f"create_{method}shadow_delta_updated_stream")(request, awsiot.ServiceStreamOptions(
            incoming_event_listener=lambda e: self.deltas.put(name, e.version, e.state),
            subscription_status_listener=lambda e: ready.set()))
        stream.open()
        assert ready.wait(checks.PATIENCE)
        self.streams.append(stream)

    def disconnect(self):
        self.streams, self.shadow = [], None
        self.c.stop()
        assert self.down.wait(checks.PATIENCE)


checks.run(variant, Five if "mqtt5" in variant else Three, named=True)
