package emit

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// batch has an item for each of data, of sequence numbers 100, 101, ….
func batch(data ...string) *connector.Batch {
	b := &connector.Batch{Connector: "c", Stream: "readings", Shard: "shardId-000000000001", First: "100",
		Last: fmt.Sprint(99 + len(data))}
	for i, d := range data {
		b.Items = append(b.Items, connector.Item{
			Sequence: fmt.Sprint(100 + i), Key: "k", Time: time.Date(2026, 3, 1, 23, 59, 59, 0,
				time.UTC).Add(time.Duration(i) * time.Second), Data: []byte(d)})
	}
	return b
}

func newEmitter(t *testing.T, kind string, env Env, doc string, args ...any) connector.Emitter {
	t.Helper()
	e, err := New(kind, json.RawMessage(fmt.Sprintf(doc, args...)), env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// outcome is what became of items: "" is written.
func outcome(t *testing.T, e connector.Emitter, b *connector.Batch) []string {
	t.Helper()
	failed, err := e.Emit(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]string, len(b.Items))
	for _, f := range failed {
		if all[f.Index] != "" {
			t.Errorf("item %d failed twice", f.Index)
		}
		all[f.Index] = "again"
		if f.Permanent {
			all[f.Index] = "never"
		}
		t.Logf("item %d: %v", f.Index, f.Err)
	}
	return all
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestNewSaysAllThatIsWrong(t *testing.T) {
	amazon(t)
	t.Setenv("EMPTY", "")
	t.Setenv("SECRET", "hidden")
	dir, err := objects.Open(t.TempDir(), objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, c := range []struct {
		kind, doc string
		want      []string // empty: it is right
	}{
		{"Carrier", `{}`, []string{"no emitter of that name; there are DynamoDB, S3, S3Manifest, Search, Stream, Warehouse"}},
		{"S3", `{"Bucket":"archive"}`, nil},
		{"S3", `{}`, []string{"Bucket: missing"}},
		{"S3", `[]`, []string{"want an object"}},
		{"S3", `{"Bucket":"A","Prefix":"!{shard","Compression":"zip","Colour":1,"Suffix":2}`,
			[]string{"Bucket: ", "Prefix: !{ without }", `Compression: "zip"`, "Colour: unknown member", "Suffix: "}},
		{"S3", `{"Bucket":"archive","Prefix":"!{timestamp:Q}/!{shard}"}`, []string{"Prefix: !{timestamp:Q}"}},
		{"S3", `{"Bucket":"archive","Prefix":"!{firehose:random-string}"}`, []string{"want !{timestamp:PATTERN}"}},
		{"S3Manifest", `{"Bucket":"archive","Manifest":{"StreamName":"keys"}}`, nil},
		{"S3Manifest", `{"Bucket":"archive","Manifest":{"StreamName":"no way","Shard":1}}`,
			[]string{"Manifest.StreamName: ", "Manifest.Shard: unknown"}},
		{"S3Manifest", `{"Bucket":"archive"}`, []string{"Manifest: want StreamName or StreamARN"}},
		{"DynamoDB", `{"TableName":"t"}`, []string{"TableName: "}},
		{"DynamoDB", `{"TableName":"arn:aws:dynamodb:eu-central-1:123456789012:table/readings"}`, nil},
		{"Stream", `{"StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/there"}`, nil},
		{"Stream", `{"StreamName":"a","StreamARN":"b"}`, []string{"want one of them"}},
		{"Search", `{"URL":"https://search.example","Index":"r-!{timestamp:yyyy.MM.dd}","Username":"u","Password":{"Env":"SECRET"}}`,
			nil},
		{"Search", `{"URL":"https://u:hidden@search.example","Index":"","Password":{"Env":"EMPTY"},` +
			`"SigV4":{"Service":"s3"},"MaxBytes":-1,"Operation":"delete"}`,
			[]string{"URL: want no name", "Index: missing", "Password.Env: EMPTY is not set", "Username and Password",
				"SigV4.Service", "at most one", "MaxBytes", "Operation"}},
		{"Search", `{"URL":"::hidden","Index":"i","Password":{"File":"/none","Env":"SECRET"},"Username":"u"}`,
			[]string{"URL: want http://HOST", "Password: File and Env"}},
		{"Warehouse", `{"Dialect":"postgres","URL":"postgres://u@h/d","Table":"s.t","FilesTable":"f",` +
			`"Format":"csv","Delimiter":"|","Bucket":"archive"}`,
			nil},
		{"Warehouse", `{"Dialect":"redshift","URL":"postgres://u@h/d","Table":"s.t","FilesTable":"f",` +
			`"Format":"json","Columns":["a"],"Bucket":"archive","IAMRole":"arn:aws:iam::123456789012:role/load"}`,
			nil},
		{"Warehouse", `{"Dialect":"oracle","URL":"postgres://u:hidden@h/d","Table":"a.b.c","Columns":[""],` +
			`"Format":"json","Delimiter":";","Compression":"x"}`,
			[]string{"Dialect", "URL: it holds a password", "Table: ", "FilesTable: missing", "Bucket: missing",
				"Columns[0]", "Delimiter", "Compression"}},
		{"Warehouse", `{"Dialect":"redshift","URL":"postgres://u@h/d?password=hidden","Table":"t",` +
			`"FilesTable":"f","Format":"json","Bucket":"archive","IAMRole":"x' y","Region":"'"}`,
			[]string{"it holds a password", "Columns: missing", "IAMRole", "Region"}},
	} {
		e, err := New(c.kind, json.RawMessage(c.doc), Env{Objects: dir})
		if err == nil {
			err = e.Close()
		}
		if (err == nil) != (len(c.want) == 0) {
			t.Errorf("%s %s: %v", c.kind, c.doc, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s %s: %q is not in\n%v", c.kind, c.doc, w, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s %s: a secret is in %v", c.kind, c.doc, err)
		}
	}
}

// The examples of FORMAT.md are what New takes.
func TestFormat(t *testing.T) {
	amazon(t)
	t.Setenv("SEARCH_PASSWORD", "x")
	t.Setenv("WAREHOUSE_PASSWORD", "x")
	dir, err := objects.Open(t.TempDir(), objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, part := range strings.Split(string(text), "```") {
		if i%2 == 0 {
			continue
		}
		doc, ok := strings.CutPrefix(part, "json\n")
		if !ok {
			continue
		}
		var named map[string]json.RawMessage
		if err := json.Unmarshal([]byte(doc), &named); err != nil {
			t.Fatalf("%v in %s", err, doc)
		}
		for kind, doc := range named {
			seen[kind] = true
			if e, err := New(kind, doc, Env{Objects: dir}); err != nil {
				t.Errorf("%s: %v", kind, err)
			} else if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if len(seen) != len(kinds) {
		t.Errorf("examples of %v, want one of each", seen)
	}
}

func TestSecretFile(t *testing.T) {
	at := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(at, []byte(" a b \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &parse{}
	same(t, "secret", p.secret("Password", secret{File: at}), " a b ")
	same(t, "errors", len(p.errs), 0)
	p.secret("Password", secret{File: at + "x"})
	same(t, "errors", len(p.errs), 1)
}
