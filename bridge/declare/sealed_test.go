package declare

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/seal"
)

// The registry's copy of a file shows no password, once it is sealed, and is the last
// good version of the file as before.
func TestLastGoodIsSealed(t *testing.T) {
	data := t.TempDir()
	key, err := seal.Parse(seal.New())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, "bridge.d", "delivery-streams", "a.json")
	const doc = `{"DeliveryStreamName":"a","HttpEndpointDestinationConfiguration":{"EndpointConfiguration":{
	  "Url":"https://example.org","AccessKey":"hidden-key"},"S3Configuration":{"BucketARN":"arn:aws:s3:::lake"}}}`
	for i, c := range []struct {
		key     *seal.Key
		content string
		holds   int
		shown   bool
	}{
		{nil, doc, 1, true}, // of an earlier version
		{key, doc, 1, false},
		{key, `{"broken`, 1, false},
		{key, doc, 1, false},
		{nil, `{"broken`, 0, false}, // without the key
		{nil, doc, 1, true},
	} {
		b := open(t, data)
		b.dir.lastGood.seal = c.key
		b.dir.lastGood.sums = nil
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := b.dir.Apply(true)
		if n != c.holds || (err == nil) != (c.content == doc) {
			t.Errorf("%d: %d hold, %v", i, n, err)
		}
		shown := false
		if err := inRegistry.View(b.registry, func(tx records) error {
			return tx.Declarations("", func(_ string, kept []byte) {
				shown = shown || bytes.Contains(kept, []byte("hidden-key"))
			})
		}); err != nil || shown != c.shown {
			t.Errorf("%d: shown %v, %v", i, shown, err)
		}
		b.close()
	}
}

// A last good version that cannot be opened is told to the log, once.
func TestLastGoodCannotBeOpened(t *testing.T) {
	data := t.TempDir()
	path := filepath.Join(data, "bridge.d", "streams", "a.json")
	for _, content := range []string{`{"StreamName":"a"}`, "{"} {
		key, err := seal.Parse(seal.New()) // another one each time
		if err != nil {
			t.Fatal(err)
		}
		b := open(t, data)
		var text bytes.Buffer
		b.dir.lastGood.log = slog.New(slog.NewTextHandler(&text, nil))
		b.dir.lastGood.seal, b.dir.lastGood.sums, b.dir.lastGood.unopened = key, nil, map[string]bool{}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, err = b.dir.Apply(true)
		}
		said := strings.Count(text.String(), "last good version of a file cannot be opened")
		if broken := content == "{"; (err != nil) != broken || (said == 1) != broken || said > 1 ||
			broken && !strings.Contains(text.String(), seal.ErrSealed.Error()) {
			t.Errorf("%s: %v, %s", content, err, text.String())
		}
		b.close()
	}
}
