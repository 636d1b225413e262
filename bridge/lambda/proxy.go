package lambda

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Dialer opens connections to what functions may reach of the network.
// An egress list is one.
type Dialer interface {
	// Dial connects to host:port, or says that it may not be reached.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	// dialFor is how long a connection to the outside may take to come about.
	dialFor = 10 * time.Second
	// maxTunnels bounds a process's connections to the outside.
	maxTunnels = 64
)

// A proxy is the only way out of a process's own network: tunnels (CONNECT) to what
// dial lets through. What a process asks of it by plain HTTP is refused, so that it
// never has to read what is inside.
type proxy struct {
	dial Dialer
	log  *callLog
	done <-chan struct{} // of the process

	mu   sync.Mutex // guards open
	open int
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "functions reach the outside by https alone", http.StatusMethodNotAllowed)
		return
	}
	if !p.enter() {
		http.Error(w, "too many connections", http.StatusTooManyRequests)
		return
	}
	defer p.leave()
	ctx, cancel := context.WithTimeout(r.Context(), dialFor)
	defer cancel()
	out, err := p.dial.Dial(ctx, "tcp", r.Host)
	if err != nil {
		p.log.line(fmt.Sprintf("egress: %v\n", err))
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	defer out.Close()
	in, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	if _, err := io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	ended := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		select {
		case <-p.done:
			_ = in.Close()
			_ = out.Close()
		case <-ended:
		}
	})
	all.Go(func() { tunnel(out, in) })
	tunnel(in, out)
	close(ended)
	all.Wait()
}

// tunnel copies until from ends, and tells the other side so.
func tunnel(to, from net.Conn) {
	_, _ = io.Copy(to, from) // both ends see what went wrong
	if c, ok := to.(*net.TCPConn); ok && c.CloseWrite() == nil {
		return
	}
	_ = to.Close()
}

func (p *proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= maxTunnels {
		return false
	}
	p.open++
	return true
}

func (p *proxy) leave() {
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
}
