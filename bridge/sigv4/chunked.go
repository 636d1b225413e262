package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
)

const (
	maxChunkLine = 256     // bytes of the line before a chunk; S3's has 87 and the size's digits
	maxTrailers  = 8       // lines behind the last chunk
	maxTrailer   = 1 << 10 // bytes of one
)

// A chunkReader reads a body of content encoding aws-chunked (S3 API reference,
// "Transferring payload in multiple chunks"):
//
//	SIZE-HEX[;chunk-signature=SIGNATURE] CR LF content CR LF … 0[;…] CR LF
//	[NAME:VALUE CR LF … [x-amz-trailer-signature:SIGNATURE CR LF]] CR LF
type chunkReader struct {
	in             *bufio.Reader
	left           int64 // of the content that was said to come
	chunk          int64 // of the chunk that is being read
	begun          bool  // a chunk has
	err            error
	signer         *chunkSigner // nil: chunks are not verified
	skipSignatures bool         // they have signatures
	said           string       // of the chunk
	sum            hash.Hash
	trailers       bool
	trailer        map[string]string
}

// A chunkSigner knows what the signature of the next chunk must be.
type chunkSigner struct {
	key         []byte
	time, scope string
	last        string // signature
}

func newChunkReader(body io.Reader, length int64) *chunkReader {
	return &chunkReader{in: bufio.NewReaderSize(body, 32<<10), left: length, sum: sha256.New(),
		trailer: map[string]string{}}
}

// Read implements io.Reader.
func (c *chunkReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, c.err
	}
	for c.err == nil && c.chunk == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.in.Read(b[:min(int64(len(b)), c.chunk)])
	if c.signer != nil {
		c.sum.Write(b[:n])
	}
	c.chunk, c.left = c.chunk-int64(n), c.left-int64(n)
	if err != nil {
		c.err = early(err)
	}
	return n, c.err
}

// early is err of a read within the body's form, which has not ended.
func early(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrBody, err)
}

// next ends a chunk and begins the next; io.EOF if that was the last.
func (c *chunkReader) next() error {
	if c.begun {
		if line, err := c.line(2); err != nil || line != "" {
			return errors.Join(err, fmt.Errorf("%w: a chunk does not end with its size", ErrBody))
		}
		if err := c.verify(); err != nil {
			return err
		}
	}
	c.begun = true
	line, err := c.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, extension, signed := strings.Cut(line, ";")
	n, err := strconv.ParseUint(size, 16, 63)
	switch {
	case err != nil || len(size) > 16:
		return fmt.Errorf("%w: %.20q is no size of a chunk", ErrBody, size)
	case int64(n) > c.left:
		return fmt.Errorf("%w: the chunks have more than X-Amz-Decoded-Content-Length says", ErrBody)
	case signed != c.skipSignatures:
		return fmt.Errorf("%w: a chunk's line is %.60q", ErrBody, line)
	}
	c.said = strings.TrimPrefix(extension, "chunk-signature=")
	if c.chunk = int64(n); n > 0 {
		return nil
	}
	return c.end()
}

// end reads what comes behind the content.
func (c *chunkReader) end() error {
	if c.left > 0 {
		return fmt.Errorf("%w: the chunks have %d bytes less than X-Amz-Decoded-Content-Length says", ErrBody, c.left)
	}
	if err := c.verify(); err != nil {
		return err
	}
	if err := c.readTrailers(); err != nil {
		return err
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		return fmt.Errorf("%w: there is something behind the last chunk", ErrBody)
	}
	return io.EOF
}

func (c *chunkReader) readTrailers() error {
	var signed bytes.Buffer
	signature := ""
	for n := 0; ; n++ {
		line, err := c.line(maxTrailer)
		if errors.Is(err, io.ErrUnexpectedEOF) && line == "" {
			break // some clients leave the last line out
		}
		if err != nil {
			return err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch _, twice := c.trailer[name]; {
		case !ok || twice || !c.trailers || n >= maxTrailers:
			return fmt.Errorf("%w: behind the last chunk is %.60q", ErrBody, line)
		case name == "x-amz-trailer-signature":
			signature = value
			continue
		}
		c.trailer[name] = value
		fmt.Fprintf(&signed, "%s:%s\n", name, value)
	}
	if c.signer == nil || !c.trailers {
		return nil
	}
	sum := sha256.Sum256(signed.Bytes())
	return c.signer.check("AWS4-HMAC-SHA256-TRAILER", hex.EncodeToString(sum[:]), signature)
}

// line reads one that ends with CR LF and has at most so many bytes, these
// included.
func (c *chunkReader) line(most int) (string, error) {
	var line []byte
	for len(line) < most {
		b, err := c.in.ReadByte()
		if err != nil {
			return string(line), early(err)
		}
		if line = append(line, b); b == '\n' {
			text, ok := bytes.CutSuffix(line, []byte("\r\n"))
			if !ok {
				break
			}
			return string(text), nil
		}
	}
	return "", fmt.Errorf("%w: a line of the chunks does not end with CR LF", ErrBody)
}

// verify checks the signature of the chunk that was read.
func (c *chunkReader) verify() error {
	if c.signer == nil {
		return nil
	}
	sum := hex.EncodeToString(c.sum.Sum(nil))
	c.sum.Reset()
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
	return c.signer.check("AWS4-HMAC-SHA256-PAYLOAD", empty+"\n"+sum, c.said)
}

// check compares the next signature, of kind and what.
func (s *chunkSigner) check(kind, what, said string) error {
	want := hex.EncodeToString(mac(s.key, strings.Join([]string{kind, s.time, s.scope, s.last, what}, "\n")))
	if subtle.ConstantTimeCompare([]byte(want), []byte(said)) == 0 {
		return fmt.Errorf("%w: that of a chunk", ErrMismatch)
	}
	s.last = want
	return nil
}
