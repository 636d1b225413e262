package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A peer that announces 256 MB ends the connection and costs no memory.
func TestAnnouncedSizeIsBounded(t *testing.T) {
	b, ca := newBroker(t, func(c *conn) {
		c.accept(0)
		_, _ = c.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'x'})
		_, _ = io.Copy(io.Discard, c)
	})
	u := New(newFifo(0), b.options(t, ca))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := u.session(ctx)
	runtime.ReadMemStats(&after)
	var e *linkError
	if !errors.As(err, &e) || e.Kind != KindProtocol || !strings.Contains(e.Text, "announces a packet") {
		t.Errorf("%v", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("%d bytes were allocated for what was announced", got)
	}
	b.wg.Wait()
}

// Without TLS, and with a user and password, where Options say so.
func TestPlainWithPassword(t *testing.T) {
	client, server := net.Pipe()
	seen := make(chan *packets.ConnectPacket, 1)
	go func() {
		p, _ := packets.ReadPacket(server)
		c, _ := p.(*packets.ConnectPacket)
		seen <- c
		a := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
		a.ReturnCode = 5
		_ = a.Write(server)
		_, _ = io.Copy(io.Discard, server)
		_ = server.Close()
	}()
	u := New(newFifo(0), Options{Endpoint: "broker.test:1883", ClientID: "press-7", User: "pi",
		Password: func() (string, error) { return "tide", nil },
		TLS: func() (*tls.Config, error) {
			return nil, nil
		}, Dial: func(context.Context, string, string) (net.Conn, error) { return client, nil }})
	_, err := u.session(t.Context())
	c := <-seen
	if c == nil || c.Username != "pi" || string(c.Password) != "tide" {
		t.Fatalf("%+v", c)
	}
	var e *linkError
	if !errors.As(err, &e) || e.Kind != KindNotAuthorized || !strings.Contains(e.Text, "password_file") ||
		strings.Contains(e.Error(), "certificate") {
		t.Errorf("%v", err)
	}
}
