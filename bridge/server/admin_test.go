package server

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

func declareFiles(t testing.TB, cfg *config.Config, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(cfg.BridgeD.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	aStream   = `{"StreamName":"readings","ShardCount":2}`
	aDelivery = `{"DeliveryStreamName":"lake",` +
		`"ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":60}}}`
	aRule = `{"sql":"SELECT n FROM 'dt/#'","actions":[{"kinesis":{"streamName":"readings","partitionKey":"k"}}]}`
)

func TestAdmin(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/a.json": aStream, "delivery-streams/a.json": aDelivery,
		"rules/hot.json": aRule})
	b := start(t, cfg)
	id := b.thing("dev", "")
	if id.Key == "" || id.CA == "" || !strings.Contains(id.AgentConfig, `thing = "dev"`) {
		t.Errorf("identity: %+v", id)
	}
	d := b.connect(id, "dev")
	d.publish("dt/dev/x", `{"n":1}`)

	var things []admin.ThingInfo
	b.must("GET", "/v1/things", "", &things)
	if len(things) != 1 || things[0].Name != "dev" ||
		!slices.Equal(things[0].Certificates, []string{id.CertificateID}) || things[0].Since.IsZero() {
		t.Errorf("things: %+v", things)
	}
	var certs []admin.CertificateInfo
	b.must("GET", "/v1/certificates?thing=dev", "", &certs)
	if len(certs) != 1 || certs[0].ID != id.CertificateID || certs[0].Status != "ACTIVE" ||
		!slices.Equal(certs[0].Policies, []string{"tidemill-thing"}) {
		t.Errorf("certificates: %+v", certs)
	}
	var rules []admin.RuleInfo
	b.eventually("the rule has fired", func() bool {
		b.must("GET", "/v1/rules", "", &rules)
		return len(rules) == 1 && rules[0].Name == "hot" && rules[0].Actions == 1
	})
	var all []admin.StreamInfo
	b.must("GET", "/v1/streams", "", &all)
	i := slices.IndexFunc(all, func(s admin.StreamInfo) bool { return s.Name == "readings" })
	if i < 0 || all[i].Shards != 2 || all[i].Records != 1 || all[i].Retention != 24*time.Hour {
		t.Errorf("streams: %+v", all)
	}
	_, text := b.do("GET", "/v1/streams/records?name=readings&from=oldest", "")
	if !strings.Contains(text, `"json":{"n":1}`) || strings.Count(text, "\n") != 1 {
		t.Errorf("records: %s", text)
	}
	var deliveries []admin.DeliveryInfo
	b.must("GET", "/v1/delivery-streams", "", &deliveries)
	if len(deliveries) != 1 || deliveries[0].Name != "lake" {
		t.Errorf("delivery streams: %+v", deliveries)
	}
	var policies []string
	b.must("GET", "/v1/policies", "", &policies)
	if !slices.Equal(policies, []string{"tidemill-thing"}) {
		t.Errorf("policies: %v", policies)
	}
	if _, text := b.do("GET", "/v1/policies/tidemill-thing", ""); !strings.Contains(text, "iot:Connect") {
		t.Errorf("policy: %s", text)
	}
	var info admin.Info
	b.must("GET", "/v1/info", "", &info)
	if info.MQTT != b.MQTTAddr().String() || info.Version != "test" || info.Data != cfg.DataDir {
		t.Errorf("info: %+v", info)
	}

	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"POST", "/v1/things", `{"name":"x","endpoint":"nowhere"}`, 400, "endpoint"},
		{"POST", "/v1/things", `{"name":"x","endpoint":"a\u0001b:1"}`, 400, "endpoint"},
	} {
		if code, text := b.do(c.method, c.path, c.body); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: %d %.200s, want %d and %q", c.method, c.path, code, text, c.code, c.says)
		}
	}
	if strings.Contains(b.log.String(), "PRIVATE KEY") {
		t.Error("a key is in the log")
	}
}

