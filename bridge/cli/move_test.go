package cli

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/server"
)

// What is wrong with the flags of move finish is told before the bridge is touched.
func TestMoveFinishChecksFirst(t *testing.T) {
	dir := t.TempDir()
	data, to, key := filepath.Join(dir, "data"), filepath.Join(dir, "to"), filepath.Join(dir, "key")
	cfg, err := config.Load("", func(string) string { return "" }, map[string]string{"data_dir": data})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Config: cfg, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	public, _, err := runText(t, "backup", "keygen", key)
	if err != nil {
		t.Fatal(err)
	}
	good := " -recipient " + strings.TrimSpace(public)
	for _, c := range []struct {
		args, says string
		status     int
	}{
		{"-to " + to, "no recipient", 1},
		{"-to " + to + " -recipient age1x", "recipient", 1},
		{"-to " + to + " -recipient " + key, "private key", 1},
		{"-to nas:/x" + good, "want a folder", 1},
		{"-to " + filepath.Join(key, "x") + good, "not a directory", 1},
		{"-to " + filepath.Join(data, "x") + good, "in the data directory", 1},
		{"-to " + to + good + " -address new.example.org", "want host:port", 2},
	} {
		step{"move finish -data " + data + " " + c.args, c.status, "", c.says}.run(t)
		if m, err := datadir.ReadMove(data); m != nil || err != nil {
			t.Fatalf("%s: the bridge is moved: %+v, %v", c.args, m, err)
		}
	}
	step{"move finish -data " + data + " -to " + to + good, 0, "is the last backup", ""}.run(t)
}
