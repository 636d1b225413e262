// Package mqtttest publishes to an MQTT server as fast as its acknowledgements come
// and measures them. It is for benchmarks of the gateway and of whole bridges
// beside other brokers.
package mqtttest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// Options say what Run does. Zero values take the defaults named here.
type Options struct {
	Addr     string
	TLS      *tls.Config   // nil: without TLS
	Clients  int           // that publish (50)
	InFlight int           // unacknowledged publishes of each client (1)
	Payload  int           // bytes of each message (200)
	Duration time.Duration // of publishing (3 s)
	Rate     float64       // publishes a second of all clients together; 0: as fast as acknowledgements come
	Topic    string        // client i publishes to Topic/i ("load")
	ClientID string        // prefix of the client ids ("load-")

	Subscribers int  // more clients, subscribed to Topic/#
	QoS         byte // of the subscriptions; publishes have 1
}

// Result is what Run measured.
type Result struct {
	Sent, Acked uint64
	Delivered   uint64        // to the subscribers, until all was acknowledged
	Elapsed     time.Duration // from the first publish to the last acknowledgement
	PerSecond   float64       // acknowledgements
	// from just before the write, with a Rate from when it was due, to the acknowledgement, to a quarter
	P50, P99 time.Duration
}

func (o Options) withDefaults() Options {
	if o.Clients == 0 {
		o.Clients = 50
	}
	if o.InFlight == 0 {
		o.InFlight = 1
	}
	if o.Payload == 0 {
		o.Payload = 200
	}
	if o.Duration == 0 {
		o.Duration = 3 * time.Second
	}
	if o.Topic == "" {
		o.Topic = "load"
	}
	if o.ClientID == "" {
		o.ClientID = "load-"
	}
	return o
}

// Run connects all clients, lets them publish for o.Duration, waits for the
// acknowledgements that are missing and disconnects. Every publish sent must be
// acknowledged in order, or Run returns an error. It ends early with ctx.
func Run(ctx context.Context, o Options) (Result, error) {
	o = o.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		errs   []error
		res    Result
		counts histogram
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
		cancel()
	}
	var conns []*client
	defer func() {
		for _, c := range conns {
			c.nc.Close()
		}
	}()
	open := func(id string) *client {
		c, err := dial(ctx, o, id)
		if err != nil {
			fail(fmt.Errorf("load: client %s: %w", id, err))
			return nil
		}
		conns = append(conns, c)
		return c
	}

	var delivered atomic.Uint64
	var subs sync.WaitGroup
	for i := range o.Subscribers {
		c := open(fmt.Sprintf("%ssub-%d", o.ClientID, i))
		if c == nil {
			break
		}
		if err := c.subscribe(o.Topic+"/#", o.QoS); err != nil {
			fail(fmt.Errorf("load: subscribe: %w", err))
			break
		}
		subs.Go(func() { c.consume(&delivered) })
	}
	for i := range o.Clients {
		c := open(fmt.Sprintf("%s%d", o.ClientID, i))
		if c == nil {
			break
		}
		c.topic = fmt.Sprintf("%s/%d", o.Topic, i)
	}
	if len(errs) > 0 {
		return res, errors.Join(errs...)
	}
	begin := time.Now()
	until := begin.Add(o.Duration)
	for i, c := range conns[o.Subscribers:] {
		if o.Rate > 0 {
			c.every = time.Duration(float64(o.Clients) / o.Rate * float64(time.Second))
			c.due = begin.Add(c.every * time.Duration(i) / time.Duration(o.Clients))
		}
		stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(time.Unix(1, 0)) })
		wg.Go(func() {
			defer stop()
			h, err := c.publish(o, until)
			if err != nil {
				fail(fmt.Errorf("load: %s: %w", c.topic, err))
			}
			mu.Lock()
			defer mu.Unlock()
			res.Sent += c.sent
			res.Acked += c.acked
			counts.merge(&h)
		})
	}
	wg.Wait()
	res.Elapsed = time.Since(begin)
	res.Delivered = delivered.Load()
	for _, c := range conns {
		c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		c.nc.Write((&packet.Disconnect{Kind: packet.DISCONNECT}).Append(nil, packet.V311))
		c.nc.Close()
	}
	subs.Wait()
	res.PerSecond = float64(res.Acked) / res.Elapsed.Seconds()
	res.P50, res.P99 = counts.quantile(0.5), counts.quantile(0.99)
	return res, errors.Join(errs...)
}

type client struct {
	nc          net.Conn
	rd          *packet.Reader
	topic       string
	sent, acked uint64
	every       time.Duration // between publishes; 0: none
	due         time.Time     // the next one
}

