package streams

// A Counter tells how many records there are, see Reader.
type Counter interface {
	Bounds(stream string, shard int) (oldest, next uint64, err error)
	Count(stream string, shard int, from uint64) (records uint64, err error)
}

// Back returns an offset from which on at most n records come before the offset to, and
// n if there are so many: where to read the last n. There may be gaps between, so it
// asks for counts, 64 times at most.
func Back(c Counter, stream string, shard int, to, n uint64) (from uint64, err error) {
	after, err := c.Count(stream, shard, to)
	if err != nil {
		return 0, err
	}
	oldest, _, err := c.Bounds(stream, shard)
	if err != nil || oldest >= to {
		return to, err
	}
	// Without a gap it is the first that is tried.
	lo, hi := oldest, to
	for at := to - min(to-oldest, n); lo < hi; at = lo + (hi-lo)/2 {
		from, err := c.Count(stream, shard, at)
		if err != nil {
			return 0, err
		}
		switch had := from - min(from, after); {
		case had > n:
			lo = at + 1
		case had == n || at == oldest:
			return at, nil
		default:
			hi = at
		}
	}
	return lo, nil
}