// Files that are wrong are all named, and change nothing; the others hold.
func TestReload(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/a.json": aStream, "delivery-streams/a.json": aDelivery,
		"rules/hot.json": aRule})
	b := start(t, cfg)
	var n struct{ Declarations int }
	b.must("POST", "/v1/reload", "", &n)
	if n.Declarations != 3 {
		t.Errorf("%d declarations, want 3", n.Declarations)
	}
	declareFiles(t, cfg, map[string]string{
		"streams/b.json":          `{"StreamName":"more"`,
		"streams/c.json":          `{"StreamName":"readings","ShardCount":2,"RetentionPeriodHours":48}`,
		"streams/d.json":          `{"StreamName":"good"}`,
		"streams/e.json":          `{"StreamName":"one"} {"StreamName":"two"}`,
		"delivery-streams/b.json": aDelivery,
		"rules/hot.json":          `{"sql":"SELECT","actions":[]}`,
		"rules/warm.json":         `{"sql":"SELECT * FROM 'x'","actions":[{"telegraph":{}}]}`,
		"rules/good.json":         `{"sql":"SELECT * FROM 'x'","actions":[{"kinesis":{"streamName":"good","partitionKey":"k"}}]}`,
	})
	code, text := b.do("POST", "/v1/reload", "")
	if code != 400 {
		t.Errorf("reload: %d %s", code, text)
	}
	for _, want := range []string{"streams/b.json", "streams/c.json: readings is in ", "streams/e.json",
		"delivery-streams/b.json: lake is in ", "rules/hot.json", "rules/warm.json"} {
		if !strings.Contains(text, want) {
			t.Errorf("no word of %s in %s", want, text)
		}
	}
	if strings.Contains(text, "d.json") || strings.Contains(text, "good.json") {
		t.Errorf("good files are blamed: %s", text)
	}
	var refused []admin.RefusedInfo
	b.must("GET", "/v1/refused", "", &refused)
	if n := strings.Count(text, ".json: "); len(refused) == 0 || len(refused) > n ||
		!strings.HasSuffix(refused[0].File, "delivery-streams/b.json") ||
		!strings.Contains(refused[0].Why, "lake is in ") {
		t.Errorf("refused: %+v", refused)
	}
	var rules []admin.RuleInfo
	b.must("GET", "/v1/rules", "", &rules)
	names := []string{}
	for _, r := range rules {
		names = append(names, r.Name+" "+r.SQL)
	}
	if want := []string{"good SELECT * FROM 'x'", "hot SELECT n FROM 'dt/#'"}; !slices.Equal(names, want) {
		t.Errorf("rules %q, want %q", names, want)
	}
	if s, err := admin.DescribeStream(b.store, "readings"); err != nil || s.Retention != 24*time.Hour {
		t.Errorf("readings: %+v, %v", s, err)
	}
}

// The admin listener shows metrics and health and nothing more.
func TestPublicListener(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("dev", "")
	d := b.connect(id, "dev")
	d.publish("dt/dev/x", "{}")
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + b.admin.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	defer http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200,
		"/": 404, "/v1/info": 404, "/v1/things": 404, "/v1/streams/records?name=$ingest": 404, "/debug/pprof/": 404} {
		if code, _ := get(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	_, text := get("/metrics")
	for _, name := range []string{
		"tidemill_gateway_connections 1", "tidemill_gateway_sessions 1", "tidemill_gateway_accepted_total 1",
		"tidemill_gateway_over_limit_total 0", "tidemill_ingest_messages_total 1", "tidemill_log_syncs_total",
		"tidemill_log_sync_seconds_total", "tidemill_outbox_delivered_total 0",
		`tidemill_stream_records_total{stream="$ingest"} 1`, `tidemill_stream_kept_bytes{stream="$quarantine"}`,
		"go_goroutines",
	} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	for _, secret := range []string{id.CertificateID, "PRIVATE", "AKIA"} {
		if strings.Contains(text, secret) {
			t.Errorf("metrics tell %s", secret)
		}
	}
}