func dial(ctx context.Context, o Options, id string) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var nc net.Conn
	var err error
	if o.TLS != nil {
		nc, err = (&tls.Dialer{Config: o.TLS}).DialContext(ctx, "tcp", o.Addr)
	} else {
		nc, err = (&net.Dialer{}).DialContext(ctx, "tcp", o.Addr)
	}
	if err != nil {
		return nil, err
	}
	c := &client{nc: nc, rd: packet.NewReader(nc, 16<<10, 1<<20)}
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	p := packet.Connect{Version: packet.V311, Clean: true, ClientID: id}
	var ack packet.Connack
	if err := c.ask(&p, &ack); err != nil || ack.Code != 0 {
		nc.Close()
		return nil, fmt.Errorf("CONNECT: return code %d: %w", ack.Code, err)
	}
	nc.SetDeadline(time.Time{})
	return c, nil
}

// ask sends p and reads its answer.
func (c *client) ask(p, answer packet.Packet) error {
	if _, err := c.nc.Write(p.Append(nil, packet.V311)); err != nil {
		return err
	}
	first, body, _, err := c.rd.Next()
	if err != nil {
		return err
	}
	return answer.Decode(first, body, packet.V311)
}

func (c *client) subscribe(filter string, qos byte) error {
	var ack packet.Suback
	err := c.ask(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: filter, Options: qos}}}, &ack)
	if err == nil && ack.Codes[0] > 2 {
		err = errors.New("refused")
	}
	return err
}

// consume counts deliveries, and acknowledges those that want it, until the
// connection ends.
func (c *client) consume(n *atomic.Uint64) {
	var out []byte
	var p packet.Publish
	for {
		if len(out) > 0 && !c.rd.Buffered() {
			if _, err := c.nc.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		first, body, _, err := c.rd.Next()
		if err != nil {
			return
		}
		if first>>4 != byte(packet.PUBLISH) || p.Decode(first, body, packet.V311) != nil {
			continue
		}
		n.Add(1)
		if p.QoS == 1 {
			out = (&packet.Ack{Kind: packet.PUBACK, ID: p.ID}).Append(out, packet.V311)
		}
	}
}

// publish keeps o.InFlight messages in flight until the time is over, and then
// waits for the last acknowledgement. With a rate it sends them when they are
// due, or later if acknowledgements are.
func (c *client) publish(o Options, until time.Time) (h histogram, err error) {
	times := make([]time.Time, 1<<bits.Len(uint(o.InFlight)))
	msg := packet.Publish{Topic: []byte(c.topic), QoS: 1, Payload: payload(o.Payload)}
	var out []byte
	next, want := uint16(1), uint16(1)
	after := func(id uint16) uint16 { return max(id+1, 1) }
	for over := false; ; {
		if c.every > 0 && c.sent == c.acked {
			time.Sleep(time.Until(c.due))
		}
		now := time.Now()
		over = over || !now.Before(until)
		out = out[:0]
		for !over && c.sent-c.acked < uint64(o.InFlight) && !c.due.After(now) {
			msg.ID = next
			times[int(c.sent)&(len(times)-1)] = now
			if c.every > 0 {
				times[int(c.sent)&(len(times)-1)] = c.due
				c.due = c.due.Add(c.every)
			}
			out = msg.Append(out, packet.V311)
			next = after(next)
			c.sent++
		}
		if c.sent == c.acked {
			return h, nil
		}
		if len(out) > 0 {
			if _, err := c.nc.Write(out); err != nil {
				return h, err
			}
		}
		read := time.Time{}
		for first := true; first || c.rd.Buffered(); first = false {
			head, body, _, err := c.rd.Next()
			if err != nil {
				return h, err
			}
			var ack packet.Ack
			if err := ack.Decode(head, body, packet.V311); err != nil {
				return h, err
			}
			if ack.Kind != packet.PUBACK || ack.ID != want {
				return h, fmt.Errorf("got %s %d, want PUBACK %d", ack.Kind, ack.ID, want)
			}
			if read.IsZero() {
				read = time.Now()
			}
			h.add(read.Sub(times[int(c.acked)&(len(times)-1)]))
			want = after(want)
			c.acked++
		}
	}
}

// payload returns a JSON object of n bytes, if n is large enough, with members
// like those of a reading.
func payload(n int) []byte {
	b := []byte(`{"ts":1700000000000,"temp":21.5,"hum":48.25,"pad":"`)
	if n < len(b)+2 {
		return bytes.Repeat([]byte{'7'}, n)
	}
	b = append(b, bytes.Repeat([]byte{'x'}, n-len(b)-2)...)
	return append(b, `"}`...)
}

// A histogram has four buckets for each power of two nanoseconds.
type histogram struct {
	n     [256]uint64
	total uint64
}

func (h *histogram) add(d time.Duration) {
	v := uint64(max(d, 4))
	k := bits.Len64(v)
	h.n[k*4+int(v>>(k-3)&3)]++
	h.total++
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.n {
		h.n[i] += n
	}
	h.total += o.total
}

// quantile returns the upper end of the bucket in which the quantile is.
func (h *histogram) quantile(q float64) time.Duration {
	left := uint64(q * float64(h.total))
	for i, n := range h.n {
		if n > left {
			return time.Duration(uint64(i%4+5) << (i/4 - 3))
		}
		left -= n
	}
	return 0
}
