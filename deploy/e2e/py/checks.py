"""What every IoT SDK is asked to do: see sdk_test.go."""
import os
import queue
import signal
import subprocess
import sys

PATIENCE = 60  # seconds; what is waited for comes in milliseconds, but on a busy machine


class Inbox:
    """Messages by topic, in the order in which they came."""

    def __init__(self):
        self.topics = {}

    def put(self, topic, payload):
        self.of(topic).put(payload.decode() if isinstance(payload, (bytes, bytearray)) else payload)

    def of(self, topic):
        return self.topics.setdefault(topic, queue.Queue())

    def expect(self, topic, payload):
        got = self.of(topic).get(timeout=PATIENCE)
        if got != payload:
            raise SystemExit(f"{topic}: got {got!r}, want {payload!r}")


def ok(what):
    print("ok", what, flush=True)


def run(variant, make):
    """make(client_id, clean, will, inbox) returns a client that is not connected:
    connect(), subscribe(topic), publish(topic, payload), disconnect()."""
    prefix = f"py/{variant}"
    if sys.argv[2:] == ["will"]:  # a process of its own, which is killed
        w = make(f"py-{variant}-w", True, (f"{prefix}/will", "gone"), Inbox())
        w.connect()
        print("up", flush=True)
        signal.pause()

    inbox = Inbox()
    a = make(f"py-{variant}-a", True, None, inbox)
    a.connect()
    ok("connect")
    for name in ("x", "will"):
        a.subscribe(f"{prefix}/{name}")
    ok("subscribe")
    a.publish(f"{prefix}/x", "hello")
    inbox.expect(f"{prefix}/x", "hello")
    ok("publish and receive")

    other = subprocess.Popen([sys.executable, sys.argv[0], variant, "will"], stdout=subprocess.PIPE, text=True)
    for line in other.stdout:
        if line.strip() == "up":
            break
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    inbox.expect(f"{prefix}/will", "gone")
    ok("will")

    d = make(f"py-{variant}-d", False, None, Inbox())
    d.connect()
    d.subscribe(f"{prefix}/d")
    d.disconnect()
    a.publish(f"{prefix}/d", "missed")
    inbox = Inbox()
    d = make(f"py-{variant}-d", False, None, inbox)
    d.connect()
    inbox.expect(f"{prefix}/d", "missed")
    ok("durable session")
    d.disconnect()
    a.disconnect()
    print("done", flush=True)
    os._exit(0)
