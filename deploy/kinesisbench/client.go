package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/fxamacker/cbor/v2"
)

// An encoding is one of the protocol's two.
type encoding struct {
	name, contentType string
	marshal           func(any) ([]byte, error)
	decode            func(body []byte, into any) error // the value of a member whose name ended where body begins
}

var (
	asJSON = encoding{"JSON", "application/x-amz-json-1.1", json.Marshal, func(b []byte, v any) error {
		return json.NewDecoder(bytes.NewReader(b[2:])).Decode(v) // after the name's quote and the colon
	}}
	asCBOR = encoding{"CBOR", "application/x-amz-cbor-1.1", cbor.Marshal, func(b []byte, v any) error {
		_, err := cbor.UnmarshalFirst(b, v)
		return err
	}}
)

// text is a member of an answer that is a string.
func (e encoding) text(body []byte, name string) (v string, err error) {
	i := bytes.LastIndex(body, []byte(name))
	if i < 0 {
		return "", fmt.Errorf("no %s in %.300q", name, body)
	}
	err = e.decode(body[i+len(name):], &v)
	return v, err
}

// prepare returns the bytes of a signed HTTP/1.1 request. They may be sent as
// often as wanted within the signature's five minutes.
func (p *peer) prepare(operation string, enc encoding, input any) ([]byte, error) {
	body, err := enc.marshal(input)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+p.addr+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", enc.contentType)
	req.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
	req.Header.Set("User-Agent", "kinesisbench")
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(context.Background(), p.keys, req, hex.EncodeToString(sum[:]), "kinesis",
		"eu-local-1", time.Now()); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = req.Write(&b)
	return b.Bytes(), err
}

// A conn is one connection that is kept.
type conn struct {
	net.Conn
	r    *bufio.Reader
	body bytes.Buffer
}

func (p *peer) dial() (*conn, error) {
	c, err := net.Dial("tcp", p.addr)
	if err == nil && p.tls != nil {
		c = tls.Client(c, p.tls)
	}
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

// send returns the answer's body, which is valid until the next.
func (c *conn) send(request []byte) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, err
	}
	c.body.Reset()
	if resp.ContentLength > 0 {
		c.body.Grow(int(min(resp.ContentLength, 32<<20)))
	}
	_, err = io.Copy(&c.body, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", resp.Status, c.body.Bytes())
	}
	return c.body.Bytes(), err
}

// call makes one request on a connection of its own.
func (p *peer) call(operation string, enc encoding, input any) ([]byte, error) {
	request, err := p.prepare(operation, enc, input)
	if err != nil {
		return nil, err
	}
	c, err := p.dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	body, err := c.send(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	return body, nil
}

// createStream returns when the stream is ACTIVE.
func (p *peer) createStream(name string, shards int) error {
	if _, err := p.call("CreateStream", asJSON, map[string]any{"StreamName": name, "ShardCount": shards}); err != nil {
		return err
	}
	for range 100 {
		body, err := p.call("DescribeStream", asJSON, map[string]any{"StreamName": name})
		if err != nil || bytes.Contains(body, []byte(`"StreamStatus":"ACTIVE"`)) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("stream %s does not become ACTIVE", name)
}
