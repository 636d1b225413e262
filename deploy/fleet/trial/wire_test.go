package trial

import (
	"bytes"
	"net"
	"strings"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// bugs are faults of the programs, planted at the seams that a test has anyway: the log's
// file system, the log that ingest is handed, and the connections.
type bugs struct {
	skipSync bool // the log's file system does not sync what it says it has synced
	earlyAck bool // a batch is acknowledged before the log has it
	// dropDelta: what a shadow's device is to change does not reach it. The delta alone is
	// not missed, since the device hears of the change by update/accepted too.
	dropDelta bool
	reorder   bool // two batches that are under way at once change places
	loseMark  bool // the bridge does not know which batches it has, after a start
}

// spoil returns a device's end of a connection whose packets are spoiled on their way, if
// a bug says so. bridge is the other end.
func (b bugs) spoil(bridge net.Conn) net.Conn {
	if !b.dropDelta && !b.reorder && !b.earlyAck {
		return bridge
	}
	near, far := net.Pipe()
	go relay(bridge, far, func(p packets.ControlPacket) error {
		switch m := p.(type) {
		case *packets.PublishPacket:
			if b.dropDelta && (strings.HasSuffix(m.TopicName, "/update/delta") ||
				strings.HasSuffix(m.TopicName, "/update/accepted") && bytes.Contains(m.Payload, []byte(`"desired"`))) {
				return nil
			}
		case *packets.PubackPacket:
			if b.earlyAck {
				return nil // all have been acknowledged
			}
		}
		return p.Write(far)
	})
	if b.reorder {
		go swap(far, bridge)
		return near
	}
	go relay(far, bridge, func(p packets.ControlPacket) error {
		if m, ok := p.(*packets.PublishPacket); ok && b.earlyAck && m.Qos == 1 {
			ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			ack.MessageID = m.MessageID
			if err := ack.Write(far); err != nil {
				return err
			}
		}
		return p.Write(bridge)
	})
	return near
}

// relay hands packets to send until one end is gone, and then ends both.
func relay(from, to net.Conn, send func(p packets.ControlPacket) error) {
	defer from.Close()
	defer to.Close()
	for {
		p, err := packets.ReadPacket(from)
		if err != nil || send(p) != nil {
			return
		}
	}
}

// swap hands on what comes, and of two batches that come in one piece the second first.
func swap(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	var rest []byte
	for chunk := make([]byte, 64<<10); ; {
		n, err := from.Read(chunk)
		if err != nil {
			return
		}
		rest = append(rest, chunk[:n]...)
		var all []packets.ControlPacket
		for {
			r := bytes.NewReader(rest)
			p, err := packets.ReadPacket(r)
			if err != nil {
				break // not whole yet
			}
			all, rest = append(all, p), rest[len(rest)-r.Len():]
		}
		for i := range len(all) - 1 {
			if isBatch(all[i]) && isBatch(all[i+1]) {
				all[i], all[i+1] = all[i+1], all[i]
				break
			}
		}
		for _, p := range all {
			if p.Write(to) != nil {
				return
			}
		}
	}
}

func isBatch(p packets.ControlPacket) bool {
	m, ok := p.(*packets.PublishPacket)
	return ok && m.TopicName == telemetry.Topic
}
