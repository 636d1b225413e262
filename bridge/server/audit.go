package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// openAudit makes the stream of the audit log and what writes to it.
func (a *assembly) openAudit() error {
	c := streams.Config{Shards: 1, Retention: time.Duration(a.cfg.Audit.Retention),
		MaxBytes: int64(a.cfg.Audit.MaxBytes)}
	err := a.store.Create(audit.Stream, c)
	if errors.Is(err, streams.ErrExists) {
		err = a.store.Update(audit.Stream, c.Retention, c.MaxBytes)
	}
	if err != nil {
		return err
	}
	a.audit = &audit.Log{Append: a.appendAudit, Publish: a.publishAudit}
	a.queuedAudit = &audit.Log{Publish: a.publishAudit, Append: func(_ context.Context, record []byte) error {
		b := a.store.NewBatch()
		b.Append(audit.Stream, 0, streams.Record{Data: record})
		a.queueAudit(b)
		return nil
	}}
	a.closes(a.flushAudit)
	return nil
}

// appendAudit stores a record, durably while the log runs. Before that, as in a
// command that works on a data directory without a bridge, the record is queued,
// and durable when Close returns.
func (s *Server) appendAudit(ctx context.Context, record []byte) error {
	b := s.store.NewBatch()
	b.Append(audit.Stream, 0, streams.Record{Data: record})
	if s.logRuns.Load() {
		return s.store.Commit(ctx, b)
	}
	s.queueAudit(b)
	return nil
}

// queueAudit stores what is in b after what was queued before. It waits while the
// log's queue is full, and not until b is durable.
func (s *Server) queueAudit(b *streams.Batch) {
	s.auditWaits.Store(true)
	s.store.CommitAsync(b, func(err error) {
		if err != nil {
			s.log.Error("the audit log could not keep a record", "err", err)
		}
	})
}

// runLog runs the log, after which records are waited for.
func (s *Server) runLog(ctx context.Context) error {
	s.logRuns.Store(true)
	return s.store.Run(ctx)
}

// flushAudit stores what was queued in a bridge that never ran.
func (s *Server) flushAudit() error {
	if s.logRuns.Load() || !s.auditWaits.Load() {
		return nil
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	return s.store.Run(over)
}

// declarationChanged keeps what became of a file of bridge.d. It is durable before
// any later record is, such as that of the reload that applied it. What a file says
// may be a secret, so its sum is kept.
func (s *Server) declarationChanged(path, before, after string, refused error) {
	r := audit.Record{Source: "bridge.d", Action: "Apply", Target: path, Before: sumDoc(before), After: sumDoc(after)}
	switch {
	case refused != nil:
		r.Action, r.Error = "Refuse", refused.Error()
	case after == "":
		r.Action = "Remove"
	}
	if err := s.queuedAudit.Write(context.Background(), r); err != nil {
		s.log.Error("the audit log could not keep a record", "err", err)
	}
}

func sumDoc(sum string) json.RawMessage {
	if sum == "" {
		return nil
	}
	return json.RawMessage(`{"sha256":"` + sum + `"}`)
}

// publishAudit shows a record to rules. A broker, which is others', does not get it.
func (s *Server) publishAudit(topic string, record []byte) {
	if s.cfg.Audit.Events && s.logRuns.Load() && s.broker == nil {
		s.publisher.Publish(topic, record)
	}
}
