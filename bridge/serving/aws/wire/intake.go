package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/admission"
)

const (
	// waitForMemory is how long a request waits for others' bodies to go.
	waitForMemory = 5 * time.Second
	// slowest is what a body or answer may take: a second for so many bytes,
	// besides patience.
	slowest  = 64 << 10
	patience = 30 * time.Second
	// overhead is counted for a body that is read, whatever its size: the
	// goroutine and buffers of its request.
	overhead = 16 << 10
	// firstRead is how much memory a body has before any of it has come, if its
	// sender has not shown any key yet.
	firstRead = 64 << 10
)

// Parts of a pool that may be had by: one address, one principal, all whose
// connection has not shown a key or certificate that holds, and of those one
// address.
const (
	partOfAddress   = 3. / 4
	partOfPrincipal = 3. / 4
	partOfUnknown   = 1. / 2
	partOfStranger  = 3. / 8
)

// An intake is what a request has of what all requests share: memory for its
// body and its answer, and a place among those under way. The body comes first,
// so that who sends it slowly, or has no right to, has no place.
type intake struct {
	w       http.ResponseWriter
	r       *http.Request
	memory  *pool
	conn    *admission.Slot // of the connection; nil: none
	address string
	unknown [3]owner // of what it takes while its sender is not known
	sender  [2]owner // and then
	owners  []owner  // one of both
	known   bool     // the sender, or the connection's by an earlier request
	held    []reservation
	place   *pool // in which it has a place; nil: none
	placeOf []owner
}

// A reservation is memory that was taken at once.
type reservation struct {
	n      int64
	owners []owner
}

// begin makes the intake that of a request whose sender is not known.
func (in *intake) begin(h *Handler, w http.ResponseWriter, r *http.Request) {
	in.w, in.r, in.memory, in.address = w, r, h.memory, admission.AddressIn(r.RemoteAddr).String()
	if h.slot != nil {
		in.conn = h.slot(r)
	}
	in.unknown = [3]owner{{in.address, anAddress, partOfAddress},
		{"", allUnknown, partOfUnknown}, {in.address, aStranger, partOfStranger}}
	in.owners = in.unknown[:]
}

// claimed says of which principal, an owner of any kind, the request claims to
// be. That is believed of a connection whose last request was that principal's,
// and then what it takes counts against it.
func (in *intake) claimed(principal string) {
	if in.conn != nil && in.conn.IsAuthenticatedAs(principal) {
		in.believe(principal)
	}
}

// believe says once whose the request is. Holdings may have the slice.
func (in *intake) believe(principal string) {
	if !in.known {
		in.known = true
		in.sender = [2]owner{{in.address, anAddress, partOfAddress}, {principal, aPrincipal, partOfPrincipal}}
		in.owners = in.sender[:]
	}
}

// proven says that the request is of principal.
func (in *intake) proven(principal string) {
	in.believe(principal)
	if in.conn != nil {
		in.conn.Authenticated(principal)
	}
}

// enter takes a place among those under way, or says that there is none.
func (in *intake) enter(places *pool) error {
	in.leave()
	if !places.try(1, in.owners) {
		return errBusy
	}
	in.place, in.placeOf = places, in.owners
	return nil
}

func (in *intake) leave() {
	if in.place != nil {
		in.place.release(1, in.placeOf)
		in.place = nil
	}
}

// hold takes n bytes of the memory that bodies and large answers share, waiting
// a while for them.
func (in *intake) hold(n int64) error {
	if !in.memory.try(n, in.owners) {
		ctx, cancel := context.WithTimeout(in.r.Context(), waitForMemory)
		defer cancel()
		if err := in.memory.acquire(ctx, n, in.owners); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				err = errBusy
			}
			return err
		}
	}
	in.held = append(in.held, reservation{n, in.owners})
	return nil
}

// shrink gives all but n bytes of what was held last back.
func (in *intake) shrink(n int64) {
	if last := &in.held[len(in.held)-1]; n < last.n {
		in.memory.release(last.n-n, last.owners)
		last.n = n
	}
}

// free gives all memory back.
func (in *intake) free() {
	for _, x := range in.held {
		in.memory.release(x.n, x.owners)
	}
	in.held = nil
}

// done gives all back.
func (in *intake) done() {
	in.leave()
	in.free()
}

// body reads the request's body, of at most limit bytes. A slow client has time
// in proportion. Of a sender that is not known the memory grows with what has
// come, since its word for the length is worth nothing.
func (in *intake) body(limit int64) ([]byte, error) {
	n := in.r.ContentLength
	switch {
	case n > limit:
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", sigv4.ErrTooLarge, n, limit)
	case n == 0 || in.r.Body == nil:
		return nil, nil
	}
	most := n
	if n < 0 {
		most = limit
	}
	if most > slowest { // the server's own timeouts began with the header
		until, server := time.Now().Add(patience+time.Duration(most/slowest)*time.Second),
			http.NewResponseController(in.w)
		_ = server.SetReadDeadline(until) // a recorder of tests has none
		_ = server.SetWriteDeadline(until.Add(patience))
	}
	first := most
	if !in.known || n < 0 {
		first = min(most, firstRead)
	}
	if err := in.hold(first + overhead); err != nil {
		return nil, err
	}
	body := make([]byte, 0, first)
	for {
		// Not by io.ReadFull, whose ErrUnexpectedEOF may be the end, or chunks that
		// stop in the middle, which are no body.
		var err error
		for err == nil && len(body) < cap(body) {
			var got int
			got, err = in.r.Body.Read(body[len(body):cap(body)])
			body = body[:len(body)+got]
		}
		switch {
		case err == io.EOF && (n < 0 || int64(len(body)) == n):
			return body, nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", sigv4.ErrBody, err)
		case int64(len(body)) == n:
			return body, nil
		}
		if int64(len(body)) == most { // of a length that was not said: is there more?
			if k, _ := io.ReadFull(in.r.Body, make([]byte, 1)); k > 0 {
				return nil, fmt.Errorf("%w: more than %d bytes", sigv4.ErrTooLarge, most)
			}
			return body, nil
		}
		next := min(most, 2*int64(cap(body)))
		if err := in.hold(next - int64(cap(body))); err != nil {
			return nil, err
		}
		body = append(make([]byte, 0, next), body...)
	}
}
