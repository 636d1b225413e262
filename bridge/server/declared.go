package server

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
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

// makeDeclared makes the folders, but for those that are gone with what was
// declared in them.
func (s *Server) makeDeclared() error {
	if err := s.kept.load(); err != nil {
		return err
	}
	for _, dir := range s.declaredIn() {
		if s.kept.of(dir) {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// A declaredFile is what was made of a file of bridge.d.
type declaredFile struct {
	sum   [sha256.Size]byte
	name  string // of the stream that it declares; "" for rules
	holds int    // declarations in force, perhaps of an earlier content
	err   error  // why the file, as it is now, is not in force
}

// Reload applies the files of bridge.d: streams, delivery streams, rules and connectors.
// A file that is wrong changes nothing and is reported; what it declared
// before stays in force, over restarts too. It returns how many declarations of files hold. What
// was declared and is no longer there stays, data and all, except rules and
// connectors: one without its file ends. Access keys and what is granted to them
// are read again too.
func (s *Server) Reload() (holds int, err error) {
	holds, err = s.applyDeclared(true)
	err = errors.Join(err, s.keys.load())
	s.keys.tell()
	s.endForbidden()
	return holds, err
}

// A folder is what was found in a folder of bridge.d.
type folder struct {
	dir   string
	files []file
	err   error // why it cannot be seen
}

// applyDeclared is Reload. Unless all is set, streams whose file did not change
// are left as they are, perhaps changed by hand since.
func (s *Server) applyDeclared(all bool) (holds int, err error) {
	s.declaredMu.Lock()
	defer s.declaredMu.Unlock()
	if err := s.kept.load(); err != nil {
		return 0, fmt.Errorf("bridge_d.dir: what was declared before: %w", err)
	}
	var found []folder
	for _, dir := range s.declaredIn() {
		found = append(found, s.kept.look(dir))
	}
	first, before := s.declared == nil, s.declared
	now, failed := s.applyFolders(found, all)
	if first {
		// What is wrong at a start has its last good version, as if it had become
		// wrong while the bridge ran.
		if good, some := s.kept.instead(found, now); some {
			s.declared, _ = s.applyFolders(good, true)
			now, failed = s.applyFolders(found, true)
		}
	}
	s.tellDeclared(before, now)
	if failed != nil {
		s.log.Error("rules could not be put in force", "err", failed)
	}
	s.declared = now
	s.noteMissing(first)
	if err := s.kept.keep(found, now); err != nil {
		s.log.Error("what is declared cannot be kept for the next start, will retry", "err", err)
	}
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

// applyFolders applies what was found, in the place of s.declared, and returns
// what became of each file, and why rules could not be put in force.
func (s *Server) applyFolders(found []folder, all bool) (now map[string]declaredFile, failed error) {
	now = map[string]declaredFile{}
	for _, f := range found {
		if f.err == nil {
			continue
		}
		for path, d := range s.declared { // what cannot be seen is not gone
			if filepath.Dir(path) == f.dir {
				now[path] = d
			}
		}
		now[f.dir] = declaredFile{err: f.err}
	}
	for i, parse := range []func([]byte) (declaration, error){s.parseStream, s.parseDelivery} {
		if found[i].err == nil {
			s.applyStreams(found[i].files, parse, all, now)
		}
	}
	if found[2].err == nil {
		var held map[string]*ruleFile
		held, failed = s.book.apply(found[2].files)
		for path, f := range held {
			now[path] = declaredFile{sum: f.sum, holds: len(f.held), err: f.err}
		}
	} else {
		failed = s.book.keep()
	}
	if found[3].err == nil {
		maps.Copy(now, s.connectors.apply(found[3].files))
	}
	return now, failed
}

// stays says whether something is in force of the file at path, or of a file of
// the folder there.
func stays(all map[string]declaredFile, path string) bool {
	if all[path].holds > 0 {
		return true
	}
	for other, d := range all {
		if filepath.Dir(other) == path && d.holds > 0 {
			return true
		}
	}
	return false
}

// A takenError says that what a file declares is declared elsewhere already, so
// that nothing is missing.
type takenError struct{ error }

// noteMissing notes the files of a start that are wrong and have no earlier
// version: the bridge is not ready until each is mended or gone. One that comes
// while the bridge runs takes nothing away and is only refused.
func (s *Server) noteMissing(first bool) {
	var missing []string
	for path, d := range s.declared {
		if d.err == nil || stays(s.declared, path) || errors.As(d.err, new(takenError)) {
			continue
		}
		if was := s.missing.Load(); first || was != nil && slices.Contains(*was, path) {
			missing = append(missing, path)
		}
	}
	slices.Sort(missing)
	s.missing.Store(&missing)
}

// tellDeclared logs what differs from the last time.
func (s *Server) tellDeclared(before, now map[string]declaredFile) {
	var applied, gone []string
	for _, path := range slices.Sorted(maps.Keys(now)) {
		d, old := now[path], before[path]
		same := d.sum == old.sum && fmt.Sprint(d.err) == fmt.Sprint(old.err)
		switch {
		case same:
		case d.err != nil && !stays(now, path):
			s.log.Error("a declaration is refused, and there is none of before", "file", path, "err", d.err)
		case d.err != nil:
			s.log.Error("a declaration is refused; what it declared before stays", "file", path, "err", d.err)
		default:
			applied = append(applied, path)
		}
	}
	for path := range before {
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
			n.err = takenError{fmt.Errorf("%s is in %s already", d.name, other)}
		}
		if n.err == nil {
			n.name, from[d.name] = d.name, f.path
			n.err = d.apply()
		}
		if n.err == nil {
			n.holds = 1
		} else {
			n.name, n.holds = old.name, old.holds
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
