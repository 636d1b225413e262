package firehose

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Failed returns what a delivery stream could not deliver or process and that was
// not driven again since, the oldest first.
func (s *Service) Failed(name string) ([]Failed, error) {
	d, err := s.stream(name)
	if err != nil {
		return nil, err
	}
	return d.listFailed(), nil
}

// A Redriven is the progress of a Redrive.
type Redriven struct {
	Failed
	Done  int    `json:"done"` // of so many, with this one
	Of    int    `json:"of"`
	Error string `json:"redrive_error,omitempty"` // why this one stays
}

// Redrive delivers again what a delivery stream could not, all of it or what ids
// name, and tells of each. Objects that S3 did not take are written; documents,
// batches and events go to the destination again under the ids that they had; what
// could not be processed is put to the delivery stream again. What is taken is no
// longer Failed; its object under the error prefix stays. Redrive tries each once.
func (s *Service) Redrive(ctx context.Context, name string, ids []string, progress func(Redriven)) error {
	d, err := s.stream(name)
	if err != nil {
		return err
	}
	d.driving.Lock()
	defer d.driving.Unlock()
	all := d.listFailed()
	if len(ids) > 0 {
		all = slices.DeleteFunc(all, func(f Failed) bool { return !slices.Contains(ids, f.ID) })
		if len(all) < len(ids) {
			return fmt.Errorf("delivery stream %s: %w: %d of the %d that are named", name, streams.ErrNotFound,
				len(ids)-len(all), len(ids))
		}
	}
	var errs []error
	for i, f := range all {
		err := d.drive(ctx, f)
		r := Redriven{Failed: f, Done: i + 1, Of: len(all)}
		if err != nil {
			r.Error = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", f.ID, err))
		}
		progress(r)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *Service) stream(name string) (*stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.streams[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("delivery stream %s: %w", name, streams.ErrNotFound)
}

// drive delivers one Failed again.
func (d *stream) drive(ctx context.Context, f Failed) error {
	c := d.config.Load()
	switch f.Type {
	case s3Failed:
		return d.driveObject(ctx, f)
	case manifestType:
		return d.driveManifest(ctx, c, f)
	}
	lines, err := d.lines(ctx, f)
	if err != nil {
		return err
	}
	if t, err := d.target(c); err != nil {
		return err
	} else if t != nil && t.failedType == f.Type {
		if err := d.driveLines(ctx, t, lines); err != nil {
			return err
		}
		return d.forget(ctx, f)
	}
	return d.putAgain(ctx, f, lines)
}

// maxLines bounds an object of lines that is driven again, in bytes: more than twice
// the largest buffer in base64.
const maxLines = 512 << 20

// lines are the failures in an object.
func (d *stream) lines(ctx context.Context, f Failed) (all []failure, err error) {
	store, err := d.objectsAt(f.Place)
	if err != nil {
		return nil, err
	}
	from, ok := store.(sink.Getter)
	if !ok {
		return nil, errors.New("the object store cannot be read")
	}
	raw, _, err := from.Get(ctx, f.Bucket, f.Key, maxLines)
	if err != nil {
		return nil, err
	}
	return parseLines(raw)
}

// parseLines reads lines of failures.
func parseLines(raw []byte) (all []failure, err error) {
	r := bufio.NewReader(bytes.NewReader(raw))
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var f failure
			if err := json.Unmarshal(line, &f); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			all = append(all, f)
		}
		if err != nil {
			return all, nil
		}
	}
}

// driveLines sends records to the target again, once.
func (d *stream) driveLines(ctx context.Context, t *target, lines []failure) error {
	pieces := make([]piece, len(lines))
	for i, f := range lines {
		pieces[i] = piece{spreadItem: spreadItem{Data: f.Raw, Arrived: time.UnixMilli(f.Arrived)}}
		pieces[i].named, pieces[i].unit = first(f.DocumentID, f.DataID, f.EventID), f.RequestID
	}
	units := d.units(t, time.Now().UnixMilli(), pieces)
	for left := sink.Indexes(len(units)); len(left) > 0; {
		refused, err := t.send(ctx, units, left)
		if err != nil {
			return err
		}
		left = left[:0]
		for _, r := range refused {
			if !errors.Is(r.Err, delivery.Later) {
				return fmt.Errorf("%d of %d were refused: %w", len(refused), len(units), r.Err)
			}
			left = append(left, r.Index)
		}
	}
	return nil
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// putAgain puts the records of lines to the delivery stream again; they are no
// longer Failed in the same commit.
func (d *stream) putAgain(ctx context.Context, f Failed, lines []failure) error {
	b := d.store.NewBatch()
	for _, l := range lines {
		b.Append(d.stream, 0, streams.Record{Data: l.Raw})
	}
	b.Unset([]byte(d.failedPrefix() + f.ID))
	if err := d.store.Commit(ctx, b); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.failed, f.ID)
	return nil
}
