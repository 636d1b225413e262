package lambda

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/lambda/runtimeapi"
	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
)

const (
	// apiAddress and proxyAddress are where a process in its own network finds the
	// Runtime API, and the way to the outside.
	apiAddress   = "127.0.0.1:9001"
	proxyAddress = "127.0.0.1:9002"
	// endpointAddress is where one that has a key finds the bridge's APIs.
	endpointAddress = "127.0.0.1:9003"
	// headerTimeout is how long a process may take with the head of a request.
	headerTimeout = time.Minute
	// freezeAfter is how long an idle process runs on: one that is called again at
	// once is not stopped in between.
	freezeAfter = 50 * time.Millisecond
	// answerFor is how long the caller waits with the answer for the process to ask
	// again, so that who calls one after the other finds the same process.
	answerFor = 10 * time.Millisecond
)

// An instance is one process of a function, with its Runtime API.
type instance struct {
	m       *Manager
	f       *Function
	process *sandbox.Process
	talk    *runtimeapi.Process
	proxy   *proxy // to the outside
	log     *callLog
	began   time.Time
	cold    time.Duration // that its start took; 0: told in a report before
	first   bool          // it was not called yet
	key     Key           // of the function's role; "": it has none

	// Guarded by Manager.mu.
	idle, settling bool
	used           uint64    // Manager.turn
	since          time.Time // idle

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	frozen bool
}

// start starts a process of f, for which take made room. It does not wait for its
// start to end.
func (m *Manager) start(f *Function) (i *instance, err error) {
	defer func() {
		if err != nil {
			m.mu.Lock()
			m.total--
			m.mu.Unlock()
		}
	}()
	dir, release, err := f.Open()
	if err != nil {
		return nil, err
	}
	i = &instance{m: m, f: f, talk: runtimeapi.New(), log: newCallLog(m.o.Log, f.Name), began: time.Now(), first: true}
	if m.o.Keys != nil {
		i.key, _ = m.o.Keys.Give(f, keyLife+f.Timeout+initTimeout)
	}
	if err := i.launch(dir); err != nil {
		i.endKey()
		release()
		return nil, err
	}
	m.mu.Lock()
	p := m.pool(f.Name)
	p.instances = append(p.instances, i)
	p.stats.ColdStarts++
	closed := m.closed
	m.mu.Unlock()
	if closed {
		i.process.Kill()
	}
	m.calls.Go(func() {
		<-i.process.Done()
		i.endKey()
		m.mu.Lock()
		m.remove(i)
		m.mu.Unlock()
		release()
	})
	return i, nil
}

func (i *instance) endKey() {
	if i.key.ID != "" {
		i.m.o.Keys.End(i.key.ID)
	}
}

// A service is what a process reaches at an address of its own.
type service struct {
	at  *string // of the place
	own string  // in its own network
	h   http.Handler
}

// services are the Runtime API, the way to the outside, and the bridge's APIs.
func (i *instance) services(p *place) []service {
	m, all := i.m, []service{{&p.api, apiAddress, i.talk.Handler()}}
	if m.o.Outside != nil && m.box.Means().Isolated() {
		i.proxy = &proxy{dial: m.o.Outside, log: i.log}
		all = append(all, service{&p.proxy, proxyAddress, i.proxy})
	}
	if i.key.ID != "" {
		all = append(all, service{&p.endpoint, endpointAddress, m.o.API})
	}
	return all
}

// launch starts the process and serves to it until it ends.
func (i *instance) launch(dir string) error {
	m, p := i.m, i.m.at(dir)
	spec := sandbox.Spec{Task: dir, Memory: int64(i.f.Memory) << 20}
	isolated := m.box.Means().Isolated()
	var open []net.Listener
	all := i.services(&p)
	for _, s := range all {
		if isolated {
			*s.at, spec.Listen = s.own, append(spec.Listen, s.own)
			continue
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			closeAll(open)
			return err
		}
		*s.at, open = l.Addr().String(), append(open, l)
	}
	if isolated {
		spec.Mounts = map[string]string{m.o.Runtime: runtimeDir}
	}
	var err error
	if spec.Argv, spec.Binds, err = m.program(i.f, p); err == nil {
		stream := time.Now().UTC().Format("2006/01/02/") + "[" + i.f.Version + "]" +
			strings.ReplaceAll(uuid.NewString(), "-", "")
		spec.Env = m.environment(i.f, p, stream, i.key)
		i.process, err = m.box.Start(spec, i.log)
	}
	if err != nil {
		closeAll(open)
		return err
	}
	if i.proxy != nil {
		i.proxy.done = i.process.Done()
	}
	for n, s := range all {
		if isolated {
			i.serve(i.process.Listeners[n], s.h)
		} else {
			i.serve(&ownPeers{open[n], i.process}, s.h)
		}
	}
	return nil
}

