package uplink

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/tidemill/tidemill/agent/mqttbound"
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

// stutter reads a few bytes at a time.
type stutter struct {
	net.Conn
	r io.Reader
}

func (s stutter) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 1+rand.IntN(7))]) }

// Packets within the bound pass as they are, however they come.
func TestBoundPasses(t *testing.T) {
	var wire bytes.Buffer
	for _, n := range []int{0, 1, 120, 128, 16000, 20000, 100 << 10} {
		p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		p.TopicName, p.Payload = "t", bytes.Repeat([]byte{0x30}, n)
		if err := p.Write(&wire); err != nil {
			t.Fatal(err)
		}
		_ = packets.NewControlPacket(packets.Pingresp).Write(&wire)
	}
	want := wire.String()
	got, err := io.ReadAll(mqttbound.New(stutter{r: &wire}, mqttbound.MaxPacket))
	if err != nil || string(got) != want {
		t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
	}
	addr, _ := net.Pipe()
	if _, err := io.ReadAll(mqttbound.New(stutter{addr, bytes.NewReader([]byte{0xd0, 0x80, 0x80, 0x80, 0x80, 1})},
		mqttbound.MaxPacket)); err == nil {
		t.Error("a length of five bytes")
	}
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
