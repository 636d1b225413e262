package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/deploy/rig"
)

// A backlog is what was begun and not done for the bucket Held when the bridge was
// killed.
type backlog struct {
	plan struct { // of the delivery stream
		Next uint64
		Plan struct {
			From, To uint64
			Key      string
		}
	}
	planned [][]byte           // records of it
	spans   []string           // names of objects that connectors had begun
	outbox  []*action.Delivery // of a rule
}

// waiting reads what waits, of the log of the bridge that does not run.
func (h *heir) waiting() (b backlog) {
	log, err := pebble.Open(filepath.Join(h.bridge.Dir, "log"), pebble.Options{})
	h.must(err)
	defer func() { h.must(log.Close()) }()
	h.must(errors.Join(b.readPlan(log), b.readLeases(log), b.readOutbox(log)))
	if len(b.planned) == 0 || len(b.spans) == 0 || len(b.outbox) == 0 {
		h.t.Fatalf("%d records planned, %d objects of connectors begun, %d deliveries wait: want some of each",
			len(b.planned), len(b.spans), len(b.outbox))
	}
	return b
}

func (b *backlog) readPlan(log *pebble.Store) error {
	info, err := log.Describe("$firehose/" + Held)
	if err != nil {
		return err
	}
	raw, err := log.Get(fmt.Appendf(nil, "firehose/%s/%d", Held, info.ID))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &b.plan); err != nil {
		return err
	}
	p := b.plan.Plan
	recs, err := log.Read(info.Name, 0, p.From, int(p.To-p.From), 1<<20)
	for _, r := range recs {
		b.planned = append(b.planned, r.Data)
	}
	return err
}

func (b *backlog) readLeases(log *pebble.Store) error {
	for name, prefix := range map[string]string{"readings": "connector/", Held: "mixed/"} {
		var wrong error
		err := log.Scan([]byte("connector/"+name+"/"), func(_, raw []byte) bool {
			var l struct {
				Pending *struct{ First, Last struct{ Sequence string } }
			}
			wrong = json.Unmarshal(raw, &l)
			if l.Pending != nil {
				b.spans = append(b.spans, prefix+l.Pending.First.Sequence+"-"+l.Pending.Last.Sequence)
			}
			return wrong == nil
		})
		if err := errors.Join(err, wrong); err != nil {
			return err
		}
	}
	return nil
}

func (b *backlog) readOutbox(log *pebble.Store) error {
	stream := action.OutboxStream("out", "1")
	first, err := action.Waiting(log, stream)
	if err != nil {
		return err
	}
	recs, err := log.Read(stream, 0, first, 10_000, 16<<20)
	for _, r := range recs {
		d, err := action.ParseDelivery(r.Data)
		if err != nil {
			return err
		}
		b.outbox = append(b.outbox, d)
	}
	return err
}

// held looks for all of the backlog in the bucket, where it was to go, and in the
// streams of dead letters: once.
func (h *heir) held(b backlog, appended uint64) {
	for prefix, lines := range map[string]func([]string) error{
		"stream/":    func(got []string) error { return h.accountLines("delivery stream", got, appended) },
		"connector/": func(got []string) error { return h.accountLines("connector", got, appended) },
		"mixed/":     func(got []string) error { return h.isMixed("connector "+Held, true, got) },
	} {
		h.must(rig.Until(h.ctx, prefix, func() (bool, error) {
			got, err := h.lines(prefix)
			if err == nil {
				err = lines(got)
			}
			return err == nil, err
		}))
	}
	if got, err := os.ReadFile(h.object(b.plan.Plan.Key)); err != nil {
		h.t.Error(err)
	} else if want := string(join(b.planned)); string(got) != want {
		h.t.Errorf("the object that was planned has %d bytes, want %d", len(got), len(want))
	}
	for _, name := range b.spans {
		if _, err := os.Stat(h.object(name)); err != nil {
			h.t.Error(err)
		}
	}
	for _, q := range h.m.Queued {
		for n := range q.Acked {
			name := fmt.Sprintf("outbox/%d/%d", q.Life, n+1)
			h.must(rig.Until(h.ctx, name, func() (bool, error) {
				got, err := os.ReadFile(h.object(name))
				return string(got) == fmt.Sprintf(`{"n":%d}`, n+1), err
			}))
		}
	}
	h.letters()
}

// letters looks for what is no JSON in the streams of dead letters, and for what
// is in the stream of the others.
func (h *heir) letters() {
	for stream, json := range map[string]bool{StreamSorted: true, "letters": false, "held-letters": false} {
		h.must(rig.Until(h.ctx, stream, func() (bool, error) {
			all, err := h.api.records(h.ctx, stream)
			var got []string
			for _, r := range all {
				got = append(got, r.Data)
			}
			if !json && err == nil {
				got, err = raw(got)
			}
			if err == nil {
				err = h.isMixed(stream, json, got)
			}
			return err == nil, err
		}))
	}
}

// raw are the records in dead letters.
func raw(letters []string) (all []string, err error) {
	for _, text := range letters {
		var letter struct{ RawData []byte }
		if err := json.Unmarshal([]byte(text), &letter); err != nil {
			return nil, err
		}
		all = append(all, string(letter.RawData))
	}
	return all, nil
}

// isMixed says whether got are the records of StreamMixed that are JSON, or those
// that are none, each once.
func (h *heir) isMixed(where string, json bool, got []string) error {
	seen, want := map[string]int{}, 0
	for _, text := range got {
		seen[text]++
	}
	var errs []error
	for i := range h.m.Mixed {
		if i%3 == 0 == json {
			continue
		}
		want++
		if n := seen[mixedRecord(i)]; n != 1 {
			errs = append(errs, fmt.Errorf("%s: %s is there %d times", where, mixedRecord(i), n))
		}
	}
	if len(got) != want {
		errs = append(errs, fmt.Errorf("%s: %d records, want %d", where, len(got), want))
	}
	return errors.Join(errs...)
}

func (h *heir) accountLines(where string, lines []string, appended uint64) error {
	var all []reading
	for _, line := range lines {
		one, err := decode([]byte(line))
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	return h.account(where, all, appended)
}

func (h *heir) object(key string) string { return filepath.Join(h.bridge.Dir, "objects", Held, key) }

// lines are those of all objects below a prefix.
func (h *heir) lines(prefix string) (all []string, err error) {
	err = filepath.WalkDir(h.object(prefix), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
		return err
	})
	return all, err
}

func join(records [][]byte) (all []byte) {
	for _, r := range records {
		all = append(all, r...)
	}
	return all
}
