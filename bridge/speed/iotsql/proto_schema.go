package iotsql

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/iotsql/protojson"
)

const (
	// schemaRefresh is how long a descriptor set is used before its object is
	// asked for again, whether it was there or not. Our choice: AWS takes up
	// to 15 minutes to see a new version.
	schemaRefresh = 10 * time.Second
	// maxSchemas is how many objects are kept, parsed; our choice.
	maxSchemas = 64
)

// schemas keeps the descriptor sets that statements use, parsed. Each object
// is asked for by one goroutine at a time, at most every schemaRefresh; the
// others use what is there meanwhile, and wait only the first time. A new
// version that can't be had leaves the old one in use.
type schemas struct {
	mu  sync.Mutex
	all map[[2]string]*storedSchema // by bucket and key
}

type storedSchema struct {
	asking chan struct{} // holds one token while the service is asked
	now    atomic.Pointer[schema]
}

// A schema is one version of a descriptor set.
type schema struct {
	types *protojson.Schema // nil if there is no such object, or a broken one
	tag   string
	err   error     // what is wrong with it
	until time.Time // when to ask again
}

var errNoSchema = errors.New("there is no such descriptor set")

// get returns the descriptor set of an object, and what is wrong with it. nil
// says that it could not be had, which x.Failed has been told, or that ctx
// ended first.
func (c *schemas) get(ctx context.Context, x *Services, bucket, key string) (*schema, error) {
	e := c.entry([2]string{bucket, key})
	s := e.now.Load()
	if s == nil || !time.Now().Before(s.until) {
		s = e.refresh(ctx, x, bucket, key, s)
	}
	if s == nil {
		return nil, nil
	}
	return s, s.err
}

// refresh asks for the object within callLimit, unless another goroutine is
// about it. It returns the newest version there is, old if nothing better.
func (e *storedSchema) refresh(evaluation context.Context, x *Services, bucket, key string, old *schema) *schema {
	ctx, cancel := context.WithTimeout(evaluation, callLimit)
	defer cancel()
	failed := func(err error) *schema {
		if evaluation.Err() == nil {
			x.failed(decodeProtoName, err)
		}
		return old
	}
	select {
	case e.asking <- struct{}{}:
	default:
		if old != nil {
			return old
		}
		select {
		case e.asking <- struct{}{}:
		case <-ctx.Done():
			return failed(ctx.Err())
		}
	}
	defer func() { <-e.asking }()
	if now := e.now.Load(); now != old { // another goroutine has asked
		return now
	}
	next, err := pass(ctx, func() (*schema, error) { return x.fetchSchema(ctx, bucket, key, old) })
	if err != nil {
		if failed(err) == nil {
			return nil
		}
		kept := *old
		next = &kept
	}
	next.until = time.Now().Add(schemaRefresh)
	e.now.Store(next)
	return next
}

// entry finds the place of an object; another one gives way to it if there
// are too many.
func (c *schemas) entry(at [2]string) *storedSchema {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.all[at]; e != nil {
		return e
	}
	if c.all == nil {
		c.all = map[[2]string]*storedSchema{}
	}
	for other := range c.all {
		if len(c.all) < maxSchemas {
			break
		}
		delete(c.all, other)
	}
	e := &storedSchema{asking: make(chan struct{}, 1)}
	c.all[at] = e
	return e
}

// fetchSchema asks for the object, of which old is the version last seen.
func (x *Services) fetchSchema(ctx context.Context, bucket, key string, old *schema) (*schema, error) {
	known := ""
	if old != nil {
		known = old.tag
	}
	set, tag, err := x.Protobuf.DescriptorSet(ctx, bucket, key, known)
	if err != nil {
		return nil, err
	}
	if old != nil && tag != "" && tag == known {
		same := *old
		return &same, nil
	}
	s := &schema{tag: tag}
	if set == nil {
		s.err = errNoSchema
	} else {
		s.types, s.err = protojson.Parse(set)
	}
	if s.err != nil {
		s.err = fmt.Errorf("%s of bucket %s: %w", key, bucket, s.err)
	}
	return s, nil
}
