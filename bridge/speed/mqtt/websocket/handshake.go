package websocket

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// handshakeTimeout is for writing the answer.
const handshakeTimeout = 10 * time.Second

// protocols are the names of MQTT as a subprotocol: of the standard, and that
// of the AWS IoT SDKs of version 1.
var protocols = []string{"mqtt", "mqttv3.1"}

// An Error says why a request is no handshake, in terms of HTTP.
type Error struct {
	Status int
	Text   string
}

func (e *Error) Error() string { return "websocket: " + e.Text }

// A Handshake is a request to speak WebSocket that may be accepted.
type Handshake struct {
	// Protocol is the subprotocol that the client asked for: "mqtt" or
	// "mqttv3.1".
	Protocol string
	key      string
}

// Parse reads the request of a client. All errors are *Error.
func Parse(r *http.Request) (*Handshake, error) {
	keys, versions := r.Header["Sec-Websocket-Key"], r.Header["Sec-Websocket-Version"]
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return nil, &Error{http.StatusUpgradeRequired, "want a WebSocket over HTTP/1.1, not " + r.Proto}
	case r.Method != http.MethodGet:
		return nil, &Error{http.StatusMethodNotAllowed, "want GET"}
	case !has(r.Header["Upgrade"], "websocket") || !has(r.Header["Connection"], "upgrade"):
		return nil, &Error{http.StatusUpgradeRequired, "want the headers Upgrade: websocket and Connection: Upgrade"}
	case len(versions) != 1 || versions[0] != "13":
		return nil, &Error{http.StatusUpgradeRequired, "want Sec-WebSocket-Version: 13"}
	case len(keys) != 1 || !validKey(keys[0]):
		return nil, &Error{http.StatusBadRequest, "want one Sec-WebSocket-Key, 16 bytes in base64"}
	case r.ContentLength != 0:
		return nil, &Error{http.StatusBadRequest, "want no body"}
	}
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for asked := range strings.SplitSeq(line, ",") {
			for _, p := range protocols {
				if strings.TrimSpace(asked) == p {
					return &Handshake{p, keys[0]}, nil
				}
			}
		}
	}
	return nil, &Error{http.StatusBadRequest, "want the subprotocol mqtt or mqttv3.1"}
}

// validKey says whether a key is one: 16 bytes in base64 (RFC 6455, 4.2.1), or 128
// as AWSIoTPythonSDK 1.5.4 sends them (core/protocol/connection/cores.py), which
// AWS lets in.
func validKey(key string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(key)
	return err == nil && (len(b) == 16 || len(b) == 128) && !strings.ContainsAny(key, "\r\n")
}

// has says whether one of the lines of a list has the token, in any case.
func has(lines []string, token string) bool {
	for _, line := range lines {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// magic is the GUID of RFC 6455, section 1.3.
const magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// answer is what the client gets, less than 1024 bytes.
func (h *Handshake) answer() []byte {
	sum := sha1.Sum([]byte(h.key + magic))
	return fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"+
		"sec-websocket-accept: %s\r\nsec-websocket-protocol: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), h.Protocol)
}

// Accept answers the client and takes the connection from net/http, which does
// not know of it any more: closing it, and waiting for its end, is the caller's.
// Nothing of the request is kept.
func (h *Handshake) Accept(w http.ResponseWriter) (*Conn, error) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("websocket: %w", err)
	}
	// Frames may have come with the request.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered()) // what is there can be peeked at
	c, err := accept(nc, bytes.Clone(early), h.answer())
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("websocket: %w", err)
	}
	return c, nil
}

func accept(nc net.Conn, early, answer []byte) (*Conn, error) {
	if err := nc.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	if _, err := nc.Write(answer); err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return newConn(nc, early), nil
}
