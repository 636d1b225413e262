package config

import (
	"strings"
	"testing"
)

// Without a budget sizes are what they were before there was one, and with it each
// part has its share, which what is set elsewhere does not change.
func TestDiskIsShared(t *testing.T) {
	c, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string][2]Size{
		"min_free": {c.MinFree, 220 << 20}, "ingest": {c.Ingest.MaxBytes, 4 << 30},
		"audit":   {c.Audit.MaxBytes, 1 << 30},
		"backlog": {c.Rules.MaxBacklog, 4 << 30}, "bucket": {c.Objects.MaxBucket, 1 << 40}, "log": {c.Disk.Log, 0},
		"code": {c.Lambda.MaxCode, 2 << 30}, "objects": {c.Objects.MinFree, 512 << 20},
	} {
		if x[0] != x[1] {
			t.Errorf("%s: %d, want %d", name, x[0], x[1])
		}
	}
	c, err = load(t, "[disk]\nbudget = \"2 GiB\"\nreserve = \"100 MiB\"\noutboxes = \"50 MiB\"\n"+
		"[audit]\nmax_bytes = \"7 MiB\"\n[ingest]\nmax_bytes = 0\n[channels]\nmax_bytes = \"disk\"\n")
	if err != nil {
		t.Fatal(err)
	}
	budget := Size(2 << 30)
	for name, x := range map[string][2]Size{
		"min_free": {c.MinFree, 50 << 20}, "ingest": {c.Ingest.MaxBytes, 0}, "audit": {c.Audit.MaxBytes, 7 << 20},
		"backlog": {c.Rules.MaxBacklog, 50 << 20}, "bucket": {c.Objects.MaxBucket, budget / 100 * 30},
		"log": {c.Disk.Log, budget / 100 * 60}, "objects": {c.Objects.MinFree, 100 << 20},
		"channels": {c.Channel.MaxBytes, budget / 100 * 60 / 8},
	} {
		if x[0] != x[1] {
			t.Errorf("%s: %d, want %d", name, x[0], x[1])
		}
	}
	if _, err := load(t, "[mqtt]\nmax_queue = \"disk\""); err == nil || !strings.Contains(err.Error(), "mqtt.max_queue") {
		t.Errorf("a size that [disk] does not give: %v", err)
	}
}
