package ingest

import (
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// beginBatch takes a batch of readings. One that is not expanded costs what any
// message does.
func (in *Ingest) beginBatch(m *message.Message, may func(topic string) bool, done func(error)) (e *Entry) {
	cost := plainCost(m)
	defer func() { in.charge(m, e, cost) }()
	h, err := telemetry.DecodeHeader(m.Payload)
	switch {
	case err != nil:
		return in.quarantine(m, err.Error(), done)
	case m.Thing == "":
		return in.quarantine(m, "the client is no thing", done)
	case h.Seq == 0:
		return in.quarantine(m, "sequence 0", done)
	}
	l := in.lanes.get(laneKey{m.Thing, h.Spool, h.Boot})
	l.order.Lock()
	v, f, mark, err := l.decide(in.store, h.Seq, done)
	if err != nil || v != isNew {
		l.order.Unlock()
		in.lanes.put(l)
		switch {
		case err != nil:
			done(err)
		case v == isKnown:
			in.counts.duplicates.Add(1)
			done(nil)
		default:
			in.counts.duplicates.Add(1)
		}
		return nil
	}

	e = in.entry(done)
	e.lane, e.flight = l, f // Commit and end give them back
	b, err := telemetry.Decode(m.Payload)
	if err != nil {
		// The mark moves on with it, so that it is kept aside once.
		in.setAside(e, m, err.Error())
	} else {
		in.counts.batches.Add(1)
		in.counts.batchBytes.Add(uint64(len(m.Payload)))
		cost = in.expand(e, m, b, may)
	}
	if !l.listed {
		if err := makeRoom(in.store, e.batch, m.Thing); err != nil {
			in.warn("old marks were not removed", m.Thing, m.Topic, 1, "err", err)
		}
		l.listed = true
	}
	e.batch.Set(l.key.markKey(), appendMark(nil, mark, m.Time))
	return e
}

// expand adds a message and its record for each reading that policy allows, and
// returns what all of them cost, refused ones too.
func (in *Ingest) expand(e *Entry, m *message.Message, b *telemetry.Batch, may func(topic string) bool) Cost {
	shard, key := in.shardOf(m), keyOf(m)
	cost := Cost{Messages: b.Readings()}
	e.parts = make([]message.Message, 0, cost.Messages)
	// of all payloads: subscribers may keep them, so it isn't used again
	text := make([]byte, 0, 4*len(m.Payload)+32*cost.Messages)
	doubt := b.Doubt(m.Time)
	for i := range b.Series {
		s := &b.Series[i]
		topic := "dt/" + m.Thing + "/" + s.Sensor
		cost.Bytes += len(topic) * len(s.Times)
		if may != nil && !may(topic) {
			if e.refused == nil {
				e.refused = &telemetry.Refused{}
			}
			e.refused.Add(topic, len(s.Times))
			continue
		}
		stores, units := in.stores(topic), in.units(s)
		for j := range s.Times {
			e.parts = append(e.parts, *m)
			r := &e.parts[len(e.parts)-1]
			r.Topic = topic
			r.Retain = false                             // policy was not asked for a retained message on this topic
			r.Properties, r.Expires = units, time.Time{} // not those of the batch
			r.Trace = message.NewTrace()
			from := len(text)
			text = s.AppendJSON(text, j, doubt)
			r.Payload = text[from:len(text):len(text)]
			cost.Bytes += len(r.Payload)
			if stores {
				e.add(Stream, shard, key, r)
			}
		}
	}
	in.counts.messages.Add(uint64(len(e.parts)))
	in.counts.readings.Add(uint64(len(e.parts)))
	if r := e.refused; r != nil {
		in.counts.refused.Add(uint64(r.Readings))
		for _, t := range r.Topics {
			in.warn("policy refuses readings, they are dropped", m.Thing, t.Topic, t.Readings, "principal",
				m.Principal)
		}
	}
	return cost
}

// unitPrefix comes before a channel's name in the user property that has its unit.
const unitPrefix = "unit."

// units are the properties of MQTT 5 that all readings of s have: the unit of each channel
// that has one, if that is asked for.
func (in *Ingest) units(s *telemetry.Series) (props []byte) {
	if !in.opts.Units {
		return nil
	}
	for i := range s.Columns {
		if c := &s.Columns[i]; c.Unit != "" {
			props = packet.AppendUser(props, unitPrefix+c.Name, c.Unit)
		}
	}
	return props
}

// quarantine keeps a batch aside that has no usable sequence.
func (in *Ingest) quarantine(m *message.Message, why string, done func(error)) *Entry {
	e := in.entry(done)
	in.setAside(e, m, why)
	return e
}

func (in *Ingest) setAside(e *Entry, m *message.Message, why string) {
	in.counts.quarantined.Add(1)
	in.warn("batch is unreadable, kept aside in "+Quarantine, keyOf(m), m.Topic, 1, "client", m.ClientID, "why",
		why)
	e.add(Quarantine, 0, keyOf(m), m)
}
