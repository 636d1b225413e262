"""Provisioning by claim with the AWS IoT Device SDK for Python, version 2: its first
client of the service over MQTT 3.1.1, its second, by request and response, over MQTT 5."""
import os
import pathlib
import queue
import sys
import threading

import awsiot
from awscrt import mqtt, mqtt_request_response
from awsiot import iotidentity as iot
from awsiot import mqtt5_client_builder, mqtt_connection_builder

import checks

env, variant = os.environ, sys.argv[1]
place = {"endpoint": "localhost", "port": int(env["IOT_MQTT_PORT"]), "ca_filepath": env["AWS_CA_BUNDLE"]}
claim = {"cert_filepath": env["IOT_CERT"], "pri_key_filepath": env["IOT_KEY"], **place}
AT_LEAST_ONCE = mqtt.QoS.AT_LEAST_ONCE


class Refused(Exception):
    pass


class Three:
    def __init__(self):
        self.c = mqtt_connection_builder.mtls_from_path(client_id=variant, clean_session=True, keep_alive_secs=30, **claim)
        self.c.connect().result(checks.PATIENCE)
        self.client, self.answers, self.heard = iot.IotIdentityClient(self.c), queue.Queue(), set()

    def ask(self, op, request, subscription):
        if op not in self.heard:
            self.heard.add(op)
            for end in ("accepted", "rejected"):
                getattr(self.client, f"subscribe_to_{op}_{end}")(subscription, AT_LEAST_ONCE, self.answers.put)[0].result(checks.PATIENCE)
        getattr(self.client, f"publish_{op}")(request, AT_LEAST_ONCE).result(checks.PATIENCE)
        answer = self.answers.get(timeout=checks.PATIENCE)
        if isinstance(answer, iot.ErrorResponse):
            raise Refused(answer.error_code)
        return answer


class Five:
    def __init__(self):
        up = threading.Event()
        self.c = mqtt5_client_builder.mtls_from_path(client_id=variant, on_lifecycle_connection_success=lambda _: up.set(), **claim)
        self.c.start()
        assert up.wait(checks.PATIENCE)
        self.client = iot.IotIdentityClientV2(self.c, mqtt_request_response.ClientOptions(
            max_request_response_subscriptions=6, max_streaming_subscriptions=2, operation_timeout_in_seconds=checks.PATIENCE))

    def ask(self, op, request, subscription):
        try:
            return getattr(self.client, op)(request).result(checks.PATIENCE)
        except awsiot.V2ServiceException as e:
            if not e.modeled_error:
                raise
            raise Refused(e.modeled_error.error_code)


def register(c, token, serial):
    return c.ask("register_thing", iot.RegisterThingRequest(template_name="fleet", certificate_ownership_token=token, parameters={"SerialNumber": serial}),
                 iot.RegisterThingSubscriptionRequest(template_name="fleet"))


def connects(thing, cert, key):
    made = mqtt_connection_builder.mtls_from_bytes(client_id=thing, clean_session=True, keep_alive_secs=30, cert_bytes=cert.encode(), pri_key_bytes=key.encode(), **place)
    made.connect().result(checks.PATIENCE)
    made.disconnect().result(checks.PATIENCE)


c = Five() if "mqtt5" in variant else Three()
one = c.ask("create_keys_and_certificate", iot.CreateKeysAndCertificateRequest(), iot.CreateKeysAndCertificateSubscriptionRequest())
assert len(one.certificate_id) == 64 and "PRIVATE KEY" in one.private_key, one.certificate_id
checks.ok("keys and certificate")
for _ in range(2):
    answer = register(c, one.certificate_ownership_token, variant + "-1")
    assert answer.thing_name == f"press-{variant}-1" and answer.device_configuration == {"hall": "3"}, vars(answer)
checks.ok("provisioned, and again")
try:
    register(c, one.certificate_ownership_token, variant + "-2")
    raise SystemExit("a token is taken twice")
except Refused as e:
    assert str(e) == "InvalidCertificateOwnershipToken", e
checks.ok("refused")
connects(answer.thing_name, one.certificate_pem, one.private_key)
checks.ok("connects as its thing")

folder = pathlib.Path(env["IOT_CERT"]).parent
two = c.ask("create_certificate_from_csr", iot.CreateCertificateFromCsrRequest(certificate_signing_request=(folder / "csr.pem").read_text()),
            iot.CreateCertificateFromCsrSubscriptionRequest())
answer = register(c, two.certificate_ownership_token, variant + "-3")
connects(answer.thing_name, two.certificate_pem, (folder / "csr-key.pem").read_text())
checks.ok("certificate from a request")
os._exit(0)
