package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
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
	a.queuedAudit = &audit.Log{Publish: a.publishAudit, Append: func(_ context.Context, records ...[]byte) error {
		a.queueAudit(a.auditBatch(records))
		return nil
	}}
	a.auditMover = audit.NewMover(a.registry, &audit.Log{Append: a.moveAudit, Publish: a.publishAudit}, a.log)
	a.audit.Mover = a.auditMover
	a.auditRefusals = audit.NewRefusals(a.queuedAudit, a.log)
	a.auditDenied = audit.NewRefusals(a.queuedAudit, a.log)
	a.audit.Bound = a.auditDenied
	a.closes(a.flushAudit)
	return nil
}

func (s *Server) auditBatch(records [][]byte) *streams.Batch {
	b := s.store.NewBatch()
	for _, text := range records {
		b.Append(audit.Stream, 0, streams.Record{Data: text})
	}
	return b
}

// commitAudit stores records durably.
func (s *Server) commitAudit(ctx context.Context, records ...[]byte) error {
	return s.store.Commit(ctx, s.auditBatch(records))
}

// appendAudit stores records, durably while the log runs. Before that, as in a
// command that works on a data directory without a bridge, they are queued, and
// durable when Close returns.
func (s *Server) appendAudit(ctx context.Context, records ...[]byte) error {
	if s.logRuns.Load() {
		return s.commitAudit(ctx, records...)
	}
	s.queueAudit(s.auditBatch(records))
	return nil
}

var errNoLog = errors.New("the log does not run")

// moveAudit stores records that the registry keeps: there they are durable until
// the log runs.
func (s *Server) moveAudit(ctx context.Context, records ...[]byte) error {
	if !s.logRuns.Load() {
		return errNoLog
	}
	return s.commitAudit(ctx, records...)
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

// flushAudit stores what was queued in a bridge that never ran, and what the
// registry keeps, of this one or one that was killed.
func (s *Server) flushAudit() error {
	mover := audit.NewMover(s.registry, &audit.Log{Append: s.commitAudit}, s.log)
	if s.logRuns.Load() || !s.auditWaits.Load() && !mover.Waiting() {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.store.Run(ctx) }()
	err := mover.Move(ctx)
	if err == nil {
		err = s.registry.ForgetRecords()
	}
	cancel()
	return errors.Join(err, <-over)
}

// declarationChanged keeps what became of a file of bridge.d. It is durable before
// any later record is, such as that of the reload that applied it. What a file says
// may be a secret, so its sum is kept.
func (s *Server) declarationChanged(path, before, after string, refused error) {
	r := audit.Record{Source: audit.SourceFiles, Action: "Apply", Target: path, Before: sumDoc(before),
		After: sumDoc(after)}
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

// provisioningRefused logs a device's request that was refused, and keeps it.
func (s *Server) provisioningRefused(q *provision.Request, code string, err error) {
	s.refusals.Provisioning(q, code, err)
	r := q.Record()
	r.Error = err.Error()
	s.auditDenied.Refused("provisioning "+q.Principal+" "+code, mostProvisioning, r)
}

// mostProvisioning are the refused requests of one claim and reason that have a
// record in a minute. Our choice.
const mostProvisioning = 5

// mostTakeovers are the takeovers of one client id that have a record in a minute:
// two devices with one id take turns. Our choice.
const mostTakeovers = 2

// kicked keeps that a client's connection was ended by others: since it may not be
// connected any more, by an operator, or by another principal that came with its
// client id.
func (s *Server) kicked(v gateway.Event) {
	if v.Kind != gateway.Disconnected {
		return
	}
	r := audit.Record{Source: audit.SourceConnection, Action: "Disconnect", Who: v.Client.Principal(),
		From: addressOf(v.Client), Client: v.Client.ID(), Target: "clients/" + v.Client.ID(),
		Key: keyOf(v.Client), After: json.RawMessage(`{"reason":"` + v.Reason + `"}`)}
	switch v.Reason {
	case gateway.ReasonForbidden, gateway.ReasonAPI:
		if err := s.queuedAudit.Write(context.Background(), r); err != nil {
			s.log.Error("the audit log could not keep a record", "err", err)
		}
	case gateway.ReasonDuplicate:
		if v.Heir == nil || v.Heir.Principal() == r.Who {
			return
		}
		r.Action = "TakeOver"
		r.Before = connectionDoc(v.Client)
		r.After = connectionDoc(v.Heir)
		r.Who, r.Key, r.From = v.Heir.Principal(), keyOf(v.Heir), addressOf(v.Heir)
		s.auditDenied.Refused("takeover "+r.Client, mostTakeovers, r)
	}
}

// connectionDoc is whose a connection is.
func connectionDoc(c *gateway.Client) json.RawMessage {
	text, err := json.Marshal(map[string]string{"principal": c.Principal(), "address": addressOf(c)})
	if err != nil {
		return nil
	}
	return text
}

// keyOf is the access key that a client signed with, "" for none.
func keyOf(c *gateway.Client) string {
	if s, ok := c.Session().(interface{ KeyID() string }); ok {
		return s.KeyID()
	}
	return ""
}

// addressOf is where a client is, with its port.
func addressOf(c *gateway.Client) string {
	if a := c.Remote(); a != nil {
		return a.String()
	}
	return ""
}
