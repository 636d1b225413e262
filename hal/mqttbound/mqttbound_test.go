package mqttbound

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

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
	got, err := io.ReadAll(New(stutter{r: &wire}, MaxPacket))
	if err != nil || string(got) != want {
		t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
	}
	addr, _ := net.Pipe()
	if _, err := io.ReadAll(New(stutter{addr, bytes.NewReader([]byte{0xd0, 0x80, 0x80, 0x80, 0x80, 1})},
		MaxPacket)); err == nil {
		t.Error("a length of five bytes")
	}
}
