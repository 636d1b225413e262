package cli

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/server"
)

// A start that finds something taken says by whom and what to do: another bridge
// over the data directory first, then the setting whose port is not free.
func TestServeTaken(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conf := func(taken string) string {
		text := ""
		for _, setting := range []string{"mqtt", "https", "admin"} {
			at := "127.0.0.1:0"
			if setting == taken {
				at = l.Addr().String()
			}
			text += fmt.Sprintf("[%s]\nlisten = %q\n", setting, at)
		}
		path := filepath.Join(dir, taken+".toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return " -config " + path
	}
	serve := func(taken, data, want string) {
		t.Helper()
		_, _, err := runText(t, strings.Fields("serve -data "+data+conf(taken))...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s taken, data %s: %v; want %q", taken, data, err, want)
		}
	}
	for _, setting := range []string{"mqtt", "https", "admin"} {
		serve(setting, data, "another program has this port: end it, or set "+setting+".listen")
	}
	serve("admin", file, file+" is, or is in, a file")
	serve("admin", file+"/in", file+"/in is, or is in, a file")
	if _, err := os.Stat("/proc/self"); err == nil {
		serve("", "/proc/x", "holds 0 MiB in all")
	}
	cfg, err := config.Load("", func(string) string { return "" }, map[string]string{"data_dir": data})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Config: cfg, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	serve("admin", data, data+": another tidemill-bridge uses it")
}

// Who asks a stopped bridge something gets the answer alone; what is wrong with the
// access keys is said by reload, as by serve.
func TestCommandsAreQuiet(t *testing.T) {
	data := newData(t)
	keys := filepath.Join(data, "pki", "access-keys")
	text, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "[second]\naws_access_key_id = AKIASECOND\naws_secret_access_key = abc\n"...)
	if err := os.WriteFile(keys, text, 0o600); err != nil {
		t.Fatal(err)
	}
	step{"clock show -data " + data, 0, "", ""}.run(t)
	step{"cert list -data " + data, 0, "", ""}.run(t)
	step{"reload -data " + data, 0, "no bridge runs", "an access key may do nothing"}.run(t)
}
