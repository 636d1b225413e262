package pebble

// Who follows a shard reads each block a moment after it was synced. From the
// database that costs a search through tables that were just written: a third
// of the processor time of a bridge at 500 messages/s. So the newest blocks of
// a shard that somebody follows are kept in memory as they were written.

const (
	// tailBytes bounds the blocks kept of one shard. At 5,000 messages/s of
	// 300 bytes over 16 shards that is more than two seconds.
	tailBytes = 256 << 10

	// tailBudget is what all shards share: the more are followed, the less each
	// keeps.
	tailBudget = 8 << 20
)

// A tail is the newest blocks of a shard, oldest first, without a gap up to
// shard.next; or none. Guarded by shard.mu.
type tail struct {
	blocks []tailBlock
	bytes  int
	unread int  // bytes of blocks that came since somebody read here
	used   bool // somebody waited or read since the last call of idle
}

// A tailBlock is a block as it is in the database. Its value does not change.
type tailBlock struct {
	first uint64
	value []byte
}

// follow makes the committer keep the shard's newest blocks from the next group
// on; mu is held.
func (sh *shard) follow(s *Store) {
	sh.tail.used = true
	if !sh.gone && !sh.followed.Load() {
		sh.followed.Store(true)
		s.followed.Add(1)
	}
}

// unfollow ends that; mu is held.
func (sh *shard) unfollow(s *Store) {
	if sh.followed.Load() {
		sh.followed.Store(false)
		s.followed.Add(-1)
	}
	sh.tail = tail{}
}

// keep adds a synced group's blocks to the tail; mu is held. Without a reader
// for four times what it holds it ends: whoever lags reads from the database
// and comes back here by a Wait.
func (sh *shard) keep(s *Store, t *touch) {
	l := &sh.tail
	if len(t.tail) == 0 { // it was not followed when the group was written
		*l = tail{}
		return
	}
	limit := min(tailBytes, tailBudget/int(max(1, s.followed.Load())))
	for _, b := range t.tail {
		l.blocks = append(l.blocks, b)
		l.bytes += len(b.value)
		l.unread += len(b.value)
	}
	if l.unread > 4*limit {
		sh.unfollow(s)
		return
	}
	drop := 0
	for ; l.bytes > limit; drop++ {
		l.bytes -= len(l.blocks[drop].value)
	}
	left := copy(l.blocks, l.blocks[drop:])
	clear(l.blocks[left:])
	l.blocks = l.blocks[:left]
}

// idle is called now and then: a tail that nobody used since the last call ends
// once nobody waits for the shard.
func (sh *shard) idle(s *Store) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.tail.used && sh.tip == nil {
		sh.unfollow(s)
	}
	sh.tail.used = false
}

// recent appends the blocks from the one that holds offset from on to dst, at
// most n. It returns none when from is not in the tail.
func (sh *shard) recent(dst []tailBlock, from uint64, n int) []tailBlock {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	blocks := sh.tail.blocks
	if len(blocks) == 0 || from < blocks[0].first || from >= sh.next {
		return dst
	}
	i := len(blocks) - 1
	for blocks[i].first > from {
		i--
	}
	sh.tail.unread, sh.tail.used = 0, true
	blocks = blocks[i:]
	return append(dst, blocks[:min(len(blocks), n)]...)
}
