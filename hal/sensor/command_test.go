package sensor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
)

// sh runs a script; the user writes a shell where one is wanted.
func sh(script string) []any { return []any{"/bin/sh", "-c", script} }

// within is a context for what must not hang.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// next is one pushed reading as text.
func next(t testing.TB, s hal.Sensor) string {
	t.Helper()
	p, err := s.(hal.Pusher).Next(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(p.At); age < 0 || age > 20*time.Second {
		t.Errorf("at %v", p.At)
	}
	return shown(p.Channels, p.Values)
}

// shown is a reading as text.
func shown(chs []hal.Channel, vals []hal.Value) string {
	var out []string
	for i, c := range chs {
		switch v := vals[i]; v.Kind() {
		case hal.Absent:
			out = append(out, c.Name+" absent")
		case hal.Bool:
			out = append(out, fmt.Sprintf("%s=%v", c.Name, v.Bool()))
		case hal.Text:
			out = append(out, fmt.Sprintf("%s=%q", c.Name, v.Text()))
		default:
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s=%.8g %s", c.Name, numberOf(v), c.Unit)))
		}
	}
	return strings.Join(out, " ")
}

func TestCommand(t *testing.T) {
	auto := map[string]any{"command": sh("echo temperature 21.5; echo 'open=true mode=eco'; echo '# fine'")}
	declared := map[string]any{"command": sh(`echo '{"a":{"b":1.5,"n":"7"},"state":"ON","mode":"eco"}'`),
		"channels": []any{
			map[string]any{"name": "b", "from": "a.b", "unit": "m", "scale": 2, "offset": 1},
			map[string]any{"name": "n", "from": "a.n", "kind": "int"},
			map[string]any{"name": "state", "kind": "bool"},
			map[string]any{"name": "eco", "from": "mode", "kind": "bool", "true_if": "eco"},
			map[string]any{"name": "mode", "kind": "text"},
			map[string]any{"name": "none"},
		}}
	for _, c := range []struct {
		opts map[string]any
		want string
	}{
		{auto, "temperature=21.5 open=true"},
		{declared, `b=4 m n=7 state=true eco=true mode="eco" none absent`},
		{map[string]any{"command": sh("echo home=$HOME; echo $# $PATH $A; pwd"), "dir": "/tmp",
			"env":      map[string]any{"A": "1"},
			"channels": []any{map[string]any{"name": "x", "from": "nothing"}}}, "protocol"},
		{map[string]any{"command": sh(`echo "user=$USER" "home=$HOME" "a=$A" "lang=$LANG"`), "env": map[string]any{"A": "5"}},
			"a=5"},
		{map[string]any{"command": []any{"/no/such/program"}}, "no_device"},
		{map[string]any{"command": sh("echo broken >&2; exit 3")}, "fault exit status 3: broken"},
		{map[string]any{"command": sh("kill -9 $$")}, "fault signal: killed"},
		{map[string]any{"command": sh("true")}, "not_ready"},
		{map[string]any{"command": sh("while :; do echo a=1; done | head -c 100000")}, "protocol more than 65536"},
	} {
		s, err := sensor.Open(within(t, 20*time.Second), "command", nil, c.opts)
		var vals []hal.Value
		if err == nil {
			defer s.Close()
			vals, err = s.Read(within(t, 20*time.Second))
		}
		if err != nil {
			kind, says, _ := strings.Cut(c.want, " ")
			if sensor.KindOf(err) != kind || !strings.Contains(err.Error(), says) {
				t.Errorf("%v: %v, want %s", c.opts["command"], err, c.want)
			}
			continue
		}
		if got := shown(s.Channels(), vals); got != c.want {
			t.Errorf("%v:\n got %s\nwant %s", c.opts["command"], got, c.want)
		}
	}
	for _, opts := range []map[string]any{auto, declared} {
		haltest.Sensor(t, func(t testing.TB) hal.Sensor { return open(t, "command", nil, opts) })
	}
	haltest.Sensor(t, func(t testing.TB) hal.Sensor {
		return open(t, "command", nil, map[string]any{"mode": "stream",
			"command": sh("while :; do echo n=1; sleep 0.01; done"), "channels": []any{map[string]any{"name": "n"}}})
	})
	if got := fmt.Sprint(sensor.Check("command", map[string]any{"command": []any{"sh"}, "dir": "tmp",
		"env": map[string]any{"A=": "b"}})); got != `[command: "sh", want an absolute path first dir: "tmp", want an `+
		`absolute path env: "A=", want names without =]` {
		t.Error(got)
	}
}

// A program that hangs is ended with all that it started, and holds nobody up.
func TestCommandHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	script := fmt.Sprintf(`[ -f %[1]s.go ] || { touch %[1]s.go; echo a=1; exit; }
		trap '' TERM
		sleep 1000 & echo $$ $! > %[1]s.new; mv %[1]s.new %[1]s; wait; wait; sleep 1000`, pids)
	s := keep(t, "command", nil, map[string]any{"command": sh(script)})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		await.True(t, "the program runs", func() bool { _, err := os.Stat(pids); return err == nil })
		cancel()
	}()
	began := time.Now()
	if _, err := s.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := s.Read(t.Context()); err == nil || sensor.KindOf(err) != "busy" && !strings.Contains(err.Error(), "it says") {
		t.Logf("the next reading: %v", err)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		await.True(t, "the group has ended", func() bool { return !alive(pid) })
	}
}

