"""What every IoT SDK is asked to do with shadows: see sdk_test.go."""
import os
import queue

PATIENCE = 60  # as in checks.py


class Refused(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Deltas:
    """What a client hears of differences, by the shadow's name."""

    def __init__(self):
        self.names = {}

    def of(self, name):
        return self.names.setdefault(name, queue.Queue())

    def put(self, name, version, state):
        self.of(name).put((version, state))

    def expect(self, name, state):
        got = self.of(name).get(timeout=PATIENCE)
        same(f"delta of {name}", got[1], state)
        return got[0]


def same(what, got, want):
    if got != want:
        raise SystemExit(f"{what}: got {got!r}, want {want!r}")


def refused(code, call, *args):
    try:
        got = call(*args)
    except Refused as e:
        same(call.__name__, e.code, code)
        return
    raise SystemExit(f"{call.__name__}: {got!r} though it should be refused with {code}")


def ok(what):
    print("ok", what, flush=True)


def run(variant, make, named):
    """make(client_id, thing) returns a client that is not connected: connect(),
    watch(name), deltas, get(name) and update(name, state, version=None) that return
    a document as {"state", "version"}, delete(name), disconnect(). A name of None is
    the classic shadow."""
    thing = f"py-{variant}"
    device, operator = make(f"{variant}-device", thing), make(f"{variant}-operator", thing)
    device.connect()
    operator.connect()
    for name in [None, "config"] if named else [None]:
        kind = "named " if name else ""
        refused(404, device.get, name)
        same("version", device.update(name, {"reported": {"mode": "auto", "level": 1}})["version"], 1)
        ok(kind + "update")
        doc = device.get(name)
        same("document", (doc["state"], doc["version"]), ({"reported": {"mode": "auto", "level": 1}}, 1))
        ok(kind + "get")
        device.watch(name)
        operator.update(name, {"desired": {"level": 2}})
        same("version of the delta", device.deltas.expect(name, {"level": 2}), 2)
        device.update(name, {"reported": {"level": 2}})
        ok(kind + "delta")
        refused(409, device.update, name, {"reported": {"level": 3}}, 1)
        ok(kind + "version conflict")

        # Both ends change it while they are apart, and agree when they meet.
        device.disconnect()
        local = {"mode": "manual", "level": 2}
        operator.update(name, {"desired": {"level": 7, "fan": True}})
        operator.update(name, {"desired": {"fan": None}})
        device.connect()
        local.update(device.get(name)["state"]["delta"])
        device.update(name, {"reported": local})
        for end in (device, operator):
            same("document at the end", end.get(name)["state"], {"desired": {"level": 7}, "reported": {"mode": "manual", "level": 7}})
        ok(kind + "offline edits")

        operator.delete(name)
        refused(404, device.get, name)
        ok(kind + "delete")
    device.disconnect()
    operator.disconnect()
    print("done", flush=True)
    os._exit(0)
