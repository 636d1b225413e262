package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A bubble of testing/synctest starts in 2000, the other tests run now.
var (
	longAgo = time.Date(1995, 1, 1, 0, 0, 0, 0, time.UTC)
	farOff  = time.Date(2095, 1, 1, 0, 0, 0, 0, time.UTC)
)

// A bridge is a fake of the answers of a bridge, behind MQTT over TLS. Its
// registry is in memory.
type bridge struct {
	t    *testing.T
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	own  tls.Certificate // the server's
	deny tls.Certificate // the claim
	wg   sync.WaitGroup

	mu sync.Mutex // guards the rest

	// fault is asked before a request is done, if it is set: "" for no fault,
	// "before" and "after" end the connection before it is done, or after it and
	// before the answer; "silent" does it and says nothing. What follows a "!" is
	// the answer on /rejected, and nothing is done; anything else, on /accepted.
	fault func(topic string) string

	serial   int64
	status   map[string]string // of certificates by id: PENDING, ACTIVE, INACTIVE
	thing    map[string]string // of certificates by id
	token    map[string]string // certificate by token
	answered map[string]string // outcome by token
	connects []string          // client ids
	asked    []string          // topics
	codes    int               // in each SUBACK; 0: one for each filter
	lost     bool              // no connection can be made
	filters  int               // the most that one connection had
}

func newBridge(t *testing.T) *bridge {
	t.Helper()
	b := &bridge{t: t, status: map[string]string{}, thing: map[string]string{}, token: map[string]string{},
		answered: map[string]string{}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: longAgo, NotAfter: farOff, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	b.key = key
	if b.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	b.own = tls.Certificate{Certificate: [][]byte{b.sign("bridge.test", &key.PublicKey)}, PrivateKey: key}
	b.deny = tls.Certificate{Certificate: [][]byte{b.sign("claim", &key.PublicKey)}, PrivateKey: key}
	b.status[idOf(b.deny.Certificate[0])] = "ACTIVE"
	return b
}

func (b *bridge) sign(name string, key any) []byte {
	b.serial++
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(b.serial),
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: longAgo, NotAfter: farOff,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, b.ca, key, b.key)
	if err != nil {
		b.t.Error(err)
	}
	return der
}

func idOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// options are those of a device with the serial number "7".
func (b *bridge) options() Options {
	return Options{Dir: filepath.Join(b.t.TempDir(), "data"), Endpoint: "bridge.test:8883", ClientID: "claim-7",
		Template: "fleet", Retire: true,
		Parameters: map[string]string{"SerialNumber": "7"}, Timeout: 2 * time.Second,
		Log:   slog.New(slog.DiscardHandler),
		Claim: func() (tls.Certificate, error) { return b.deny, nil },
		Roots: func() (*x509.CertPool, error) {
			pool := x509.NewCertPool()
			pool.AddCert(b.ca)
			return pool, nil
		},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.lost {
				return nil, fmt.Errorf("dial %s: no route", addr)
			}
			client, server := net.Pipe()
			b.wg.Go(func() { b.serve(server) })
			return client, nil
		}}
}

// set changes what the bridge does, between requests.
func (b *bridge) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *bridge) serve(raw net.Conn) {
	defer raw.Close()
	c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{b.own}, ClientAuth: tls.RequireAnyClientCert,
		MinVersion: tls.VersionTLS12})
	if c.Handshake() != nil {
		return
	}
	filters := 0
	by := idOf(c.ConnectionState().PeerCertificates[0].Raw)
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.ConnectPacket:
			b.mu.Lock()
			a := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			if b.status[by] != "ACTIVE" {
				a.ReturnCode = packets.ErrRefusedNotAuthorised
			}
			b.connects = append(b.connects, p.ClientIdentifier)
			b.mu.Unlock()
			if a.Write(c) != nil || a.ReturnCode != 0 {
				return
			}
		case *packets.SubscribePacket:
			filters += len(p.Topics)
			b.set(func() { b.filters = max(b.filters, filters) })
			a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			a.MessageID, a.ReturnCodes = p.MessageID, slices.Clone(p.Qoss)
			b.set(func() {
				if b.codes > 0 {
					a.ReturnCodes = make([]byte, b.codes)
				}
			})
			if a.Write(c) != nil {
				return
			}
		case *packets.PublishPacket:
			b.mu.Lock()
			fault := ""
			if b.fault != nil {
				fault = b.fault(p.TopicName)
			}
			b.mu.Unlock()
			if fault == "before" {
				return
			}
			no, refused := strings.CutPrefix(fault, "!")
			topic, answer := p.TopicName+"/rejected", []byte(no)
			if !refused {
				topic, answer = b.do(by, p)
			}
			switch {
			case fault == "after":
				return
			case !refused && fault != "" && fault != "silent":
				topic, answer = p.TopicName+"/accepted", []byte(fault)
			}
			m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
			m.TopicName, m.Payload = topic, answer
			a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			a.MessageID = p.MessageID
			if fault != "silent" && m.Write(c) != nil || a.Write(c) != nil {
				return
			}
		case *packets.PingreqPacket:
			_ = packets.NewControlPacket(packets.Pingresp).Write(c)
		case *packets.DisconnectPacket:
			return
		}
	}
}

