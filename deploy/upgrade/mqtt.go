package upgrade

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// answerTimeout is how long a client waits for one answer.
const answerTimeout = 30 * time.Second

var errNoAnswer = errors.New("no answer")

// dial connects a client with the identity in folder. take gets what comes, also
// what waited in a session; nil: nothing is expected.
func dial(addr, id, folder string, clean bool, take func(mqtt.Message)) (c mqtt.Client, present bool, err error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"))
	if err != nil {
		return nil, false, err
	}
	pem, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if err != nil {
		return nil, false, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + addr).SetClientID(id).SetProtocolVersion(4).
		SetCleanSession(clean).SetAutoReconnect(false).SetConnectTimeout(answerTimeout).
		SetTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots}).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			if take != nil {
				take(m)
			}
		}))
	token := c.Connect()
	if err := wait(token); err != nil {
		return nil, false, fmt.Errorf("connect %s: %w", id, err)
	}
	return c, token.(*mqtt.ConnectToken).SessionPresent(), nil
}

func wait(token mqtt.Token) error {
	if !token.WaitTimeout(answerTimeout) {
		return errNoAnswer
	}
	return token.Error()
}

// window is how many messages a count has under way.
const window = 40

// A count publishes numbered messages until its connection is lost.
type count struct {
	Counted
	qos     byte
	message func(n int) (topic, payload string)
	enough  chan struct{} // closed when 200 are acknowledged
}

// run publishes until the connection to addr is lost. Sent and Acked are final
// then.
func (c *count) run(addr, folder string) error {
	client, _, err := dial(addr, fmt.Sprintf("%s-%d", c.Thing, c.Life), folder, true, nil)
	if err != nil {
		return err
	}
	defer client.Disconnect(0)
	var under []mqtt.Token // in the order of their numbers
	for client.IsConnectionOpen() {
		c.Sent++
		topic, payload := c.message(c.Sent)
		under = append(under, client.Publish(topic, c.qos, false, payload))
		if len(under) < window {
			continue
		}
		if err := wait(under[0]); err != nil {
			break
		}
		under = under[1:]
		if c.Acked++; c.Acked == 200 {
			close(c.enough)
		}
	}
	for _, token := range under {
		if !token.WaitTimeout(time.Second) || token.Error() != nil {
			return nil
		}
		c.Acked++
	}
	return nil
}
