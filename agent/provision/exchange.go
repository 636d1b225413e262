package provision

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tidemill/tidemill/hal/mqttbound"
)

// errRefused says that the broker, which answers, does not take this identity: it
// said so, or ended the connection after TLS, as AWS IoT Core does.
var errRefused = errors.New("refused")

// invalidToken is the error code of a token that is not known any more.
const invalidToken = "InvalidCertificateOwnershipToken"

// A Rejected is a request that was understood and refused.
type rejected struct {
	Status  int    `json:"statusCode"` // as of HTTP
	Code    string `json:"errorCode"`
	Message string `json:"errorMessage"`
}

func (e *rejected) Error() string {
	return fmt.Sprintf("refused: %d %s: %s", e.Status, e.Code, e.Message)
}

// An exchange is a connection on which requests are answered, made when it is
// first used.
type exchange struct {
	w      *work
	client mqtt.Client
	conn   *mqttbound.Conn // the client's
	got    chan mqtt.Message
	lost   chan error
}

// connect makes the connection.
func (x *exchange) connect(ctx context.Context) error {
	if x.client != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, x.w.o.Timeout)
	defer cancel()
	conn, err := x.dial(ctx)
	if err != nil {
		return err
	}
	x.conn, x.got, x.lost = conn, make(chan mqtt.Message, 8), make(chan error, 1)
	o := mqtt.NewClientOptions().
		AddBroker("tcp://" + x.w.o.Endpoint). // only a label: the connection stands
		SetClientID(x.w.clientID).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(x.w.o.Timeout).
		SetWriteTimeout(x.w.o.Timeout).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			select {
			case x.lost <- err:
			default:
			}
		}).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			select {
			case x.got <- m:
			default: // nothing that was asked for
			}
		})
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil })
	client := mqtt.NewClient(o)
	tok := client.Connect()
	err = x.wait(ctx, tok)
	code := byte(0)
	if c, ok := tok.(*mqtt.ConnectToken); ok && ctx.Err() == nil {
		code = c.ReturnCode()
	}
	switch {
	case code == packets.ErrRefusedServerUnavailable || ctx.Err() != nil:
	case code != 0 && code != packets.ErrNetworkError:
		// The client takes return codes that it does not know for success.
		err = fmt.Errorf("%w with code %d", errRefused, code)
	case err != nil:
		err = fmt.Errorf("%w: %w", errRefused, err)
	}
	if err != nil {
		_ = conn.Close()
		client.Disconnect(0)
		return fmt.Errorf("connect to %s as %s: %w", x.w.o.Endpoint, x.w.clientID, err)
	}
	x.client = client
	return nil
}

// dial makes a connection with the asker's certificate.
func (x *exchange) dial(ctx context.Context) (*mqttbound.Conn, error) {
	pair, err := x.w.asker()
	if err != nil {
		return nil, err
	}
	roots, err := x.w.o.Roots()
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{RootCAs: roots, ServerName: x.w.o.ServerName, MinVersion: tls.VersionTLS12, Time: x.w.o.Time,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
	if conf.ServerName == "" {
		host, _, err := net.SplitHostPort(x.w.o.Endpoint)
		if err != nil {
			return nil, err
		}
		conf.ServerName = host
	}
	conn, err := x.shake(ctx, conf)
	if err != nil && x.w.o.Retry != nil && x.w.o.Retry(err) {
		conn, err = x.shake(ctx, conf)
	}
	return conn, err
}

// shake dials and shakes hands.
func (x *exchange) shake(ctx context.Context, conf *tls.Config) (*mqttbound.Conn, error) {
	raw, err := x.w.o.Dial(ctx, "tcp", x.w.o.Endpoint)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return mqttbound.New(conn, mqttbound.MaxPacket), nil
}

// wait waits for a token, which may never be done when the connection is lost.
func (x *exchange) wait(ctx context.Context, tok mqtt.Token) error {
	select {
	case <-tok.Done():
		err := tok.Error()
		if err != nil {
			err = cmp.Or(x.conn.Violation(), err)
		}
		return err
	case err := <-x.lost:
		return fmt.Errorf("the connection was lost: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask publishes a request and decodes its answer; what is refused is *Rejected.
func (x *exchange) ask(ctx context.Context, topic string, in, out any) error {
	if err := x.connect(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, x.w.o.Timeout)
	defer cancel()
	err := x.request(ctx, topic, in, out)
	var no *rejected
	if err != nil && !errors.As(err, &no) {
		x.close() // the answer may still come, and is none of the next request
	}
	return err
}

func (x *exchange) request(ctx context.Context, topic string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	filters := map[string]byte{topic + "/accepted": 1, topic + "/rejected": 1}
	x.conn.Expect(len(filters))
	tok := x.client.SubscribeMultiple(filters, nil)
	if err := x.wait(ctx, tok); err != nil {
		return fmt.Errorf("subscribe to the answers of %s: %w", topic, err)
	}
	if s, ok := tok.(*mqtt.SubscribeToken); ok {
		if n := len(s.Result()); n < len(filters) {
			return fmt.Errorf("%s answers a SUBSCRIBE with %d codes, %d filters were asked for", x.w.o.Endpoint, n,
				len(filters))
		}
		for filter, code := range s.Result() {
			if code > 2 {
				return fmt.Errorf("no policy lets %s subscribe to %s", x.w.clientID, filter)
			}
		}
	}
	if err := x.wait(ctx, x.client.Publish(topic, 1, false, text)); err != nil {
		return fmt.Errorf("publish on %s (the policy may not allow it): %w", topic, err)
	}
	for {
		select {
		case m := <-x.got:
			switch m.Topic() {
			case topic + "/accepted":
				return json.Unmarshal(m.Payload(), out)
			case topic + "/rejected":
				no := &rejected{}
				if err := json.Unmarshal(m.Payload(), no); err != nil {
					return err
				}
				return no
			}
		case err := <-x.lost:
			return fmt.Errorf("the connection was lost before the answer: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("no answer on %s: %w", topic, ctx.Err())
		}
	}
}

// close ends the connection, if there is one.
func (x *exchange) close() {
	if x.client != nil {
		x.client.Disconnect(250)
		x.client = nil
	}
}