func closeAll(all []net.Listener) {
	for _, l := range all {
		_ = l.Close() // nobody came by it
	}
}

// serve serves h on l until the process ends.
func (i *instance) serve(l net.Listener, h http.Handler) {
	// SDKs for JavaScript speak HTTP/2 with Kinesis, by prior knowledge where there is no TLS.
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: both, MaxHeaderBytes: runtimeapi.MaxHeader, ErrorLog: nil,
		ReadHeaderTimeout: headerTimeout}
	i.m.calls.Go(func() { _ = s.Serve(l) }) // ends by Close
	i.m.calls.Go(func() {
		<-i.process.Done()
		_ = s.Close()
	})
}

// ownPeers lets only the process's own user in.
type ownPeers struct {
	net.Listener
	process *sandbox.Process
}

// Accept implements net.Listener.
func (l *ownPeers) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.process.OwnsPeer(c) {
			return c, err
		}
		_ = c.Close()
	}
}

// call calls the process. answered is called with the result as soon as it is
// there, after settling, if the process is to be used again. ok says that it is
// idle then.
func (i *instance) call(c *Call, answered func(*Result), settling func()) (r *Result, ok bool) {
	deadline := time.Now().Add(i.f.Timeout)
	if i.first {
		// Its start has time of its own, what it needs beyond that is the call's.
		deadline = deadline.Add(initTimeout)
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	i.log.begin(fmt.Sprintf("START RequestId: %s Version: %s\n", c.RequestID, i.f.Version))
	if i.first {
		r, called := i.ready(ctx, c)
		if !called {
			i.finish(c, r, i.began)
			answered(r)
			return r, false
		}
		i.cold = time.Since(i.began)
		i.first = false
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), i.f.Timeout)
		defer cancel()
	}
	began := time.Now()
	at, _ := ctx.Deadline()
	answer, err := i.give(ctx, &runtimeapi.Event{ID: c.RequestID, Deadline: at, ARN: i.f.ARN, Payload: c.Payload,
		Trace: trace(c, began), ClientContext: c.ClientContext})
	if err != nil {
		r = i.lost(ctx, c)
		i.finish(c, r, began)
		answered(r)
		return r, false
	}
	r = i.result(c, answer)
	settling()
	soon := time.NewTimer(answerFor)
	defer soon.Stop()
	i.finish(c, r, began)
	select {
	case <-i.talk.Asked():
		answered(r)
		return r, true
	case <-soon.C:
		answered(r)
	case <-i.process.Done():
		answered(r)
		return r, false
	}
	select {
	case <-i.talk.Asked():
		return r, true
	case <-i.process.Done():
	case <-ctx.Done():
	}
	return r, false
}

// ready waits until the process has started and asks for an event.
func (i *instance) ready(ctx context.Context, c *Call) (r *Result, ok bool) {
	select {
	case <-i.talk.Asked():
		return nil, true
	case a := <-i.talk.Failed():
		r = i.result(c, a)
		select { // it ends by itself
		case <-i.process.Done():
		case <-time.After(grace):
		}
		return r, false
	case <-i.process.Done():
		return i.lost(ctx, c), false
	case <-ctx.Done():
		return i.lost(ctx, c), false
	}
}

// give hands the event over and waits for the answer, the end of the process or of
// ctx.
func (i *instance) give(ctx context.Context, e *runtimeapi.Event) (runtimeapi.Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with this call
		select {
		case <-i.process.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	return i.talk.Give(ctx, e)
}

// freezeSoon stops the process after a while.
func (i *instance) freezeSoon() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer = time.AfterFunc(freezeAfter, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.timer != nil {
			i.frozen = true
			i.process.Freeze()
		}
	})
}

// thaw lets it go on.
func (i *instance) thaw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
	}
	if i.frozen {
		i.frozen = false
		i.process.Thaw()
	}
}

// startError is the result of a call for which no process could be started by the
// function's own fault; nil if it is another's.
func startError(err error, f *Function, c *Call) *Result {
	if !errors.Is(err, sandbox.ErrExec) {
		return nil
	}
	return &Result{Failed: unhandled, Version: f.Version,
		Payload: errorObject("Runtime.InvalidEntrypoint", fmt.Sprintf("RequestId: %s Error: %v", c.RequestID, err))}
}
