package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/deploy/await"
)

// nowhere is a catalog for rules that only republish.
type nowhere struct{}

func (nowhere) Shard(string, streams.Hash) (int, bool)             { return 0, false }
func (nowhere) HasDeliveryStream(string) bool                      { return false }
func (nowhere) Remote(string) bool                                 { return false }
func (nowhere) Channel(string, bool) error                         { return nil }
func (nowhere) Queue(*streams.Batch, string, *queue.Message) error { return nil }
func (nowhere) Room(string) error                                  { return nil }
func (nowhere) Takes(*action.Delivery) error                       { return nil }

// republisher is what the bridge's router does with the republish action.
type republisher struct{ f *fixture }

func (r republisher) Republish(_ context.Context, b *streams.Batch, d *action.Delivery) (func(error), error) {
	return r.f.Stage(&message.Message{Topic: d.Name, Payload: d.Data, QoS: d.QoS}, b), nil
}

// A listener is a client that acknowledges what it gets and remembers it, until
// the power goes.
type listener struct {
	mu     sync.Mutex
	frozen bool
	got    []packet.Publish
}

func (l *listener) listen(w *wire) {
	for {
		first, body, _, err := w.rd.Next()
		if err != nil {
			return
		}
		q, err := packet.Decode(first, append([]byte(nil), body...), packet.V311)
		if err != nil {
			return
		}
		p, ok := q.(*packet.Publish)
		l.mu.Lock()
		if ok && !l.frozen {
			l.got = append(l.got, *p)
			if p.QoS == 1 {
				w.nc.Write(ackOf(packet.PUBACK, p.ID).Append(nil, packet.V311))
			}
		}
		l.mu.Unlock()
	}
}

// Whenever the power goes, a session that is away has each republished message
// once and in order, and one that is connected gets what it may have had already
// with DUP.
func TestRepublishOverPowerCuts(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-seed)", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	target, err := action.Compile(json.RawMessage(`{"republish":{"topic":"out/x","qos":1}}`), "r", "0",
		func(text string) (*iotsql.Template, error) { return iotsql.CompileTemplate(text, iotsql.Version2016) },
		nowhere{})
	if err != nil {
		t.Fatal(err)
	}
	fs, staged := vfs.NewCrashableMem(), 0
	live := &listener{}
	for cut := range *powerCuts + 1 {
		f := startDurable(t, Config{OutInFlight: 8}, fs, start)
		store := f.conf.Store.(*pebble.Store)
		if cut == 0 {
			for _, id := range []string{"away", "live"} {
				w := f.resume(t, id, false)
				w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "out/#", Options: 1}}})
				w.want(&packet.Suback{ID: 1, Codes: []byte{1}})
				w.nc.Close()
			}
			await.True(t, "both are away", func() bool { return f.Stats().Clients == 0 })
		}
		var wg sync.WaitGroup
		w := f.resume(t, "live", true)
		wg.Go(func() { live.listen(w) })
		boxes := action.NewOutboxes(store)
		x := action.NewDrainer(boxes, action.Options{Republish: republisher{f}, Log: quiet(),
			Failed: func(*streams.Batch, *action.Delivery, error) {}})
		if err := boxes.Ensure(target.Outbox()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- x.Run(ctx) }()
		for range 1 + r.IntN(4) {
			b := store.NewBatch()
			for range 1 + r.IntN(200) {
				staged++
				in := &action.Input{Input: &iotsql.Input{Rule: "r", Message: message.Message{Topic: "dt/x"}},
					Doc: fmt.Appendf(nil, "%06d", staged)}
				if err := target.Stage(t.Context(), b, in); err != nil {
					t.Fatal(err)
				}
			}
			if err := store.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(r.IntN(1500)) * time.Microsecond)
		}
		if cut == *powerCuts {
			await.True(t, "the outbox is empty", func() bool {
				pos, err := action.Waiting(store, target.Outbox())
				return err == nil && pos == uint64(staged)
			})
			away := &listener{}
			back := f.resume(t, "away", true)
			wg.Go(func() { away.listen(back) })
			await.True(t, "all deliveries", func() bool { return f.Stats().QueueBytes == 0 })
			back.nc.Close()
			w.nc.Close()
			wg.Wait()
			if len(away.got) != staged {
				t.Errorf("the session that was away has %d messages, %d were republished", len(away.got), staged)
			}
			for i, p := range away.got {
				if want := fmt.Sprintf("%06d", i+1); string(p.Payload) != want {
					t.Errorf("message %d of it is %s", i+1, p.Payload)
					break
				}
			}
		} else {
			live.mu.Lock()
			live.frozen = true
			live.mu.Unlock()
			cutFS := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
			w.nc.Close()
			wg.Wait()
			fs = cutFS
			live.frozen = false
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		f.stop()
	}
	seen, again := map[string]bool{}, 0
	for _, p := range live.got {
		if m := string(p.Payload); seen[m] {
			if again++; !p.Dup {
				t.Errorf("%s came to the connected client again, without DUP", m)
			}
		} else {
			seen[m] = true
		}
	}
	if len(seen) != staged {
		t.Errorf("the connected client had %d of %d messages", len(seen), staged)
	}
	t.Logf("%d messages over %d power cuts; %d came to the connected client again", staged, *powerCuts, again)
}
