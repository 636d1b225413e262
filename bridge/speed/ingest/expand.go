package ingest

import (
	"github.com/tidemill/tidemill/agent/telemetry"
)

// publishBatch takes a batch of readings. One that is not expanded costs what any
// message does.
func (in *Ingest) publishBatch(m *Message, may func(topic string) bool, done func(error)) Cost {
	plain := plainCost(m)
	h, err := telemetry.DecodeHeader(m.Payload)
	switch {
	case err != nil:
		in.quarantine(m, err.Error(), done)
		return plain
	case m.Thing == "":
		in.quarantine(m, "the client is no thing", done)
		return plain
	case h.Seq == 0:
		in.quarantine(m, "sequence 0", done)
		return plain
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
		return plain
	}

	w := in.work(done)
	w.lane, w.flight = l, f // finish gives them back
	w.stage(m)
	var msgs []Message
	cost := plain
	b, err := telemetry.Decode(m.Payload)
	if err != nil {
		// The mark moves on with it, so that it is kept aside once.
		in.setAside(w, m, err.Error())
	} else {
		in.counts.batches.Add(1)
		in.counts.batchBytes.Add(uint64(len(m.Payload)))
		msgs, cost = in.expand(w, m, b, may)
	}
	if !l.listed {
		if err := makeRoom(in.store, w.batch, m.Thing); err != nil {
			in.warn.say("old marks were not removed", m.Thing, m.Topic, 1, "err", err)
		}
		l.listed = true
	}
	w.batch.Set(l.key.markKey(), appendMark(nil, mark, m.Time))
	for i := range msgs {
		w.deliver(&msgs[i])
	}
	w.commit()
	l.order.Unlock()
	return cost
}

// expand adds a record for each reading that policy allows, and returns the
// messages to deliver, and what all of them cost, refused ones too.
func (in *Ingest) expand(w *work, m *Message, b *telemetry.Batch, may func(topic string) bool) ([]Message, Cost) {
	shard, key := in.shardOf(m), m.key()
	n := b.Readings()
	var msgs []Message
	var text []byte // of all payloads: subscribers may keep them, so it isn't used again
	if in.opts.Deliver != nil {
		msgs = make([]Message, 0, n)
		text = make([]byte, 0, 4*len(m.Payload)+32*n)
	}
	cost := Cost{Messages: n}
	taken := 0
	for i := range b.Series {
		s := &b.Series[i]
		topic := "dt/" + m.Thing + "/" + s.Sensor
		cost.Bytes += len(topic) * len(s.Times)
		if may != nil && !may(topic) {
			if w.refused == nil {
				w.refused = &telemetry.Refused{}
			}
			w.refused.Add(topic, len(s.Times))
			continue
		}
		taken += len(s.Times)
		stores := in.stores(topic)
		for j := range s.Times {
			r := *m
			r.Topic = topic
			r.Retain = false                 // policy was not asked for a retained message on this topic
			r.Properties, r.Expires = nil, 0 // of the batch
			r.Trace = newTrace()
			from := len(text)
			text = s.AppendJSON(text, j)
			r.Payload = text[from:len(text):len(text)]
			cost.Bytes += len(r.Payload)
			if stores {
				w.add(Stream, shard, key, &r)
			}
			if in.opts.Deliver != nil {
				msgs = append(msgs, r)
			} else {
				text = text[:0]
			}
		}
	}
	in.counts.messages.Add(uint64(taken))
	in.counts.readings.Add(uint64(taken))
	if r := w.refused; r != nil {
		in.counts.refused.Add(uint64(r.Readings))
		for _, t := range r.Topics {
			in.warn.say("policy refuses readings, they are dropped", m.Thing, t.Topic, t.Readings, "principal", m.Principal)
		}
	}
	return msgs, cost
}

// quarantine keeps a batch aside that has no usable sequence.
func (in *Ingest) quarantine(m *Message, why string, done func(error)) {
	w := in.work(done)
	w.stage(m)
	in.setAside(w, m, why)
	w.commit()
}

func (in *Ingest) setAside(w *work, m *Message, why string) {
	in.counts.quarantined.Add(1)
	in.warn.say("batch is unreadable, kept aside in "+Quarantine, m.key(), m.Topic, 1, "client", m.ClientID, "why", why)
	w.add(Quarantine, 0, m.key(), m)
}
