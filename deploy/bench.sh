#!/usr/bin/env bash
# The benchmarks behind the README's figures. BENCHTIME is per benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."
t=${BENCHTIME:-1s}
section() { printf '\n== %s\n' "$1"; }
bench() { # package, pattern, further flags
  go test -run '^$' -bench "$2" -benchmem "${@:3}" "$1" | grep -E '^(Benchmark|cpu:|---|    .*msgs/s)' || true
}
# table prints the medians of benchmarks named Name/group/what; the ratio is to
# the first of the group.
table() {
  awk '
    /^(FAIL|---|panic)/ { print }
    /^Benchmark/ {
      n = split($1, name, "/")
      if (n < 3) next
      sub(/-[0-9]+$/, "", name[3])
      key = sprintf("%-12s %-14s", name[2], name[3])
      if (!(key in runs)) { order[++rows] = key; group[key] = name[2] }
      ns[key, ++runs[key]] = $3
      for (i = 4; i <= NF; i++) if ($i == "allocs/op") allocs[key] = $(i - 1)
    }
    END {
      printf "%-27s %9s %7s %9s\n", "", "ns/op", "allocs", "ratio"
      for (r = 1; r <= rows; r++) {
        key = order[r]
        for (i = 2; i <= runs[key]; i++)
          for (j = i; j > 1 && ns[key, j] + 0 < ns[key, j - 1] + 0; j--) { t = ns[key, j]; ns[key, j] = ns[key, j - 1]; ns[key, j - 1] = t }
        median = ns[key, int((runs[key] + 1) / 2)]
        if (!(group[key] in first)) first[group[key]] = median
        printf "%s %9.0f %7d %8.1fx\n", key, median, allocs[key], median / first[group[key]]
      }
    }'
}
grep -m1 'model name' /proc/cpuinfo; nproc | sed 's/$/ cores/'; uptime; date -u +%F
section 'codec: bytes and ns per reading, ours, JSON, JSON+zstd, CBOR'
bench ./agent/telemetry 'Codec' -benchtime "$t"
section 'spool: append, and bytes written to flash per reading'
bench ./agent/spool '.' -benchtime "$t"
section 'rules: the reference rule over 200 bytes of JSON, here and in other engines, medians of 5'
(
  cd bridge/speed/iotsql/testdata/peers
  if ! why=$(go list -deps -test . 2>&1 >/dev/null); then
    printf 'not measured: the other engines'\'' modules cannot be had\n%s\n' "$why"
    exit
  fi
  go test -count=1 -run SameOutput .
  for _ in 1 2 3 4 5; do # engines in turns, as machines have moods
    go test -run '^$' -bench ReferenceRule -benchmem -benchtime "$t" .
  done | table
)
section 'rules: one message, by the rules whose FROM matches it and the rules there are, medians of 5'
for _ in 1 2 3 4 5; do
  go test -run '^$' -bench 'Rules$' -benchmem -benchtime "$t" ./bridge/speed/rules
done | table
section 'rules: one of 10,000 rules is replaced'
bench ./bridge/speed/rules 'Set$' -benchtime "$t"
section 'rules: 10,000 are read from files, read again with one changed, and one is replaced through the API'
bench ./bridge/server 'Rulebook' -benchtime 10x
section 'rules: a replay over a million messages on disk, one goroutine'
bench ./bridge/speed/rules 'Replay$' -benchtime 1x
section 'log: records/s with sync on, by batch size, beside a raw file'
bench ./bridge/speed/streams/pebble 'Append' -benchtime "$t"
section 'delivery streams: JSON in MB/s to each compression and to Parquet, and partition keys by jq'
bench ./bridge/speed/firehose/compress 'Write' -benchtime "$t"
bench ./bridge/speed/firehose/convert 'Add' -benchtime "$t"
bench ./bridge/speed/firehose/partition 'Eval' -benchtime "$t"
section 'stores: rows/s into PostgreSQL by COPY, and into OpenSearch by bulk requests'
bench ./bridge/speed/sink/warehouse 'Load' -benchtime 5x
bench ./bridge/speed/sink/search 'Bulk' -benchtime 5x
section 'gateway: QoS 1 publish to PUBACK beside mosquitto, nothing stored, plain TCP and mutual TLS'
bench ./bridge/speed/gateway 'PublishAck/inflight=(1|20)(,mtls)?$' -benchtime 3x
section 'gateway: 5,000 idle clients with a subscription each: memory, connects, all back at once; beside mosquitto'
bench ./bridge/speed/gateway 'IdleConnections' -benchtime 1x
section 'gateway: CPU of a message at a fixed rate beside mosquitto'
bench ./bridge/speed/gateway 'LowRate' -benchtime 3x
section 'bridge: the same over mutual TLS, stored with a sync before PUBACK, not stored, and mosquitto'
bench ./deploy/e2e 'DurablePublish' -benchtime 3x
section 'bridge: processor time of a message at a fixed rate, stored, not stored, and mosquitto; memory of 3,000 idle clients'
bench ./deploy/e2e 'DurableRate' -benchtime 4x
bench ./deploy/e2e 'IdleBridge' -benchtime 1x
section 'bridge: the same with a subscriber of QoS 1, beside nats-server that syncs each message; and with a rule that writes each message to a file'
bench ./deploy/e2e 'DurableDelivery|RuleToFile' -benchtime 3x
section 'bridge: processor time of a message that a rule posts by HTTP, alone and ten in a request'
bench ./deploy/e2e 'RuleToHTTP' -benchtime 3x
section 'fleet index: 100,000 things with shadows: start of a bridge, the index built, and searches of it'
bench ./bridge/server 'Start100k' -benchtime 3x
bench ./bridge/control/index 'Build100k' -benchtime 3x
bench ./bridge/control/index 'Search100k' -benchtime "$t"
section 'data streams: over HTTP, durable, beside kinesalite in memory (npm; the same client)'
peer=build/kinesalite
if command -v node npm >/dev/null && why=$(npm install --prefix "$peer" --no-audit --no-fund --ignore-scripts kinesalite@3.3.3 2>&1); then
  go run ./deploy/kinesisbench -bin bin -kinesalite "$peer"
else
  printf 'kinesalite is not measured: it cannot be had\n%s\n' "${why:-node or npm is missing}"
  go run ./deploy/kinesisbench -bin bin
fi
section 'functions: a warm call of a function in Go, and the part of it that is its own work'
bench ./bridge/lambda 'Warm' -benchtime "$t"
section 'backups: 256 MiB of readings into a folder, again without a change, and back, beside a plain copy'
bench ./bridge/backup/vault 'Vault' -benchtime 2x
