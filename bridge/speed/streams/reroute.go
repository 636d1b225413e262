package streams

// reroute moves the records that Put had for shards which were closed since
// to those that are open now. It is called with Store.writes held, so that none
// is closed between this and the write.
func (b *Batch) reroute(s *Store) error {
	stale := false
	var st *stream
	for i := range b.parts {
		p := &b.parts[i]
		if !p.routed {
			continue
		}
		if st == nil || st.name != p.stream {
			var err error
			if st, err = s.stream(p.stream); err != nil {
				return err
			}
		}
		l := st.lineage.Load()
		at, ok := l.find(p.shard)
		if !ok || !l.all[at].Open() || !l.all[at].Range.Contains(p.hashes[0]) {
			stale = true
		}
	}
	if !stale {
		return nil
	}
	// Everything is laid anew, in the order in which it was added.
	again := Batch{store: s}
	at := make([]reader, len(b.parts))
	for i := range b.parts {
		at[i].rest = b.parts[i].buf
	}
	for _, w := range b.where {
		p, from := &b.parts[w.part], &at[w.part]
		r, err := from.next()
		if err != nil {
			return err
		}
		if p.routed {
			again.Put(p.stream, p.hashes[w.index], r)
		} else {
			again.Append(p.stream, p.shard, r)
		}
	}
	b.parts, b.where, b.bytes = again.parts, again.where, b.bytes+again.bytes
	return again.err
}

// A reader reads the records of a part.
type reader struct {
	rest []byte
	key  string
}

func (x *reader) next() (Record, error) {
	r, err := nextRecord(x.rest)
	if err != nil {
		return Record{}, err
	}
	if !r.same {
		x.key = string(r.key)
	}
	x.rest = r.rest
	return Record{Time: r.time, Key: x.key, Data: r.data}, nil
}
