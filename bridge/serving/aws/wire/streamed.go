package wire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4"
)

// perTransfer is what a request whose body or answer is a stream has of the
// memory that bodies share: buffers of 64 KiB on the way to the disk or from it.
const perTransfer = 256 << 10

// A Reply is what an operation of a RESTXML service returns.
type Reply struct {
	Status int               // 0: 200
	Header map[string]string // as they are spelled
	XML    any               // the body, written by encoding/xml; nil: none
	// Data is the body in the place of XML, Size bytes, and closed then. Of a HEAD
	// there is Size alone.
	Data io.ReadCloser
	Size int64
}

// runStreamed is run from the body on: that is not read before the signature
// over the header holds, and then by the operation.
func (x *exchange) runStreamed(sig *sigv4.Signature) (any, error) {
	server := http.NewResponseController(x.w)
	_ = server.SetWriteDeadline(time.Time{}) // set anew for each write
	if x.r.ContentLength == 0 {
		_ = server.SetReadDeadline(time.Time{})
	}
	if !x.public {
		x.claimed(x.Caller.Owner())
	}
	if err := x.hold(perTransfer); err != nil {
		return nil, err
	}
	if sig != nil {
		data, err := sig.Payload(&pacedReader{x: x, begun: time.Now()})
		if err != nil {
			return nil, err
		}
		x.Data, x.verified = data, true
		x.proven(x.Caller.Owner())
		if c, ok := x.Caller.(signer); ok {
			c.Signed(x.who.Service)
		}
	}
	if err := x.enter(x.service.places); err != nil {
		return nil, err
	}
	if err := x.protocol.read(x); err != nil {
		return nil, err
	}
	if err := x.authorize(); err != nil {
		return nil, err
	}
	return x.operate()
}

// A pacedReader reads the request's body from a client that has waited no longer
// than patience and what the bytes that came are worth at the slowest rate. What
// the disk takes does not count.
type pacedReader struct {
	x      *exchange
	begun  time.Time
	waited time.Duration
	n      int64
}

func (p *pacedReader) Read(b []byte) (int, error) {
	if p.x.r.Body == nil {
		return 0, io.EOF
	}
	if err := p.x.ended(); err != nil {
		return 0, err
	}
	allowed := patience + time.Duration(float64(p.n)/slowest*float64(time.Second))
	server := http.NewResponseController(p.x.w)
	start := time.Now()
	_ = server.SetReadDeadline(start.Add(allowed - p.waited))
	n, err := p.x.r.Body.Read(b)
	p.waited, p.n = p.waited+time.Since(start), p.n+int64(n)
	switch {
	case err == io.EOF:
		// A read that waits for the client to hang up would end with the deadline,
		// and the request with it.
		_ = server.SetReadDeadline(time.Time{})
	case err != nil:
		err = fmt.Errorf("%w: %w", sigv4.ErrBody, err)
	}
	return n, err
}

// writeWithin bounds the next write.
func (x *exchange) writeWithin() {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(patience))
}

// send writes an answer with Data, in pieces of 64 KiB each of which the client
// has to take within patience.
func (p *restXML) send(x *exchange, r *Reply) {
	defer r.Data.Close()
	p.head(x, r, r.Size)
	if x.r.Method == http.MethodHead {
		return
	}
	buf := make([]byte, 64<<10)
	for left := r.Size; left > 0; {
		n, err := io.ReadFull(r.Data, buf[:min(left, int64(len(buf)))])
		if err != nil {
			// The client sees that there is less than was said.
			x.h.log.Error("an answer breaks off", "request_id", x.ID, "err", err)
			panic(http.ErrAbortHandler)
		}
		if x.ended() != nil {
			panic(http.ErrAbortHandler)
		}
		x.writeWithin()
		if _, err := x.w.Write(buf[:n]); err != nil {
			return // the client is gone
		}
		left -= int64(n)
	}
}

// ReadAll reads a body of at most limit bytes, once it was verified.
func (r *Request) ReadAll(limit int64) ([]byte, error) {
	if r.Data == nil {
		return nil, nil
	}
	if r.Data.Length > limit {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", sigv4.ErrTooLarge, r.Data.Length, limit)
	}
	n := r.Data.Length
	if n < 0 {
		n = limit
	}
	if err := r.x.hold(3 * n); err != nil { // and what is made of it
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r.Data, n+1))
	if err == nil && int64(len(b)) > n {
		err = fmt.Errorf("%w: more than %d bytes", sigv4.ErrTooLarge, n)
	}
	if err == nil && r.Data.Length >= 0 && int64(len(b)) < r.Data.Length {
		err = errors.Join(sigv4.ErrBody, io.ErrUnexpectedEOF)
	}
	return b, err
}

// Public says whether the request reads what everybody may.
func (r *Request) Public() bool { return r.x.public }

// ErrorOf says err in the words of the service, for an answer that has several.
func (r *Request) ErrorOf(err error) *Error {
	e := *r.x.errorOf(err)
	if e.internal() {
		r.x.h.log.Error("a part of a request failed", "request_id", r.ID, "err", err)
		e.Code = "InternalError"
	}
	return &e
}

// Method is the request's.
func (r *Request) Method() string { return r.x.r.Method }