// do does a request of a certificate, and returns the answer.
func (b *bridge) do(by string, p *packets.PublishPacket) (topic string, answer []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, p.TopicName)
	var in struct {
		Request    string            `json:"certificateSigningRequest"`
		Token      string            `json:"certificateOwnershipToken"`
		Parameters map[string]string `json:"parameters"`
	}
	if err := json.Unmarshal(p.Payload, &in); err != nil {
		b.t.Error(err)
	}
	accept := func(v any) (string, []byte) {
		text, _ := json.Marshal(v)
		return p.TopicName + "/accepted", text
	}
	reject := func(status int, code string) (string, []byte) {
		text, _ := json.Marshal(rejected{status, code, "for a test"})
		return p.TopicName + "/rejected", text
	}
	parts := strings.Split(p.TopicName, "/")
	switch {
	case p.TopicName == "$aws/certificates/create-from-csr/json":
		block, _ := pem.Decode([]byte(in.Request))
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || csr.CheckSignature() != nil {
			b.t.Error("a bad signing request:", err)
			return reject(400, "InvalidCertificateSigningRequest")
		}
		der := b.sign(csr.Subject.CommonName, csr.PublicKey)
		id, token := idOf(der), fmt.Sprint("token ", b.serial)
		b.status[id], b.token[token] = "PENDING", id
		return accept(pending{ID: id, PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
			Token: token})
	case strings.HasSuffix(p.TopicName, "/provision/json"):
		id, ok := b.token[in.Token]
		if !ok {
			return reject(400, invalidToken)
		}
		asked := parts[2] + fmt.Sprint(in.Parameters)
		if was, ok := b.answered[in.Token]; ok && was != asked {
			return reject(400, invalidToken)
		}
		if parts[2] == "none" {
			return reject(404, "ResourceNotFound")
		}
		b.answered[in.Token] = asked
		b.status[id], b.thing[id] = "ACTIVE", "pump-"+in.Parameters["SerialNumber"]
		return accept(map[string]any{"thingName": b.thing[id], "deviceConfiguration": map[string]any{"from": parts[2]}})
	case parts[0] == "$tidemill" && parts[3] == "retire":
		if b.thing[parts[2]] != b.thing[by] || parts[2] == by {
			return reject(403, "AccessDenied")
		}
		b.status[parts[2]] = "INACTIVE"
		return accept(struct{}{})
	}
	b.t.Errorf("a request on %s", p.TopicName)
	return reject(400, "")
}

// forget lets a token expire: a certificate that was not provisioned is deleted.
func (b *bridge) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for token, id := range b.token {
		if _, ok := b.answered[token]; !ok {
			delete(b.status, id)
		}
	}
	b.token, b.answered = map[string]string{}, map[string]string{}
}

// active returns the certificates of a thing that are.
func (b *bridge) active(thing string) (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, status := range b.status {
		if status == "ACTIVE" && b.thing[id] == thing {
			ids = append(ids, id)
		}
	}
	return ids
}

// requests returns how many requests there were of which the topic has part.
func (b *bridge) requests(part string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range b.asked {
		if strings.Contains(topic, part) {
			n++
		}
	}
	return n
}
