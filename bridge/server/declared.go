package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/rules"
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
	apply := func(folder string, one func(doc []byte) error) {
		paths, err := filepath.Glob(filepath.Join(s.cfg.BridgeD.Dir, folder, "*.json"))
		if err != nil {
			errs = append(errs, err)
		}
		slices.Sort(paths)
		for _, p := range paths {
			doc, err := os.ReadFile(p)
			if err == nil {
				err = one(doc)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p, err))
				continue
			}
			files++
		}
	}
	apply("streams", s.declareStream)
	apply("delivery-streams", func(doc []byte) error {
		c, err := firehose.Parse(doc)
		if err != nil {
			return err
		}
		return s.firehose.Apply(c)
	})
	all, err := rules.LoadDir(s.cfg.RulesDir(), catalog{s}, s.rules.Rules())
	files += len(all)
	return files, errors.Join(append(errs, err, s.rules.Set(all))...)
}

// streamName is CreateStream's pattern; the bridge's own names begin with $.
var streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// declareStream reads CreateStream's members and RetentionPeriodHours of
// IncreaseStreamRetentionPeriod.
func (s *Server) declareStream(doc []byte) error {
	d := struct {
		StreamName           string
		ShardCount           int
		RetentionPeriodHours int
	}{ShardCount: 1, RetentionPeriodHours: 24}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return err
	}
	if d.RetentionPeriodHours < 24 || d.RetentionPeriodHours > 8760 {
		return fmt.Errorf("RetentionPeriodHours: %d, want 24 to 8760", d.RetentionPeriodHours)
	}
	return s.createStream(d.StreamName, d.ShardCount, time.Duration(d.RetentionPeriodHours)*time.Hour)
}

// createStream makes a user's stream; one that exists with as many shards gets
// the retention.
func (s *Server) createStream(name string, shards int, retention time.Duration) error {
	if !streamName.MatchString(name) {
		return fmt.Errorf("StreamName: %q, want 1 to 128 of a-z A-Z 0-9 _ . -", name)
	}
	if shards < 1 || shards > streams.MaxShards {
		return fmt.Errorf("ShardCount: %d, want 1 to %d", shards, streams.MaxShards)
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
		return fmt.Errorf("stream %s has %d shards; their number cannot be changed to %d yet", name, have.Config.Shards, shards)
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
