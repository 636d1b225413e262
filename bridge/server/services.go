package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/shadow"
)

// services are what rules' statements may ask here: shadows, the registry and
// descriptor sets among the objects. The others have no service yet, so that
// rules that use them are refused. The roles that statements name are not
// looked at: whoever may make a rule may read every shadow and thing by it.
func (a *assembly) services(now func() time.Time) *iotsql.Services {
	if now == nil {
		now = time.Now
	}
	return &iotsql.Services{
		Shadows: storedShadows{a.shadows, now},
		Things: registeredThings{a.registry, a.arn},
		Protobuf: storedDescriptors{a.objects},
		Failed:   a.calls.fail,
	}
}

// storedShadows answer from the store, as of the last update that was
// finished: they do not wait behind requests for the same shadow.
type storedShadows struct {
	store interface {
		Get(thing, name string) (*shadow.Document, error)
	}
	now func() time.Time
}

// Shadow implements iotsql.Shadows.
func (x storedShadows) Shadow(_ context.Context, thing, name string) ([]byte, error) {
	d, err := x.store.Get(thing, name)
	if err != nil || !d.Alive() {
		return nil, err
	}
	return shadow.AppendGetAccepted(nil, d, "", x.now()), nil
}

// registeredThings answer as the operations of AWS's registry do.
type registeredThings struct {
	registry registry.Store
	arn      func(resource string) string
}

func (x registeredThings) thing(name string) (th registry.Thing, ok bool, err error) {
	err = x.registry.View(func(tx *registry.Tx) (err error) {
		th, err = tx.Thing(name)
		return err
	})
	if errors.Is(err, registry.ErrNotFound) {
		return th, false, nil
	}
	return th, err == nil, err
}

// Describe implements iotsql.Things. Things have no thingId here.
func (x registeredThings) Describe(_ context.Context, thing string) ([]byte, error) {
	th, ok, err := x.thing(thing)
	if !ok {
		return nil, err
	}
	if th.Attributes == nil {
		th.Attributes = map[string]string{}
	}
	return json.Marshal(struct {
		DefaultClientID string            `json:"defaultClientId"`
		ThingName       string            `json:"thingName"`
		ThingARN        string            `json:"thingArn"`
		ThingTypeName   string            `json:"thingTypeName,omitempty"`
		Attributes      map[string]string `json:"attributes"`
		Version         uint64            `json:"version"`
	}{th.Name, th.Name, x.arn("thing/" + th.Name), th.Type, th.Attributes, th.Version})
}

// Groups implements iotsql.Things: all groups that the thing is directly in.
func (x registeredThings) Groups(_ context.Context, thing string) ([]byte, error) {
	th, ok, err := x.thing(thing)
	if !ok {
		return nil, err
	}
	type group struct {
		Name string `json:"groupName"`
		ARN  string `json:"groupArn"`
	}
	groups := []group{}
	for _, g := range th.Groups {
		groups = append(groups, group{g, x.arn("thinggroup/" + g)})
	}
	return json.Marshal(map[string]any{"thingGroups": groups})
}

// storedDescriptors are objects of the embedded store.
type storedDescriptors struct{ objects *objects.Store }

// maxDescriptors is more than decode takes, which tells what is too large.
const maxDescriptors = 1 << 20

// DescriptorSet implements iotsql.Descriptors.
func (x storedDescriptors) DescriptorSet(ctx context.Context, bucket, key, _ string) (set []byte, tag string,
	err error) {
	set, tag, err = x.objects.Get(ctx, bucket, key, maxDescriptors)
	if errors.Is(err, sink.ErrNotFound) || errors.Is(err, sink.ErrName) {
		return nil, "", nil
	}
	return set, tag, err
}

// failedCalls counts the calls of statements that failed, and tells of them at
// most once a minute for each function.
type failedCalls struct {
	log *slog.Logger

	mu    sync.Mutex // guards what follows
	count map[string]int64
	told  map[string]time.Time
}

const tellEvery = time.Minute

func (c *failedCalls) fail(function string, err error) {
	c.mu.Lock()
	if c.count == nil {
		c.count, c.told = map[string]int64{}, map[string]time.Time{}
	}
	c.count[function]++
	n, tell := c.count[function], time.Since(c.told[function]) >= tellEvery
	if tell {
		c.told[function] = time.Now()
	}
	c.mu.Unlock()
	if tell {
		c.log.Warn("a call of rules failed; they go on with Undefined", "function", function, "failed_so_far", n, "err",
			err)
	}
}

// Counts returns how many calls failed, by function.
func (c *failedCalls) Counts() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.count)
}
