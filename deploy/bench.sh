#!/usr/bin/env bash
# The benchmarks behind the README's figures. BENCHTIME is per benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."
t=${BENCHTIME:-1s}
section() { printf '\n== %s\n' "$1"; }
bench() { # package, pattern, further flags
  go test -run '^$' -bench "$2" -benchmem "${@:3}" "$1" | grep -E '^(Benchmark|cpu:|---|    .*msgs/s)' || true
}
grep -m1 'model name' /proc/cpuinfo; nproc | sed 's/$/ cores/'; uptime
section 'codec: bytes and ns per reading, ours, JSON, JSON+zstd, CBOR'
bench ./agent/telemetry 'Codec' -benchtime "$t"
section 'spool: append, and bytes written to flash per reading'
bench ./agent/spool '.' -benchtime "$t"
section 'rules: one evaluation'
bench ./bridge/speed/iotsql 'ReferenceRule|Map' -benchtime "$t"
section 'log: records/s with sync on, by batch size, beside a raw file'
bench ./bridge/speed/streams 'Append' -benchtime "$t"
section 'gateway: QoS 1 publish to PUBACK beside mosquitto, nothing stored, plain TCP'
bench ./bridge/speed/gateway 'PublishAck/inflight=(1|20)$' -benchtime 3x
section 'bridge: the same over mutual TLS, stored with a sync before PUBACK, not stored, and mosquitto'
bench ./deploy/e2e 'DurablePublish' -benchtime 3x
