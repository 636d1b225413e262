package server

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// folders are those of bridge.d, in the order in which they are applied: later
// ones name the earlier.
var folders = []string{"streams", "delivery-streams", "rules", "connectors"}

func (s *Server) declaredIn() []string {
	var dirs []string
	for _, name := range folders {
		dirs = append(dirs, filepath.Join(s.cfg.BridgeD.Dir, name))
	}
	return dirs
}

// A declaredFile is what was made of a file of bridge.d.
type declaredFile struct {
	sum   [sha256.Size]byte
	name  string // of the stream that it declares; "" for rules
	holds int    // declarations in force
	err   error  // why the file, as it is now, is not in force
}

// Reload applies the files of bridge.d: streams, delivery streams, rules and connectors.
// A file that is wrong changes nothing and is reported; what it declared
// before stays in force. It returns how many declarations of files hold. What
// was declared and is no longer there stays, data and all, except rules and
// connectors: one without its file ends. Access keys and what is granted to them
// are read again too.
func (s *Server) Reload() (holds int, err error) {
	holds, err = s.applyDeclared(true)
	err = errors.Join(err, s.keys.load())
	s.endForbidden()
	return holds, err
}

// applyDeclared is Reload. Unless all is set, streams whose file did not change
// are left as they are, perhaps changed by hand since.
func (s *Server) applyDeclared(all bool) (holds int, err error) {
	s.declaredMu.Lock()
	defer s.declaredMu.Unlock()
	dirs := s.declaredIn()
	now := map[string]declaredFile{}
	read := func(dir string) ([]file, bool) {
		files, err := readFolder(dir)
		if err == nil {
			return files, true
		}
		for path, d := range s.declared { // what cannot be seen is not gone
			if filepath.Dir(path) == dir {
				now[path] = d
			}
		}
		now[dir] = declaredFile{err: err}
		return nil, false
	}
	for i, parse := range []func([]byte) (declaration, error){s.parseStream, s.parseDelivery} {
		if files, ok := read(dirs[i]); ok {
			s.applyStreams(files, parse, all, now)
		}
	}
	var failed error
	if files, ok := read(dirs[2]); ok {
		var held map[string]*ruleFile
		held, failed = s.book.apply(files)
		for path, f := range held {
			now[path] = declaredFile{sum: f.sum, holds: len(f.held), err: f.err}
		}
	} else {
		failed = s.book.keep()
	}
	if files, ok := read(dirs[3]); ok {
		maps.Copy(now, s.connectors.apply(files))
	}
	s.tellDeclared(now)
	if failed != nil {
		s.log.Error("rules could not be put in force", "err", failed)
	}
	s.declared = now
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(now)) {
		holds += now[path].holds
		if err := now[path].err; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	s.refused.Store(int64(len(errs)))
	return holds, errors.Join(append(errs, failed)...)
}

// tellDeclared logs what differs from the last time.
func (s *Server) tellDeclared(now map[string]declaredFile) {
	var applied, gone []string
	for _, path := range slices.Sorted(maps.Keys(now)) {
		d, old := now[path], s.declared[path]
		same := d.sum == old.sum && fmt.Sprint(d.err) == fmt.Sprint(old.err)
		switch {
		case same:
		case d.err != nil:
			s.log.Error("a declaration is refused; what it declared before stays", "file", path, "err", d.err)
		default:
			applied = append(applied, path)
		}
	}
	for path := range s.declared {
		if _, there := now[path]; !there {
			gone = append(gone, path)
		}
	}
	slices.Sort(gone)
	const shown = 10 // of perhaps thousands
	if len(applied) > 0 {
		s.log.Info("declarations applied", "number", len(applied), "files", applied[:min(shown, len(applied))])
	}
	if len(gone) > 0 {
		s.log.Info("declarations gone", "number", len(gone), "files", gone[:min(shown, len(gone))])
	}
}

// A declaration is what a file of streams or delivery streams asks for.
type declaration struct {
	name  string
	apply func() error
}

