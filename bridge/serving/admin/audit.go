package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/audit"
)

// audited is a handler whose changes are kept by log. The answer is held until the
// record is durable.
func audited(x row, h handler, log *audit.Log) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		made := &audit.Change{Record: audit.Record{Source: audit.SourceAdmin, Action: x.action,
			Target: strings.TrimPrefix(r.URL.Path, "/v1/")}}
		made.Who, made.From = peerOf(r.Context())
		if x.keeps == asked || x.keeps == begun {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return badRequest{err}
			}
			made.Asked, r.Body = body, io.NopCloser(bytes.NewReader(body))
		}
		if x.keeps == begun {
			ctx := r.Context()
			a := &recordFirstResponse{ResponseWriter: w, keep: func(err error) error { return log.End(ctx, made, err) }}
			return a.ended(h(a, r.WithContext(audit.With(ctx, made))))
		}
		buffered := &bufferedResponse{header: http.Header{}}
		err := h(buffered, r.WithContext(audit.With(r.Context(), made)))
		if err := log.End(r.Context(), made, err); err != nil {
			return err
		}
		return buffered.writeTo(w)
	}
}

// A recordFirstResponse makes the record durable before its first byte is sent.
type recordFirstResponse struct {
	http.ResponseWriter
	keep func(error) error // nil: it was called
}

// Unwrap is for http.ResponseController.
func (a *recordFirstResponse) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *recordFirstResponse) Write(b []byte) (int, error) {
	if err := a.ended(nil); err != nil {
		return 0, err
	}
	return a.ResponseWriter.Write(b)
}

// ended keeps the record, unless it is kept, and returns err, or why it could not.
func (a *recordFirstResponse) ended(err error) error {
	if keep := a.keep; keep != nil {
		a.keep = nil
		if e := keep(err); e != nil {
			return e
		}
	}
	return err
}

// A bufferedResponse is an answer that is not sent yet.
type bufferedResponse struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *bufferedResponse) Header() http.Header         { return h.header }
func (h *bufferedResponse) WriteHeader(code int)        { h.status = code }
func (h *bufferedResponse) Write(b []byte) (int, error) { return h.body.Write(b) }

func (h *bufferedResponse) writeTo(w http.ResponseWriter) error {
	maps.Copy(w.Header(), h.header)
	if h.status != 0 {
		w.WriteHeader(h.status)
	}
	_, err := w.Write(h.body.Bytes())
	return err
}

// peerKey is that of a peer in a connection's context.
type peerKey struct{}

// A peer is the program at the other end of the admin socket.
type peer struct{ uid, pid int }

// peerOf says who asks: the other end of the socket, or without one this program.
func peerOf(ctx context.Context) (who, from string) {
	if p, ok := ctx.Value(peerKey{}).(peer); ok {
		return fmt.Sprintf("uid %d", p.uid), fmt.Sprintf("pid %d", p.pid)
	}
	return fmt.Sprintf("uid %d", os.Getuid()), "offline"
}

// auditedBy is a handler of a row, whose changes, if it makes any, are kept.
func auditedBy(log *audit.Log, x row, h handler) handler {
	if x.keeps == nothing || log == nil {
		return h
	}
	return audited(x, h, log)
}
