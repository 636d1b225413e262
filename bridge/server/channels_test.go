package server

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// What iotAnalytics actions keep is listed, shown and read by its channel.
func TestChannels(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"rules/keep.json": `{"sql":"SELECT VALUE list FROM 'dt/#'",
	  "awsIotSqlVersion":"2016-03-23","actions":[{"iotAnalytics":{"channelName":"raw","batchMode":true}}]}`})
	b := start(t, cfg)
	if code, text := b.do("GET", "/v1/channels", ""); code != 200 || text != "[]\n" {
		t.Errorf("%d %s", code, text)
	}
	b.connect(b.thing("dev", ""), "dev").publish("dt/dev/x", `{"list":[{"n":1},{"n":2}]}`)
	var all []admin.ChannelInfo
	b.eventually("two messages", func() bool {
		_, text := b.do("GET", "/v1/channels", "")
		return json.Unmarshal([]byte(text), &all) == nil && len(all) == 1 && all[0].Messages == 2
	})
	_, text := b.do("GET", "/v1/channels/raw", "")
	var one admin.ChannelInfo
	if err := json.Unmarshal([]byte(text), &one); err != nil || one != all[0] || one.Name != "raw" || one.Ever != 2 ||
		one.Oldest.IsZero() || one.Newest.Before(one.Oldest) || one.MaxBytes != 4<<30 || one.Retention == 0 {
		t.Errorf("%v: %s", err, text)
	}
	_, text = b.do("GET", "/v1/channels/raw/messages?from=oldest", "")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var r admin.StreamRecord
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &r) != nil || string(r.JSON) != `{"n":2}` ||
		!strings.HasSuffix(r.Key, "-1") {
		t.Errorf("messages: %s", text)
	}
	for _, path := range []string{"/v1/channels/none", "/v1/channels/none/messages", "/v1/channels/..%2Fx"} {
		if code, text := b.do("GET", path, ""); code != 404 || !strings.Contains(text, "not found") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}
