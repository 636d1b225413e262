package route

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/shadow"
)

func TestJoinCallsOnceWithTheFirstError(t *testing.T) {
	first := errors.New("first")
	for _, c := range []struct {
		answers []error
		want    error
	}{
		{[]error{nil, nil}, nil},
		{[]error{first, nil}, first},
		{[]error{nil, first}, first},
		{[]error{first, errors.New("second")}, first},
	} {
		var got []error
		done := join(2, func(err error) { got = append(got, err) })
		done(c.answers[0])
		if len(got) != 0 {
			t.Errorf("%v: done after the first of two", c.answers)
		}
		done(c.answers[1])
		if len(got) != 1 || !errors.Is(got[0], c.want) {
			t.Errorf("%v: %v, want %v once", c.answers, got, c.want)
		}
	}
}

// A publish is done by the committer alone, so it
// cannot be done while that does not run.
func TestNothingIsDoneBeforeTheLogHasIt(t *testing.T) {
	store, err := pebble.Open("log", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	in, err := ingest.New(store, ingest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	in.Publish(&message.Message{Topic: "dt/x", Payload: []byte("{}"), QoS: 1, ClientID: "x"}, nil, func(err error) {
		done <- err
	})
	select {
	case err := <-done:
		t.Errorf("done (%v) with the log at rest", err)
	default:
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = store.Run(ctx) })
	if err := <-done; err != nil {
		t.Error(err)
	}
	cancel()
	wg.Wait()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// The table of reserved topics has for the shadow service what it takes and tells.
func FuzzShadowTopics(f *testing.F) {
	for _, name := range []string{"$aws/things/t/shadow/get", "$aws/things/t/shadow/name/n/update/delta",
		"$aws/things/t/shadow/name/get", "$aws/things//shadow/get",
		"$aws/things/t/shadow/name//get", "$aws/things/t/shadow/get/delta", "$aws/things/t/shadow/update/",
		"$aws/things/t/jobs/get", "a"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if topic.ValidName(name) != nil {
			return
		}
		of, _ := topic.Lookup(name)
		s, ok := shadow.ParseTopic(name)
		if ok != (of.Service == topic.Shadows) || ok && (of.Takes != 0) != (s.Kind == shadow.Request) {
			t.Fatalf("%s: %+v, %v; in the table %+v", name, s, ok, of)
		}
	})
}
