package sensor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/mqttbound"
	"github.com/tidemill/tidemill/hal/secretfile"
)

var mqttDriver = driver{
	Driver: Driver{
		Name:    "mqtt",
		Summary: "topics of a local broker: what Zigbee2MQTT, Tasmota or Shelly devices say",
		Options: []Option{
			{"endpoint", "string", "", "required: the broker's host:port, mostly port 1883, or 8883 with TLS"},
			{"topics", "strings", "", `required: such as ["zigbee2mqtt/kitchen"] or ["tele/+/SENSOR"]`},
			{"user", "string", "", "with password_file, for a broker that asks for one"},
			{"password_file", "string", "", "absolute path; its first line is the password, 0600"},
			{"ca", "string", "", `absolute path of who signs its certificate, or "system"; no TLS if left out`},
			{"client_id", "string", "", "one of its own at each connection if left out"},
			{"qos", "integer", "0", "0 or 1"},
			{"retained", "bool", "false", "takes what the broker has kept from before too"},
			{"channels", "tables", "", channelsHelp},
		},
		Tables: map[string][]Option{"channels": channelOptions},
	},
	set: func(o *options) opener {
		m := &mqttSensor{endpoint: o.required("endpoint"), topics: o.texts("topics"), user: o.text("user", ""),
			password: o.text("password_file", ""), ca: o.text("ca", ""), client: o.text("client_id", ""),
			qos: byte(o.between("qos", 0, 0, 1)), certTime: o.certTime}
		m.retained, _ = o.flag("retained")
		m.check(o)
		var taken []hal.Channel
		if m.wild = slices.ContainsFunc(m.topics, func(f string) bool { return strings.ContainsAny(f, "+#") }); m.wild {
			taken = append(taken, deviceChannel)
		}
		m.mapping = o.mapping(taken...)
		return m.open
	},
}

// deviceChannel holds what the wildcards of a topic stood for: who said it.
var deviceChannel = hal.Channel{Name: "device", Kind: hal.Text}

// mqttSensor is the driver mqtt. Each message is a reading of the time it came.
type mqttSensor struct {
	feed
	endpoint, host             string
	user, password, ca, client string
	topics                     []string
	qos                        byte
	retained                   bool
	wild                       bool
	mapping                    *mapping
	certTime                   func() time.Time // by which the broker's certificate is judged
	log                        *limitedLog
}

func (m *mqttSensor) check(o *options) {
	if host, port, err := net.SplitHostPort(m.endpoint); m.endpoint != "" && (err != nil || host == "" || port == "") {
		o.fail("endpoint", "%q, want host:port", m.endpoint)
	} else {
		m.host = host
	}
	if _, ok := o.values["topics"]; !ok {
		o.fail("topics", "missing")
	}
	for _, f := range m.topics {
		if !validFilter(f) {
			o.fail("topics", "%q, want a topic, + for one of its levels, # for all at its end", f)
			break
		}
	}
	for key, path := range map[string]string{"password_file": m.password, "ca": m.ca} {
		if path != "" && !filepath.IsAbs(path) && !(key == "ca" && path == systemRoots) {
			o.fail(key, "%q, want an absolute path", path)
		}
	}
	if m.user == "" && m.password != "" {
		o.fail("user", "want a name beside password_file")
	}
}

// systemRoots in place of a path takes the CAs that the system trusts.
const systemRoots = "system"

func (m *mqttSensor) open(ctx context.Context, _ hal.Board) (hal.Sensor, error) {
	m.feed.name = "mqtt " + m.endpoint
	if m.feed.channels = m.mapping.channels; m.wild && !m.mapping.auto() {
		m.feed.channels = append([]hal.Channel{deviceChannel}, m.mapping.channels...)
	}
	m.log = &limitedLog{log: slog.Default().With("broker", m.endpoint)}
	if err := m.start(ctx, m.listen); err != nil {
		return nil, fmt.Errorf("%s: %w", m.feed.name, err)
	}
	return m, nil
}

// Note warns of a password that anybody on the way can read.
func (m *mqttSensor) Note() string {
	ip := net.ParseIP(m.host)
	if local := m.host == "localhost" || ip != nil && ip.IsLoopback(); m.password != "" && m.ca == "" && !local {
		return "the password goes to the broker without TLS: name its ca"
	}
	return ""
}

