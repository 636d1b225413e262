package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/audit"
)

// A change is what is kept of a request that changes something.
type change struct {
	action string
	shows  handler // answers what is changed, before and after; nil: what is asked for is kept
	opaque bool    // what is asked for is not kept: it is large or nobody's to see
}

// unchanging are requests that change nothing, though they are no GET.
var unchanging = []string{"POST /v1/rules/{name}/why", "POST /v1/replays", "DELETE /v1/replays/{id}",
	"POST /v1/policy-tests"}

// audited is a handler whose changes are kept by log. The answer is held until the
// record is durable.
func audited(h handler, c change, log audit.Writer) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		rec := audit.Record{Source: "admin", Action: c.action, Target: strings.TrimPrefix(r.URL.Path, "/v1/")}
		rec.Who, rec.From = peerOf(r.Context())
		switch {
		case c.shows != nil:
			rec.Before = seen(c.shows, r)
		case !c.opaque:
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return badRequest{err}
			}
			rec.After, r.Body = body, io.NopCloser(bytes.NewReader(body))
		}
		held := &heldAnswer{header: http.Header{}}
		err := h(held, r)
		if err != nil {
			rec.Error = err.Error()
		} else {
			if c.shows != nil {
				rec.After = seen(c.shows, r)
			}
			rec.Target += held.made()
		}
		// Whoever asked may have left: it was changed all the same.
		kept := log.Write(context.WithoutCancel(r.Context()), rec)
		switch {
		case err != nil && kept != nil:
			return fmt.Errorf("%w; and the audit log could not keep that it was asked for: %w", err, kept)
		case err != nil:
			return err
		case kept != nil:
			return fmt.Errorf("it is done, but the audit log could not keep that: %w", kept)
		}
		return held.writeTo(w)
	}
}

// seen is what shows answers for the target of r, nil if it has no answer.
func seen(shows handler, r *http.Request) json.RawMessage {
	get := r.Clone(r.Context())
	get.Method, get.Body, get.URL.RawQuery = "GET", http.NoBody, ""
	held := &heldAnswer{header: http.Header{}}
	if shows(held, get) != nil {
		return nil
	}
	return held.body.Bytes()
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

// made is "/" and the id of what the answer says was made, "" for nothing. The rest
// of the answer may have a key in it.
func (h *heldAnswer) made() string {
	var said struct {
		ID            string `json:"id"`
		CertificateID string `json:"certificate_id"`
	}
	if json.Unmarshal(h.body.Bytes(), &said) != nil || said.ID+said.CertificateID == "" {
		return ""
	}
	return "/" + said.ID + said.CertificateID
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
func auditedBy(log audit.Writer, pattern string, h handler, changes map[string]change) handler {
	c, ok := changes[pattern]
	switch {
	case !ok && !strings.HasPrefix(pattern, "GET ") && !slices.Contains(unchanging, pattern):
		panic("admin: nothing says how to audit " + pattern)
	case !ok || log == nil:
		return h
	}
	return audited(h, c, log)
}
