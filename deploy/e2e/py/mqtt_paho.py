"""Eclipse Paho for Python, MQTT 3.1.1 and 5: see mqtt_clients_test.go."""
import os
import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

env, version = os.environ, sys.argv[1]
FIVE = version == "5"
PATIENCE, QUIET = 60, 0.3  # seconds: until something must have come, and until it would have come
PREFIX = f"paho-py/{version}"


def properties(kind, **values):
    if not FIVE:
        return None
    p = Properties(kind)
    for name, v in values.items():
        setattr(p, name, v)
    return p


class Peer:
    """A connected client and what came to it."""

    def __init__(self, name, clean=True, will=None, keepalive=60, **connect):
        self.got, self.answers = queue.Queue(), queue.Queue()
        more = {} if FIVE else {"clean_session": clean}
        self.c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"paho-py-{version}-{name}",
                             protocol=mqtt.MQTTv5 if FIVE else mqtt.MQTTv311, reconnect_on_failure=False, **more)
        self.c.tls_set(env["AWS_CA_BUNDLE"], env["IOT_CERT"], env["IOT_KEY"])
        self.c.on_message = lambda c, u, m: self.got.put(m)
        self.c.on_connect = lambda c, u, flags, code, p: self.answers.put((flags, code, p))
        self.c.on_subscribe = lambda c, u, mid, codes, p: self.answers.put(codes)
        if will:
            self.c.will_set(will[0], will[1], 1)
        if FIVE:
            self.c.connect("localhost", int(env["IOT_MQTT_PORT"]), keepalive, clean_start=clean,
                           properties=properties(PacketTypes.CONNECT, **connect))
        else:
            self.c.connect("localhost", int(env["IOT_MQTT_PORT"]), keepalive)
        self.c.loop_start()
        self.flags, code, self.connack = self.answers.get(timeout=PATIENCE)
        want(code.is_failure, False)

    def subscribe(self, name, qos, **options):
        if FIVE:
            self.c.subscribe(name, options=SubscribeOptions(qos=qos, **options))
        else:
            self.c.subscribe(name, qos)
        want([c.value for c in self.answers.get(timeout=PATIENCE)], [qos])

    def publish(self, name, payload, qos=1, retain=False, **values):
        self.c.publish(name, payload, qos, retain, properties(PacketTypes.PUBLISH, **values)).wait_for_publish(PATIENCE)

    def next(self):
        return self.got.get(timeout=PATIENCE)

    def expect(self, *payloads):
        """All of the payloads came, in any order, and no more."""
        got = [self.next() for _ in payloads]
        want(sorted(m.payload.decode() for m in got), sorted(payloads))
        self.nothing()
        return got

    def nothing(self):
        try:
            m = self.got.get(timeout=QUIET)
        except queue.Empty:
            return
        raise SystemExit(f"unexpected: {m.topic} {m.payload}")

    def end(self):
        self.c.disconnect()
        self.c.loop_stop()

    def drop(self):
        """The connection breaks."""
        self.c.loop_stop()
        self.c.socket().close()


def want(got, expected):
    if got != expected:
        raise SystemExit(f"got {got!r}, want {expected!r}")


def ok(what):
    print("ok", what, flush=True)


def keep_alive():
    a = Peer("k", keepalive=3600)
    want(a.connack.ServerKeepAlive, 1200)
    ok("server keep alive")
    a.end()