// The times of a connection. A broker in the house answers in milliseconds.
const (
	brokerWait  = 10 * time.Second
	brokerAlive = 30 * time.Second
)

// listen connects, subscribes and takes messages until the connection ends.
func (m *mqttSensor) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	down := make(chan error, 1)
	var bound atomic.Pointer[mqttbound.Conn] // a client that still connects sets it
	o, err := m.options()
	if err != nil {
		return err
	}
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		raw, err := m.dial(ctx)
		if err != nil {
			return nil, err
		}
		c := mqttbound.New(raw, mqttbound.MaxPacket)
		if bound.Store(c); ctx.Err() != nil { // listen may have looked before
			_ = c.Close()
			return nil, ctx.Err()
		}
		return c, nil
	})
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		select {
		case down <- err:
		default:
		}
	})
	c := mqtt.NewClient(o)
	defer c.Disconnect(100)
	if err := settled(ctx, c.Connect()); err != nil {
		cancel()
		if conn := bound.Load(); conn != nil {
			_ = conn.Close() // the client waits for the broker's answer without an end
		}
		return m.explain(err)
	}
	filters := map[string]byte{}
	for _, f := range m.topics {
		filters[f] = m.qos
	}
	bound.Load().Expect(len(filters))
	subscribed := c.SubscribeMultiple(filters, m.message)
	if err := settled(ctx, subscribed); err != nil {
		return m.explain(err)
	}
	if t, ok := subscribed.(*mqtt.SubscribeToken); ok {
		for f, code := range t.Result() {
			if code >= 0x80 {
				return fmt.Errorf("%w: the broker does not let us read %s", ErrException, f)
			}
		}
	}
	m.ready()
	select {
	case err := <-down:
		return m.explain(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settled waits for a token.
func settled(ctx context.Context, t mqtt.Token) error {
	timer := time.NewTimer(2 * brokerWait) // beyond the client's own
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-timer.C:
		return fmt.Errorf("%w: no answer within %v", hal.ErrNoDevice, 2*brokerWait)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *mqttSensor) options() (*mqtt.ClientOptions, error) {
	o := mqtt.NewClientOptions().AddBroker("tcp://" + m.endpoint).SetClientID(m.client).SetProtocolVersion(4).
		SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(brokerWait).
		SetWriteTimeout(brokerWait).SetPingTimeout(brokerWait).SetKeepAlive(brokerAlive).SetOrderMatters(true)
	if m.client == "" {
		o.SetClientID("tidemill-" + rand.Text()[:12])
	}
	if m.user != "" {
		o.SetUsername(m.user)
	}
	if m.password != "" {
		secret, err := secretfile.Line(m.password)
		if err != nil {
			return nil, err
		}
		o.SetPassword(secret)
	}
	return o, nil
}

// dial connects, over TLS where there is a CA.
func (m *mqttSensor) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerWait)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.endpoint)
	if err != nil || m.ca == "" {
		return raw, err
	}
	conf := &tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12, Time: m.certTime}
	if m.ca != systemRoots {
		pem, err := os.ReadFile(m.ca)
		if conf.RootCAs = x509.NewCertPool(); err == nil && !conf.RootCAs.AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s: no certificate", m.ca)
		}
		if err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	c := tls.Client(raw, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// explain wraps an error of the client in its kind.
func (m *mqttSensor) explain(err error) error {
	for code, refused := range packets.ConnErrors {
		if code >= 1 && code <= 5 && errors.Is(err, refused) {
			return fmt.Errorf("%w: the broker: %w", ErrException, err)
		}
	}
	var bound *mqttbound.Error
	switch {
	case err == nil:
		return hal.ErrNoDevice
	case errors.As(err, &bound):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	case errors.Is(err, hal.ErrNoDevice), errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
}

// message makes a reading of one. It is called by one goroutine, and does not wait.
func (m *mqttSensor) message(_ mqtt.Client, msg mqtt.Message) {
	now := time.Now()
	if msg.Retained() && !m.retained {
		return
	}
	members, err := said(msg.Topic(), msg.Payload())
	if err != nil {
		m.log.warn("a message is not understood", "topic", msg.Topic(), "err", err)
		return
	}
	chs, vals, ok := m.mapping.apply(members)
	if !ok {
		return
	}
	if m.wild {
		chs, vals = withDevice(m.device(msg.Topic()), chs, vals)
	}
	m.put(hal.Push{At: now, Channels: chs, Values: vals})
}
