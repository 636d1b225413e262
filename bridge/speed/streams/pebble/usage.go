package pebble

// DiskUsage returns the bytes that the store's files take, and how many of them are of
// the write-ahead log, as the store counts them itself. It takes some tens of
// microseconds.
func (s *Store) DiskUsage() (all, wal int64, err error) {
	if err := s.enter(); err != nil {
		return 0, 0, err
	}
	defer s.leave()
	m := s.db.Metrics()
	return int64(m.DiskSpaceUsage()), int64(m.WAL.PhysicalSize + m.WAL.ObsoletePhysicalSize), nil
}
