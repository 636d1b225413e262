// Package lookup answers what statements of rules ask: shadows, things of the
// registry, and descriptor sets among the objects. The roles that statements name
// are not looked at: whoever may make a rule may read every shadow and thing by it.
package lookup

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/shadow"
)

// A Documents reads shadows; a shadow store is one.
type Documents interface {
	Get(thing, name string) (*shadow.Document, error)
}

// Shadows answer from the store, as of the last update that was finished: they do
// not wait behind requests for the same shadow.
type Shadows struct {
	documents Documents
	now       func() time.Time
}

// NewShadows returns the shadows of a store; now is the time of answers, nil:
// time.Now.
func NewShadows(d Documents, now func() time.Time) Shadows {
	if now == nil {
		now = time.Now
	}
	return Shadows{d, now}
}

// Shadow implements iotsql.Shadows.
func (x Shadows) Shadow(_ context.Context, thing, name string) ([]byte, error) {
	d, err := x.documents.Get(thing, name)
	if err != nil || !d.Alive() {
		return nil, err
	}
	return shadow.AppendGetAccepted(nil, d, "", x.now()), nil
}

// A Registry reads things; registry.Registry is one.
type Registry interface {
	// Thing returns registry.ErrNotFound for none.
	Thing(name string) (registry.Thing, error)
}

// Things answer as the operations of AWS's registry do.
type Things struct {
	Registry        Registry
	Account, Region string // of ARNs
}

func (x Things) thing(name string) (th registry.Thing, ok bool, err error) {
	th, err = x.Registry.Thing(name)
	if errors.Is(err, registry.ErrNotFound) {
		return th, false, nil
	}
	return th, err == nil, err
}

func (x Things) arn(resource string) string { return arn.IoT(x.Region, x.Account, resource) }

// Describe implements iotsql.Things. Things have no thingId here.
func (x Things) Describe(_ context.Context, thing string) ([]byte, error) {
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
func (x Things) Groups(_ context.Context, thing string) ([]byte, error) {
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

// Objects are those of the embedded store.
type Objects interface {
	// Get returns at most limit bytes; its errors wrap sink.ErrNotFound, sink.ErrName or are the disk's.
	Get(ctx context.Context, bucket, key string, limit int) (text []byte, tag string, err error)
}

// Descriptors are sets of Protocol Buffers descriptors among the objects.
type Descriptors struct{ Objects Objects }

// maxDescriptors is more than decode takes, which tells what is too large.
const maxDescriptors = 1 << 20

// DescriptorSet implements iotsql.Descriptors.
func (x Descriptors) DescriptorSet(ctx context.Context, bucket, key, _ string) (set []byte, tag string,
	err error) {
	set, tag, err = x.Objects.Get(ctx, bucket, key, maxDescriptors)
	if errors.Is(err, sink.ErrNotFound) || errors.Is(err, sink.ErrName) {
		return nil, "", nil
	}
	return set, tag, err
}

// Failures counts the calls of statements that failed, and has them logged, seldom.
type Failures struct {
	log     *slog.Logger
	notices *notice.Log

	mu    sync.Mutex // guards what follows
	count map[string]int64
}

// NewFailures returns a Failures that logs by n.
func NewFailures(n *notice.Log, log *slog.Logger) *Failures {
	return &Failures{log: log, notices: n, count: map[string]int64{}}
}

// Failed notes that a call of a function failed.
func (c *Failures) Failed(function string, err error) {
	c.mu.Lock()
	c.count[function]++
	c.mu.Unlock()
	c.notices.Happened("function "+function, func(n uint64) {
		c.log.Warn("a call of rules failed; they go on with Undefined", "function", function, "count", n, "err", err)
	})
}

// Counts returns how many calls failed, by function.
func (c *Failures) Counts() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.count)
}