// applyStreams applies the files of a folder and notes in now what became of
// each. Two files that take turns would be a mistake.
func (s *Server) applyStreams(files []file, parse func([]byte) (declaration, error), all bool, now map[string]declaredFile) {
	from := map[string]string{}
	for _, f := range files {
		old := s.declared[f.path]
		n := declaredFile{sum: f.sum, err: f.err}
		var d declaration
		switch {
		case f.err != nil:
		case !all && old.sum == f.sum && old.err == nil:
			d = declaration{old.name, func() error { return nil }}
		default:
			d, n.err = parse(f.doc)
		}
		if other := from[d.name]; n.err == nil && other != "" {
			n.err = fmt.Errorf("%s is in %s already", d.name, other)
		}
		if n.err == nil {
			n.name, from[d.name] = d.name, f.path
			n.err = d.apply()
		}
		if n.err == nil {
			n.holds = 1
		}
		now[f.path] = n
	}
}

func (s *Server) parseDelivery(doc []byte) (declaration, error) {
	c, err := firehose.Parse(doc)
	if err != nil {
		return declaration{}, err
	}
	return declaration{c.Name, func() error { return s.firehose.Apply(c) }}, nil
}

// parseStream reads CreateStream's members and RetentionPeriodHours of
// IncreaseStreamRetentionPeriod. A ShardCount that differs from what the file
// said before is brought about as by UpdateShardCount, but at once, whatever
// the difference.
func (s *Server) parseStream(doc []byte) (declaration, error) {
	var d struct {
		StreamName           string
		ShardCount           *int32
		StreamModeDetails    *kinesis.StreamModeDetails
		Tags                 map[string]string
		MaxRecordSizeInKiB   *int32
		RetentionPeriodHours *int
	}
	if err := decodeStrict(bytes.NewReader(doc), &d); err != nil {
		return declaration{}, err
	}
	k := kinesis.Declaration{StreamName: d.StreamName, ShardCount: d.ShardCount, StreamModeDetails: d.StreamModeDetails,
		Tags: d.Tags, MaxRecordSizeInKiB: d.MaxRecordSizeInKiB}
	if h := d.RetentionPeriodHours; h != nil {
		if *h < 24 || *h > 8760 {
			return declaration{}, fmt.Errorf("RetentionPeriodHours: %d, want 24 to 8760", *h)
		}
		keep := time.Duration(*h) * time.Hour
		k.Retention = &keep
	}
	return declaration{d.StreamName, func() error { return s.declareStream(k) }}, nil
}

// createStream makes a user's stream; one that exists gets the shards and the
// retention.
func (s *Server) createStream(name string, shards int, retention time.Duration) error {
	n := int32(min(max(shards, 0), streams.MaxShards+1))
	return s.declareStream(kinesis.Declaration{StreamName: name, ShardCount: &n, Retention: &retention})
}

// declareStream tells a mistake of the caller from a failure.
func (s *Server) declareStream(d kinesis.Declaration) error {
	err := s.kinesis.Declare(d)
	if e := new(kinesis.Error); errors.As(err, &e) {
		return badRequest{errors.New(e.Message)}
	}
	return err
}

// catalog is what rule actions see of the server.
type catalog struct{ s *Server }

// Shard implements action.Catalog.
func (c catalog) Shard(stream string, h streams.Hash) (shard int, ok bool) {
	if !kinesis.IsName(stream) {
		return 0, false
	}
	shard, err := c.s.store.Route(stream, h)
	return shard, err == nil
}

// HasDeliveryStream implements action.Catalog. Where no bridge runs, no file
// is applied; the buffer tells then that there was one.
func (c catalog) HasDeliveryStream(name string) bool {
	if c.s.firehose.Has(name) || c.s.store.Ready() {
		return c.s.firehose.Has(name)
	}
	_, err := c.s.store.Describe(firehose.StreamName(name))
	return err == nil
}

func (c catalog) Room(stream string) error {
	size, err := c.s.store.Size(stream)
	if most := int64(c.s.cfg.Rules.MaxBacklog); err == nil && size.Bytes > most {
		err = fmt.Errorf("%s is full: %d bytes wait, rules.max_backlog is %d", stream, size.Bytes, most)
	}
	return err
}
