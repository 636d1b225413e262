package rig

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A Proxy is a TCP link that can be cut. It counts the bytes that went
// through.
type Proxy struct {
	target string
	l      net.Listener
	wg     sync.WaitGroup

	up, down atomic.Int64 // bytes to and from the target

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	cut   bool
}

// NewProxy listens on a free loopback port and forwards to target.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &Proxy{target: target, l: l, conns: map[net.Conn]bool{}}, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Bytes returns what went to the target and what came from it.
func (p *Proxy) Bytes() (up, down int64) { return p.up.Load(), p.down.Load() }

// Run forwards until ctx ends and returns when every connection is closed.
func (p *Proxy) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		p.l.Close()
		p.Cut()
	})
	defer stop()
	defer p.wg.Wait()
	for {
		c, err := p.l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		p.wg.Go(func() { p.forward(ctx, c) })
	}
}

// Cut breaks every connection with a reset, so that what was under way is
// lost, and refuses new ones until Mend.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		c.Close()
	}
}

// Mend lets connections through again.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// hold registers c unless the link is cut.
func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *Proxy) forward(ctx context.Context, c net.Conn) {
	if !p.hold(c) {
		return
	}
	defer p.drop(c)
	var d net.Dialer
	t, err := d.DialContext(ctx, "tcp", p.target)
	if err != nil || !p.hold(t) {
		return
	}
	defer p.drop(t)
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(c, countingReader{t, &p.down})
		c.Close()
	}()
	_, _ = io.Copy(t, countingReader{c, &p.up})
	t.Close()
	<-back
}

// countingReader adds what is read to n.
type countingReader struct {
	io.Reader
	n *atomic.Int64
}

func (c countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}
