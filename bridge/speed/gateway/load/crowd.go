package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/packet"
)

// A Crowd are clients with a subscription each that connect and do nothing.
type Crowd struct {
	addr  string
	tls   []*tls.Config // of each, nil: without TLS
	conns []net.Conn
}

// NewCrowd returns n clients of the server at addr; conf is nil for plain TCP.
// Each client resumes its own TLS session when it connects again.
func NewCrowd(addr string, n int, conf *tls.Config) *Crowd {
	c := &Crowd{addr: addr, conns: make([]net.Conn, n)}
	if conf == nil {
		return c
	}
	for range n {
		own := conf.Clone()
		own.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		c.tls = append(c.tls, own)
	}
	return c
}

// Connect brings all in, 64 at a time, and returns how long it took.
func (c *Crowd) Connect() (time.Duration, error) {
	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 64)
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(c.conns) && errs[w] == nil; i = int(next.Add(1)) - 1 {
				c.conns[i], errs[w] = c.dial(i)
			}
		})
	}
	wg.Wait()
	return time.Since(begin), errors.Join(errs...)
}

func (c *Crowd) dial(i int) (net.Conn, error) {
	nc, err := net.DialTimeout("tcp", c.addr, 20*time.Second)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if c.tls != nil {
		nc = tls.Client(nc, c.tls[i])
	}
	out := (&packet.Connect{Version: packet.V311, Clean: true, ClientID: fmt.Sprint("c", i)}).Append(nil, packet.V311)
	out = (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: fmt.Sprint("c/", i), Options: 1}}}).Append(out, packet.V311)
	if _, err := nc.Write(out); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(nc, make([]byte, 9)) // CONNACK and SUBACK
	return nc, err
}

// Cut ends all connections without a word.
func (c *Crowd) Cut() {
	for i, nc := range c.conns {
		if t, ok := nc.(*tls.Conn); ok {
			nc = t.NetConn()
		}
		if nc != nil {
			nc.Close()
		}
		c.conns[i] = nil
	}
}
