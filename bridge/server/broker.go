package server

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/speed/broker"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// brokerState is what is kept of a broker from start to start, in broker.json:
// the broker keeps a session for each client id, with its subscriptions.
type brokerState struct {
	ID          string   `json:"id"`          // what client ids begin with, if none is configured
	Filters     []string `json:"filters"`     // all subscriptions there ever were
	Connections int      `json:"connections"` // the most there ever were
}

// readBrokerState reads what an earlier start wrote, if there was one.
func readBrokerState(path string) (former brokerState, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return former, nil
	}
	if err != nil {
		return former, err
	}
	if err := json.Unmarshal(text, &former); err != nil {
		return former, fmt.Errorf("%s: %w", path, err)
	}
	return former, nil
}

// openBroker makes the client of the broker that is configured, if one is.
func (a *assembly) openBroker() error {
	c := a.cfg.Broker
	if c.URL == "" {
		return nil
	}
	conf, password, err := a.brokerIdentity()
	if err != nil {
		return err
	}
	for _, f := range c.Subscribe {
		if err := topic.ValidFilter(f); err != nil {
			return fmt.Errorf("broker.subscribe: %q: %w", f, err)
		}
	}
	var own []string
	if c.Shadows {
		own = []string{"$aws/#"}
	}
	former, err := readBrokerState(a.at("broker.json"))
	if err != nil {
		return err
	}
	now := brokerState{ID: former.ID, Filters: slices.Clone(former.Filters),
		Connections: max(former.Connections, c.Connections)}
	if now.ID == "" {
		now.ID = newBrokerID()
	}
	id := c.ClientID
	if id == "" {
		id = now.ID
	}
	if _, err := url.Parse(c.URL); err != nil {
		return fmt.Errorf("broker.url: %w", err)
	}
	b := broker.New(broker.Options{
		URL: c.URL, ClientID: id, Username: c.Username, Password: password, TLS: conf, Group: c.Share,
		Filters: c.Subscribe, Own: own,
		Connections: c.Connections, Former: former.Filters, FormerConnections: former.Connections,
		MaxInflight: c.MaxInflight, MaxPayload: int(a.cfg.MQTT.MaxPayload),
		KeepAlive: time.Duration(c.KeepAlive), Log: a.log,
	})
	for _, f := range b.Subscriptions() {
		if !slices.Contains(now.Filters, f) {
			now.Filters = append(now.Filters, f)
		}
	}
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if err := a.dir.Write("broker.json", text); err != nil { // before the broker knows
		return err
	}
	a.broker = b
	return nil
}

// brokerIdentity reads the files that the settings name.
func (a *assembly) brokerIdentity() (conf *tls.Config, password string, err error) {
	c := a.cfg.Broker
	conf = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, "", fmt.Errorf("broker.ca: %w", err)
		}
		if conf.RootCAs = x509.NewCertPool(); !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("broker.ca: %s: no certificate in it", c.CA)
		}
	}
	if c.Cert != "" {
		own, err := secretfile.KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, "", fmt.Errorf("broker.cert, broker.key: %w", err)
		}
		conf.Certificates = []tls.Certificate{own}
	}
	if c.PasswordFile != "" {
		if password, err = secretfile.Line(c.PasswordFile); err != nil {
			return nil, "", fmt.Errorf("broker.password_file: %w", err)
		}
	}
	return conf, password, nil
}

// newBrokerID is tidemill-HOST-RANDOM.
func newBrokerID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "bridge"
	}
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, host)
	var b [6]byte
	rand.Read(b[:]) // never fails
	return "tidemill-" + host[:min(len(host), 40)] + "-" + hex.EncodeToString(b[:])
}

// brokerAddress is where the broker is for the bridge, which devices may share.
func brokerAddress(c config.Broker) (host, port string) {
	u, err := url.Parse(c.URL)
	if err != nil { // openBroker has refused it
		return "", ""
	}
	return u.Hostname(), u.Port()
}

func (x series) broker(s *Server) {
	if s.broker == nil {
		return
	}
	b, r := s.broker.Stats(), s.router.Stats()
	x.gauge("broker_connected", "Connections to the broker now.", float64(b.Connected))
	x.gauge("broker_wanted_connections", "Connections to the broker there should be.", float64(b.Wanted))
	x.counter("broker_connects", "Connections that the broker accepted.", float64(b.Connects))
	x.counter("broker_failed_connections", "Connections that failed or were lost.", float64(b.Failures))
	x.counter("broker_received", "Messages from the broker.", float64(b.Received))
	x.counter("broker_acknowledged", "Messages that were acknowledged to the broker.", float64(b.Acked))
	x.counter("broker_not_taken", "Messages that were not acknowledged since they could not be stored.",
		float64(b.NotTaken))
	x.counter("broker_retained_copies", "Retained messages that were acknowledged and dropped since they came to "+
		"a new "+
		"subscription: they are no new data.",
		float64(b.Copies))
	x.counter("broker_too_large", "Messages that were acknowledged and dropped since they are larger than "+
		"mqtt.max_payload.",
		float64(b.TooLarge))
	x.gauge("broker_unacknowledged", "Messages from the broker that are not durable yet.", float64(b.Unacked))
	x.counter("broker_published", "Messages published and acknowledged by the broker.", float64(b.Published))
	x.counter("broker_overflowed", "Messages not published since too many waited.", float64(b.Overflowed))
	x.gauge("broker_queued", "Messages that wait to be published or acknowledged by the broker.", float64(b.Queued))
	x.gauge("broker_queued_bytes", "Bytes of them.", float64(b.QueueBytes))
	x.counter("broker_refused_reserved",
		"Messages on reserved topics that no service here takes from a broker, acknowledged and not taken.",
		float64(r.Reserved))
	x.counter("broker_unanswered_requests", "Shadow requests that came to this bridge, which does not answer any.",
		float64(r.Unanswered))
}
