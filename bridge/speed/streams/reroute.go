package streams

// reroute finds shards anew for what Put had, if a stream's shards are others
// now. It is called with Store.writes held, so that none is closed between this
// and the write.
func (b *Batch) reroute(s *Store) error {
	stale := false
	for i := range b.parts {
		p := &b.parts[i]
		if !p.routed || i > 0 && b.parts[i-1].stream == p.stream && b.parts[i-1].routes == p.routes {
			continue
		}
		st, err := s.stream(p.stream)
		if err != nil {
			return err
		}
		stale = stale || st.lineage.Load() != p.routes
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
