package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

func TestRates(t *testing.T) {
	r := rates{}
	at := time.UnixMilli(1_000_000)
	var got []string
	for _, ms := range []int{0, 0, 500, 1000, 3000} {
		got = append(got, r.add("a", at.Add(time.Duration(ms)*time.Millisecond)))
	}
	if want := "- - 4/s 3/s 1.33/s"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	for i := range 1000 { // one each 10 s, whatever was before
		got[0] = r.add("a", at.Add(time.Duration(i)*10*time.Second))
	}
	if got[0] != "0.1/s" {
		t.Error(got[0])
	}
	for i := range 3 * ratedMost {
		r.add(fmt.Sprint(i), at)
	}
	if len(r) > ratedMost {
		t.Errorf("%d topics are remembered", len(r))
	}
}

// watch prints what the hub of a bridge shows, quoted, until it has enough or
// is interrupted; when the bridge stops it says so.
func TestWatch(t *testing.T) {
	dir := shortDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	hub := &watch.Hub{}
	srv := &http.Server{Handler: admin.New(admin.Options{Watch: hub, Metrics: http.NotFoundHandler(),
		Log: slog.New(slog.DiscardHandler)})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	// begin runs watch; show shows it a message until it is there.
	var out, errs bytes.Buffer
	begin := func(ctx context.Context, args ...string) <-chan error {
		out.Reset()
		errs.Reset()
		done := make(chan error, 1)
		go func() { done <- run(ctx, "test", append([]string{"watch", "-data", dir}, args...), &out, &errs) }()
		return done
	}
	show := func(done <-chan error, topic, payload string) error {
		for {
			hub.Show(&message.Message{Topic: topic, Payload: []byte(payload), Time: time.Now().UnixMilli(),
				Thing: "pi-1"})
			select {
			case err := <-done:
				return err
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	if err := show(begin(t.Context(), "-n", "2", "dt/#"), "dt/pi-1/x", "{\"t\": \"\\u001b\"}\x1b[2J"); err != nil {
		t.Error(err)
	}
	if want := regexp.MustCompile(
		`^\d\d:\d\d:\d\d\.\d{3} +- +dt/pi-1/x  \{"t": "\\u001b"\}\\u001b\[2J\n.*/s  dt/pi-1/x`); !want.MatchString(
		out.String()) || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%s", out.String())
	}
	if !strings.Contains(errs.String(), "watching dt/#; Ctrl-C ends\n") {
		t.Errorf("%s", errs.String())
	}
	if err := show(begin(t.Context(), "-n", "1", "-json"), "dt/pi-1/x", `{"t":1}`); err != nil {
		t.Error(err)
	}
	var line watch.Line
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Topic != "dt/pi-1/x" ||
		string(line.JSON) != `{"t":1}` || line.Thing != "pi-1" {
		t.Errorf("%s: %v", out.String(), err)
	}
	if err := <-begin(t.Context(), "a#"); err == nil || !strings.Contains(err.Error(), `filter "a#"`) {
		t.Errorf("a wrong filter: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := begin(ctx)
	cancel()
	if err := <-done; err != nil && !strings.Contains(err.Error(), "canceled") {
		t.Errorf("interrupted: %v", err)
	}
	done = begin(t.Context())
	for {
		srv.Close() // and what has connected meanwhile
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "the bridge has stopped") &&
				!strings.Contains(err.Error(), "no bridge runs") {
				t.Errorf("the bridge ends: %v", err)
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}
