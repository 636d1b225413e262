package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/audit"
)

// A change is what is kept of a request that changes something, besides what the
// change itself shows.
type change struct {
	action string
	opaque bool // what is asked for is not kept: it is large or nobody's to see
}

// unchanging are requests that change nothing, though they are no GET.
var unchanging = []string{"POST /v1/rules/{name}/why", "POST /v1/replays", "DELETE /v1/replays/{id}",
	"POST /v1/policy-tests"}

// audited is a handler whose changes are kept by log. The answer is held until the
// record is durable.
func audited(h handler, c change, log *audit.Log) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		made := &audit.Change{Record: audit.Record{Source: audit.SourceAdmin, Action: c.action,
			Target: strings.TrimPrefix(r.URL.Path, "/v1/")}}
		made.Who, made.From = peerOf(r.Context())
		if !c.opaque {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return badRequest{err}
			}
			made.Asked, r.Body = body, io.NopCloser(bytes.NewReader(body))
		}
		held := &heldAnswer{header: http.Header{}}
		err := h(held, r.WithContext(audit.With(r.Context(), made)))
		if err := log.End(r.Context(), made, err); err != nil {
			return err
		}
		return held.writeTo(w)
	}
}

// A heldAnswer is an answer that is not sent yet.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header         { return h.header }
func (h *heldAnswer) WriteHeader(code int)        { h.status = code }
func (h *heldAnswer) Write(b []byte) (int, error) { return h.body.Write(b) }

func (h *heldAnswer) writeTo(w http.ResponseWriter) error {
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

// auditedBy wraps a row's handler if it changes something. A row that is in no
// table is a fault of the program.
func auditedBy(log *audit.Log, pattern string, h handler, changes map[string]change) handler {
	c, ok := changes[pattern]
	switch {
	case !ok && !strings.HasPrefix(pattern, "GET ") && !slices.Contains(unchanging, pattern):
		panic("admin: nothing says how to audit " + pattern)
	case !ok || log == nil:
		return h
	}
	return audited(h, c, log)
}
