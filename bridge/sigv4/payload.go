package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
)

// What X-Amz-Content-Sha256 may say in the place of a hash (S3 API reference,
// "Authenticating requests: Signature Calculations for the Authorization
// Header").
const (
	chunksSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	chunksSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	chunksUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// A Payload is the content of a body that is verified while it is read: an error
// in the place of io.EOF says that it is not what was signed, so that nothing of
// it may count before. One goroutine reads it.
type Payload struct {
	Length int64 // of the content; -1: not said
	r      io.Reader
	chunks *chunkReader // nil: the body is the content
}

// Read implements io.Reader.
func (p *Payload) Read(b []byte) (int, error) { return p.r.Read(b) }

// Trailer is what came behind the content under a name in lower case, "" for
// nothing or none. It is known when Read has returned io.EOF.
func (p *Payload) Trailer(name string) string {
	if p.chunks == nil {
		return ""
	}
	return p.chunks.trailer[name]
}

// Payload is Check for a service that takes bodies of any length, S3: it verifies
// the signature by what the request's header says of the body, and returns the
// content of body, of which it has read nothing.
func (sig *Signature) Payload(body io.Reader) (*Payload, error) {
	if sig.v2 != nil {
		if err := sig.checkV2(); err != nil {
			return nil, err
		}
		return &Payload{Length: sig.r.ContentLength, r: body}, nil
	}
	said := sig.r.Header["X-Amz-Content-Sha256"]
	switch {
	case len(said) > 1:
		return nil, fmt.Errorf("%w: X-Amz-Content-Sha256 is given twice", ErrIncomplete)
	case len(said) == 0 && sig.said.presigned:
		said = []string{unsigned}
	case len(said) == 0:
		return nil, fmt.Errorf("%w: Missing required header for this request: x-amz-content-sha256", ErrIncomplete)
	}
	if err := sig.match(said[0]); err != nil {
		return nil, err
	}
	p := &Payload{Length: sig.r.ContentLength, r: body}
	switch what := said[0]; what {
	case unsigned:
		return p, nil
	case chunksSigned, chunksSignedTrailer, chunksUnsignedTrailer:
		return p, sig.chunked(p, body, what)
	default:
		want, err := hex.DecodeString(what)
		if err != nil || len(want) != sha256.Size {
			return nil, fmt.Errorf("%w: X-Amz-Content-Sha256: %.60q is not taken here", ErrIncomplete, what)
		}
		if !sig.v.Permissive {
			p.r = &hashReader{body, sha256.New(), want}
		}
		return p, nil
	}
}

// chunked makes p read a body in chunks.
func (sig *Signature) chunked(p *Payload, body io.Reader, what string) error {
	n, err := strconv.ParseInt(sig.r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%w: X-Amz-Decoded-Content-Length: want the number of bytes", ErrIncomplete)
	}
	p.Length = n
	p.chunks = newChunkReader(body, n)
	p.chunks.trailers = what != chunksSigned
	if what != chunksUnsignedTrailer && !sig.v.Permissive {
		s := sig.said
		p.chunks.signer = &chunkSigner{key: s.key(sig.secret), time: s.time.Format(timeFormat), scope: s.scope(),
			last: s.signature}
	}
	p.chunks.skipSignatures = what != chunksUnsignedTrailer
	p.r = p.chunks
	return nil
}

// match says whether the signature is of the request with a body that payload
// stands for.
func (sig *Signature) match(payload string) error {
	if sig.v.Permissive {
		return nil
	}
	s := sig.said
	canonical, err := s.canonicalRequests(sig.r, payload)
	if err != nil {
		return err
	}
	match := 0
	for _, c := range canonical {
		match |= subtle.ConstantTimeCompare([]byte(s.sign(sig.secret, c)), []byte(s.signature))
	}
	sameToken := subtle.ConstantTimeCompare([]byte(sig.token), []byte(s.token))
	switch {
	case match == 0:
		return ErrMismatch
	case sameToken == 0:
		return ErrUnknownKey
	}
	return nil
}

// A hashReader ends with ErrContent if it had other bytes than were signed.
type hashReader struct {
	r    io.Reader
	sum  hash.Hash
	want []byte
}

func (h *hashReader) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	h.sum.Write(b[:n])
	if err == io.EOF && subtle.ConstantTimeCompare(h.sum.Sum(nil), h.want) == 0 {
		err = ErrContent
	}
	return n, err
}

// key is what secret gives for the credential's scope.
func (s *signed) key(secret string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.date, s.region, s.service, terminator} {
		key = mac(key, part)
	}
	return key
}

func (s *signed) scope() string {
	return strings.Join([]string{s.date, s.region, s.service, terminator}, "/")
}