// alive says whether a process runs; one that has ended and was not waited for does
// not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestCommandStream(t *testing.T) {
	s := keep(t, "command", nil, map[string]any{"mode": "stream", "command": sh(`
		echo temperature 20.5; echo not understood at all; echo; echo "x=1,y=2"; printf '%05000d\n' 1
		echo '{"last": true}'; echo "gone wrong" >&2; sleep 0.2; exit 7`)})
	for _, want := range []string{"temperature=20.5", "x=1 y=2", "last=true"} {
		if got := next(t, s); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	_, err := s.(hal.Pusher).Next(within(t, 20*time.Second))
	if sensor.KindOf(err) != "fault" || !strings.Contains(err.Error(), "exit status 7: gone wrong; tried again in") {
		t.Errorf("%v", err)
	}
	// It is started again by itself.
	await.True(t, "it runs again", func() bool {
		p, err := s.(hal.Pusher).Next(within(t, 20*time.Second))
		return err == nil && shown(p.Channels, p.Values) == "temperature=20.5"
	})
	if v := reading(t, s); v["readings"].Int() < 4 {
		t.Errorf("%v", v)
	}
	if _, err := sensor.Open(t.Context(), "command", nil, map[string]any{"mode": "stream",
		"command": []any{"/no/such/program"}}); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("%v, want no device", err)
	}
}

// Of readings that nobody takes the newest 256 are kept.
func TestFeedKeepsNewest(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	s := keep(t, "command", nil, map[string]any{"mode": "stream", "command": sh(fmt.Sprintf(`
		if [ -f %[1]s ]; then touch %[1]s.again; exec sleep 1000; fi
		touch %[1]s
		i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo n=$i; done`, mark))})
	await.True(t, "it runs for the second time", func() bool { _, err := os.Stat(mark + ".again"); return err == nil })
	for n := 300 - 256 + 1; n <= 300; n++ {
		if got, want := next(t, s), fmt.Sprintf("n=%d", n); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// A program that says too much fills no memory: the oldest readings go, and it waits.
func TestCommandFloods(t *testing.T) {
	s := keep(t, "command", nil, map[string]any{"mode": "stream",
		"command": sh("i=0; while :; do i=$((i+1)); echo n=$i; done")})
	await.True(t, "more came than are kept", func() bool { v := reading(t, s); return v["readings"].Int() > 400 })
	await.True(t, "what its queue drops is counted", func() bool { return s.(hal.Dropper).Dropped() > 0 })
}
