package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/datadir"
)

// What is wrong with the flags of move finish is told before the bridge is touched.
func TestMoveFinishChecksFirst(t *testing.T) {
	dir := t.TempDir()
	data, to, key := newData(t), filepath.Join(dir, "to"), filepath.Join(dir, "key")
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
