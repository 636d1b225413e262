package streams

// What an engine sees of a Batch. Users of a log have no need of it.

// A Run is records of a Batch for one shard, in order: at most MaxRun bytes, or
// one record. Runs of one shard keep the order in which they were added.
type Run struct {
	Stream  string
	Shard   int    // of Append; of Put once Reroute has run
	Records []byte // each as AppendRecord writes it
	Count   uint32 // of records

	routed bool // by Put; hashes has one for each record

	// First is the offset of the first record. The engine sets it when the batch
	// is committed; the others follow without a gap.
	First uint64

	// Engine is whatever the engine keeps with the run while it commits.
	Engine any

	last   string // key of the last record
	routes *Lineage
	hashes []Hash
}

// MaxRun is the most bytes of records in a run of more than one record: a block
// of an engine that is read as a whole to get one record of it.
const MaxRun = 1 << 20

// A KeyChange of a Batch sets a key, or removes it.
type KeyChange struct {
	Key   []byte
	value []byte
	unset bool
	from  Source // says value and unset when the batch is written; nil: they are known
}

// Value returns what the key holds from the commit on; ok is false when it is
// removed. The engine calls it once, as it writes the key.
func (c *KeyChange) Value() (value []byte, ok bool) {
	if c.from != nil {
		value = c.from.Value(c.Key)
		return value, value != nil
	}
	return c.value, !c.unset
}

// A Router knows the shards that a stream has now, or returns ErrNotFound.
type Router interface {
	Lineage(stream string) (*Lineage, error)
}

// NewBatch returns an empty batch of a log of which r knows the shards.
func NewBatch(r Router) *Batch { return &Batch{router: r} }

// Err is the first record that cannot be stored, ErrTooLarge, or nil.
func (b *Batch) Err() error { return b.err }

// Runs returns the records of the batch. The slice is the batch's: the engine
// sets First and Engine in it, and keeps none of it when the commit is done.
func (b *Batch) Runs() []Run { return b.runs }

// KeyChanges returns the changes of keys in their order: of two of one key the
// later counts. The slice is the batch's.
func (b *Batch) KeyChanges() []KeyChange { return b.keys }

// Committed gives the batch its time, epoch ms.
func (b *Batch) Committed(time int64) { b.time = time }

// Reroute finds shards anew for what Put had, if a stream's shards are others
// now. No shard of r's may be closed between this and the write.
func (b *Batch) Reroute(r Router) error {
	stale, was := false, 0
	for i := range b.runs {
		p := &b.runs[i]
		was += runBytes + len(p.Records)
		if before := max(0, i-1); !p.routed || i > 0 && b.runs[before].routed && b.runs[before].Stream == p.Stream &&
			b.runs[before].routes == p.routes {
			continue
		}
		l, err := r.Lineage(p.Stream)
		if err != nil {
			return err
		}
		stale = stale || l != p.routes
	}
	if !stale {
		return nil
	}
	// Everything is laid anew, in the order in which it was added.
	again := Batch{router: r}
	at := make([]reader, len(b.runs))
	for i := range b.runs {
		at[i].rest = b.runs[i].Records
	}
	for _, w := range b.where {
		p, from := &b.runs[w.run], &at[w.run]
		r, err := from.next()
		if err != nil {
			return err
		}
		if p.routed {
			again.Put(p.Stream, p.hashes[w.index], r)
		} else {
			again.Append(p.Stream, p.Shard, r)
		}
	}
	b.runs, b.where, b.bytes = again.runs, again.where, b.bytes-was+again.bytes
	return again.err
}

// A reader reads the records of a run.
type reader struct {
	rest []byte
	key  string
}

func (x *reader) next() (Record, error) {
	r, err := CutRecord(x.rest)
	if err != nil {
		return Record{}, err
	}
	if !r.Same {
		x.key = string(r.Key)
	}
	x.rest = r.Rest
	return Record{Time: r.Time, Key: x.key, Data: r.Data}, nil
}