def main():
    a, b = Peer("a"), Peer("b")

    for qos in (0, 1, 2):
        b.subscribe(f"{PREFIX}/qos/{qos}", qos)
    for sent in (0, 1, 2):
        for granted in (0, 1, 2):
            a.publish(f"{PREFIX}/qos/{granted}", f"{sent}{granted}", sent)
    for m in b.expect(*(f"{s}{g}" for s in (0, 1, 2) for g in (0, 1, 2))):
        want(m.qos, min(int(chr(m.payload[0])), int(chr(m.payload[1]))))
        want((m.retain, m.dup), (False, False))
    ok("qos 0, 1 and 2")

    for n in (0, 1, 2):
        a.publish(f"{PREFIX}/kept/{n}", f"kept {n}", n, retain=True)
    b.subscribe(f"{PREFIX}/kept/+", 2)
    for m in b.expect("kept 0", "kept 1", "kept 2"):
        want((m.retain, m.qos), (True, int(m.topic[-1])))
    for n in (0, 1, 2):
        a.publish(f"{PREFIX}/kept/{n}", b"", n, retain=True)
    want([b.next().retain for _ in range(3)], [False] * 3)
    c = Peer("c")
    c.subscribe(f"{PREFIX}/kept/#", 2)
    c.nothing()
    ok("retained messages")

    b.subscribe(f"{PREFIX}/will/#", 1)
    Peer("w", will=(f"{PREFIX}/will/x", "gone")).drop()
    b.expect("gone")
    Peer("w", will=(f"{PREFIX}/will/x", "not sent")).end()
    b.nothing()
    ok("will")

    d = Peer("d", clean=False, **({"SessionExpiryInterval": 300} if FIVE else {}))
    want(d.flags.session_present, False)
    d.subscribe(f"{PREFIX}/d/+", 2)
    d.end()
    for qos in (0, 1, 2):
        a.publish(f"{PREFIX}/d/{qos}", f"missed {qos}", qos)
    if FIVE:
        a.publish(f"{PREFIX}/d/old", "expires", MessageExpiryInterval=1)
        a.publish(f"{PREFIX}/d/new", "stays", MessageExpiryInterval=600)
        time.sleep(1.5)
    d = Peer("d", clean=False, **({"SessionExpiryInterval": 300} if FIVE else {}))
    want(d.flags.session_present, True)
    got = d.expect("missed 1", "missed 2", *(["stays"] if FIVE else []))
    if FIVE:
        left, = [m.properties.MessageExpiryInterval for m in got if m.payload == b"stays"]
        want(300 < left < 600, True)
        ok("message expiry")
    d.end()
    d = Peer("d")  # clean
    want(d.flags.session_present, False)
    a.publish(f"{PREFIX}/d/1", "nobody")
    d.nothing()
    ok("durable session")

    b.subscribe(f"{PREFIX}/over/#", 2)
    b.subscribe(f"{PREFIX}/over/x", 1)
    a.publish(f"{PREFIX}/over/x", "both", 2)
    got = [b.next()]
    try:  # one, or one for each subscription [MQTT-3.3.5-1]
        got.append(b.got.get(timeout=QUIET))
    except queue.Empty:
        pass
    want((max(m.qos for m in got), {m.payload for m in got}), (2, {b"both"}))
    b.nothing()
    ok("overlapping subscriptions")

    c.subscribe(f"$share/g/{PREFIX}/job/#", 1)
    d.subscribe(f"$share/g/{PREFIX}/job/#", 1)
    for n in range(20):
        a.publish(f"{PREFIX}/job/{n}", str(n))
    end = time.monotonic() + PATIENCE
    while c.got.qsize() + d.got.qsize() < 20 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(QUIET)  # nor does one come twice
    want((c.got.qsize() > 0, d.got.qsize() > 0), (True, True))
    want(sorted(int(p.next().payload) for p in (c, d) for _ in range(p.got.qsize())), list(range(20)))
    ok("shared subscription")

    if FIVE:
        b.subscribe(f"{PREFIX}/props/#", 1)
        a.publish(f"{PREFIX}/props/x", "p", UserProperty=[("k", "1"), ("k", "2"), ("é", "ü")], ContentType="text/plain", PayloadFormatIndicator=1)
        m = b.expect("p")[0].properties
        want((m.UserProperty, m.ContentType, m.PayloadFormatIndicator), ([("k", "1"), ("k", "2"), ("é", "ü")], "text/plain", 1))
        ok("user properties")

        want(a.connack.TopicAliasMaximum > 0, True)
        a.publish(f"{PREFIX}/props/alias", "1", TopicAlias=1)
        a.publish("", "2", TopicAlias=1)
        want({m.topic for m in b.expect("1", "2")}, {f"{PREFIX}/props/alias"})
        ok("topic alias")

        a.subscribe(f"{PREFIX}/answer", 1)
        a.publish(f"{PREFIX}/props/ask", "?", ResponseTopic=f"{PREFIX}/answer", CorrelationData=b"\0\1")
        q = b.expect("?")[0].properties
        b.publish(q.ResponseTopic, "!", CorrelationData=q.CorrelationData)
        want(a.expect("!")[0].properties.CorrelationData, b"\0\1")
        ok("request and response")

        a.publish(f"{PREFIX}/opts/kept", "kept", retain=True)
        c.subscribe(f"{PREFIX}/opts/#", 1, noLocal=True, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        c.publish(f"{PREFIX}/opts/own", "own")
        c.nothing()
        a.publish(f"{PREFIX}/opts/kept", "again", retain=True)
        want(c.expect("again")[0].retain, True)
        a.publish(f"{PREFIX}/opts/kept", b"", retain=True)
        ok("subscription options")
    for p in (a, b, c, d):
        p.end()


keep_alive() if sys.argv[2:] == ["keep-alive"] else main()
