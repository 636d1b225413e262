package mqtttest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
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
	var conf *tls.Config
	if c.tls != nil {
		conf = c.tls[i]
	}
	return subscribed(c.addr, fmt.Sprint("c", i), fmt.Sprint("c/", i), conf)
}

// subscribed connects a client that subscribes to filter with QoS 1.
func subscribed(addr, id, filter string, conf *tls.Config) (net.Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if conf != nil {
		nc = tls.Client(nc, conf)
	}
	out := (&packet.Connect{Version: packet.V311, Clean: true, ClientID: id}).Append(nil, packet.V311)
	out = (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: filter, Options: 1}}}).Append(out, packet.V311)
	if _, err := nc.Write(out); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(nc, make([]byte, 9)) // CONNACK and SUBACK
	return nc, err
}

// Sleep connects a client that subscribes to filter with QoS 1 and then reads
// nothing, until ctx ends or the server closes the connection, which it looks
// for now and then.
func Sleep(ctx context.Context, addr, id, filter string, conf *tls.Config) error {
	nc, err := subscribed(addr, id, filter, conf)
	if err != nil {
		return err
	}
	defer nc.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			// PINGREQ: a connection that the server closed refuses it.
			if _, err := nc.Write([]byte{0xc0, 0}); err != nil {
				return nil
			}
		}
	}
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
