package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Reload applies the files of bridge.d: streams, delivery streams and rules,
// in this order since the later ones name the earlier. A file that is wrong
// changes nothing and is reported; what it declared before stays in force. It
// returns how many files hold. What was declared and is no longer there stays,
// data and all, except rules: a rule without its file ends.
func (s *Server) Reload() (files int, err error) {
	s.reloadMu.Lock()
	defer s.reloadMu.Unlock()
	var errs []error
	apply := func(folder string, parse func(doc []byte) (declaration, error)) {
		paths, err := filepath.Glob(filepath.Join(s.cfg.BridgeD.Dir, folder, "*.json"))
		if err != nil {
			errs = append(errs, err)
		}
		slices.Sort(paths)
		from := map[string]string{}
		for _, p := range paths {
			if err := s.applyFile(p, parse, from); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p, err))
				continue
			}
			files++
		}
	}
	apply("streams", s.parseStream)
	apply("delivery-streams", func(doc []byte) (declaration, error) {
		c, err := firehose.Parse(doc)
		if err != nil {
			return declaration{}, err
		}
		return declaration{c.Name, func() error { return s.firehose.Apply(c) }}, nil
	})
	all, err := s.compiler.LoadDir(s.cfg.RulesDir(), s.rules.Rules())
	files += len(all)
	return files, errors.Join(append(errs, err, s.rules.Set(all))...)
}

// A declaration is what a file asks for.
type declaration struct {
	name  string
	apply func() error
}

// applyFile applies the declaration of a file. from has the file of each name
// that was applied before: two files that take turns would be a mistake.
func (s *Server) applyFile(path string, parse func(doc []byte) (declaration, error), from map[string]string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d, err := parse(doc)
	if err != nil {
		return err
	}
	if other := from[d.name]; other != "" {
		return fmt.Errorf("%s is in %s already", d.name, other)
	}
	from[d.name] = path
	return d.apply()
}

// streamName is CreateStream's pattern; the bridge's own names begin with $.
var streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// parseStream reads CreateStream's members and RetentionPeriodHours of
// IncreaseStreamRetentionPeriod.
func (s *Server) parseStream(doc []byte) (declaration, error) {
	d := struct {
		StreamName           string
		ShardCount           int
		RetentionPeriodHours int
	}{ShardCount: 1, RetentionPeriodHours: 24}
	if err := decodeStrict(bytes.NewReader(doc), &d); err != nil {
		return declaration{}, err
	}
	if d.RetentionPeriodHours < 24 || d.RetentionPeriodHours > 8760 {
		return declaration{}, fmt.Errorf("RetentionPeriodHours: %d, want 24 to 8760", d.RetentionPeriodHours)
	}
	return declaration{d.StreamName, func() error {
		return s.createStream(d.StreamName, d.ShardCount, time.Duration(d.RetentionPeriodHours)*time.Hour)
	}}, nil
}

// createStream makes a user's stream; one that exists with as many shards gets
// the retention.
func (s *Server) createStream(name string, shards int, retention time.Duration) error {
	if !streamName.MatchString(name) {
		return badRequest{fmt.Errorf("StreamName: %q, want 1 to 128 of a-z A-Z 0-9 _ . -", name)}
	}
	if shards < 1 || shards > streams.MaxShards {
		return badRequest{fmt.Errorf("ShardCount: %d, want 1 to %d", shards, streams.MaxShards)}
	}
	if retention < 0 {
		return badRequest{fmt.Errorf("retention: %v, want 0 for none, or more", retention)}
	}
	err := s.store.Create(name, streams.Config{Shards: shards, Retention: retention})
	if !errors.Is(err, streams.ErrExists) {
		return err
	}
	have, err := s.store.Describe(name)
	if err != nil {
		return err
	}
	if have.Config.Shards != shards {
		return badRequest{fmt.Errorf("stream %s has %d shards; their number cannot be changed to %d yet", name, have.Config.Shards, shards)}
	}
	return s.store.Update(name, retention, 0)
}

// catalog is what rule actions see of the server.
type catalog struct{ s *Server }

func (c catalog) Shards(stream string) int {
	if !streamName.MatchString(stream) {
		return 0
	}
	info, err := c.s.store.Describe(stream)
	if err != nil {
		return 0
	}
	return info.Config.Shards
}

func (c catalog) HasDeliveryStream(name string) bool { return c.s.firehose.Has(name) }

func (c catalog) Room(stream string) error {
	size, err := c.s.store.Size(stream)
	if most := int64(c.s.cfg.Rules.MaxBacklog); err == nil && size.Bytes > most {
		err = fmt.Errorf("%s is full: %d bytes wait, rules.max_backlog is %d", stream, size.Bytes, most)
	}
	return err
}
