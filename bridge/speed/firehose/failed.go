package firehose

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// s3Failed is the type of what could not be written to S3 and is kept beside the
// log.
const s3Failed = "s3_failed"

// A Failed is what a delivery stream could not deliver, or process, and where it
// is. One is kept until it is driven again.
type Failed struct {
	ID      string    `json:"id"`   // within its delivery stream
	Type    string    `json:"type"` // error output type, s3_failed or errors (a manifest)
	At      time.Time `json:"at"`
	Error   string    `json:"error,omitempty"` // the last, in words
	Records int64     `json:"records,omitempty"`
	Bytes   int64     `json:"bytes"`
	Place             // of the object
	Bucket  string    `json:"bucket"`
	Key     string    `json:"key"`             // where its lines are; of s3_failed: where it is to go
	File    string    `json:"file,omitempty"`  // of s3_failed: where it is, below the folder
	Lines   string    `json:"lines,omitempty"` // of s3_failed: the error output type of the lines that it has
}

// failedPrefix is where a delivery stream's Failed are in the log's keys.
func (d *stream) failedPrefix() string { return string(d.state) + "/failed/" }

// loadFailed reads them, at the start.
func (d *stream) loadFailed() error {
	var wrong error
	err := d.store.Scan([]byte(d.failedPrefix()), func(_, value []byte) bool {
		var f Failed
		if err := json.Unmarshal(value, &f); err != nil {
			wrong = errors.Join(wrong, err)
			return true
		}
		d.failed[f.ID] = f
		return true
	})
	return errors.Join(err, wrong)
}

// listFailed returns what is kept, the oldest first.
func (d *stream) listFailed() []Failed {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Failed, 0, len(d.failed))
	for _, f := range d.failed {
		all = append(all, f)
	}
	slices.SortFunc(all, older)
	return all
}

func older(a, b Failed) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) }

// register adds what is kept to b; registered tells of it once that is durable.
func (d *stream) register(b *streams.Batch, all []Failed) error {
	for _, f := range all {
		raw, err := json.Marshal(f)
		if err != nil {
			return err
		}
		b.Set([]byte(d.failedPrefix()+f.ID), raw)
	}
	return nil
}

func (d *stream) registered(all []Failed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range all {
		d.failed[f.ID] = f
	}
}

// ofOutputs are the Failed of objects that were written.
func (d *stream) ofOutputs(p *plan, outputs []output, why map[string]string) (all []Failed) {
	for _, o := range outputs {
		if o.kind != "" && o.done {
			all = append(all, Failed{ID: fmt.Sprintf("%020d-%s", p.From, o.kind), Type: o.kind, At: time.Now().UTC(),
				Error: why[o.kind], Records: o.records, Bytes: o.bytes, Place: o.place, Bucket: o.bucket, Key: o.key})
		}
	}
	return all
}

// keep writes outputs into the folder of what S3 did not take.
func (d *stream) keep(ctx context.Context, p *plan, outputs []output, why error) (all []Failed, err error) {
	if d.opts.Kept == nil {
		return nil, errors.New("there is no folder to keep what cannot be delivered")
	}
	for i := range outputs {
		o := &outputs[i]
		if o.done {
			continue
		}
		file := fmt.Sprintf("%s/%s-%d", d.config.Load().Name, p.ID, i)
		counted := &counter{}
		err := d.opts.Kept.Put(ctx, keptBucket, file, func(w io.Writer) error {
			counted.n = 0
			return o.write(ctx, io.MultiWriter(w, counted))
		})
		if err != nil {
			return nil, err
		}
		all = append(all, Failed{ID: fmt.Sprintf("%020d-%s-%d", p.From, s3Failed, i), Type: s3Failed,
			At: time.Now().UTC(), Error: why.Error(), Records: o.records, Bytes: counted.n, Place: o.place,
			Bucket: o.bucket, Key: o.key, File: file, Lines: o.kind})
	}
	d.log.Error("an object could not be delivered and is kept", "key", p.Key, "err", why)
	return all, nil
}

// keptBucket is the one bucket of the folder.
const keptBucket = "objects"

// A counter counts bytes.
type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// driveTries is how many objects one delivery drives at most: each may wait for a
// store that is away.
const driveTries = 3

// driveKept drives the oldest object again that S3 did not take, now that it takes
// others. One that still does not go in makes way for the next, and has its turn
// again after the last.
func (d *stream) driveKept(ctx context.Context) {
	if !d.driving.TryLock() {
		return
	}
	defer d.driving.Unlock()
	all := slices.DeleteFunc(d.listFailed(), func(f Failed) bool { return f.Type != s3Failed })
	at, tried := slices.BinarySearchFunc(all, d.refused, older)
	if tried {
		at++
	}
	for i := range min(driveTries, len(all)) {
		f := all[(at+i)%len(all)]
		err := d.driveObject(ctx, f)
		if err == nil || ctx.Err() != nil {
			return
		}
		d.refused = f
		d.log.Warn("an object that is kept could not be delivered", "key", f.Key, "err", err)
	}
}

// driveObject writes an object that was kept to where it was to go.
func (d *stream) driveObject(ctx context.Context, f Failed) error {
	store, err := d.objectsAt(f.Place)
	if err != nil {
		return err
	}
	if _, err := d.opts.Kept.Stat(keptBucket, f.File); errors.Is(err, sink.ErrNotFound) {
		// The last attempt ended in the middle, or somebody has removed it.
		d.log.Warn("an object that was kept is there no longer", "bucket", f.Bucket, "key", f.Key, "file", f.File)
		return d.forget(ctx, f)
	}
	err = store.Put(ctx, f.Bucket, f.Key, func(w io.Writer) error {
		in, err := d.opts.Kept.Open(keptBucket, f.File)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, in)
		return errors.Join(err, in.Close())
	})
	if err != nil {
		return err
	}
	// The file first: only what is registered leads to it.
	if err := d.opts.Kept.Delete(keptBucket, f.File, objects.Condition{}); err != nil {
		return err
	}
	if err := d.forget(ctx, f); err != nil {
		return err
	}
	d.log.Info("an object that was kept is delivered", "bucket", f.Bucket, "key", f.Key)
	return nil
}

// forget makes durable that something is no longer failed; an object of lines that
// was kept is failed as those are, once it is delivered.
func (d *stream) forget(ctx context.Context, f Failed) error {
	b := d.store.NewBatch()
	b.Unset([]byte(d.failedPrefix() + f.ID))
	var now []Failed
	if f.Lines != "" {
		g := f
		g.ID, g.Type, g.File, g.Lines = fmt.Sprintf("%.20s-%s", f.ID, f.Lines), f.Lines, "", ""
		now = append(now, g)
	}
	if err := d.register(b, now); err != nil {
		return err
	}
	if err := d.store.Commit(ctx, b); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.failed, f.ID)
	d.mu.Unlock()
	d.registered(now)
	return nil
}
