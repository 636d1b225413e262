package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/customauth"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Refusals logs who is refused, why, and what to do: one line a minute for each
// address and kind of reason, or for each claim and error code, or for each CA whose
// devices cannot be provisioned.
type Refusals struct {
	notices notice.Log
	log     *slog.Logger
}

// NewRefusals returns a Refusals. Run has to be called for those that are counted.
func NewRefusals(log *slog.Logger) *Refusals { return &Refusals{log: log} }

// Run logs once a minute what was counted meanwhile, until ctx ends, and then the
// rest.
func (r *Refusals) Run(ctx context.Context) error { return r.notices.Run(ctx) }

// errUpgrade is wrapped by the reasons for which a WebSocket is refused.
var errUpgrade = errors.New("WebSocket refused")

// A remedy is what an operator may do about a refusal.
type remedy struct {
	is   func(error) bool
	text string
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

func over(limit string) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*gateway.LimitError](err)
		return ok && e.Limit == limit
	}
}

func says(words ...string) func(error) bool {
	return func(err error) bool {
		for _, w := range words {
			if strings.Contains(err.Error(), w) {
				return true
			}
		}
		return false
	}
}

// remedies has a row for each kind of reason; the first that applies counts. What
// has none, such as a client that went away, is no refusal. The texts looked for
// are crypto/tls's, which has no values for them (Go 1.26).
var remedies = []remedy{
	{over("MaxPayload"), "have the client send less, or raise mqtt.max_payload"},
	{over("MaxTopic"), "have the client use shorter topics, or raise mqtt.max_topic"},
	{over("MaxSlashes"), "have the client use topics with fewer levels, or raise mqtt.max_slashes"},
	{over("MaxFilters"), "have the client subscribe to fewer filters at once, or raise mqtt.max_filters"},
	{over("MaxSubscriptions"), "have the client unsubscribe, or raise mqtt.max_subscriptions"},
	{over("MaxUnreleased"), "have the client end its QoS 2 exchanges, or raise mqtt.max_unreleased"},
	{over("InFlight"), "have the client keep to the Receive Maximum of CONNACK, or raise mqtt.max_inflight"},
	{over("MaxQoS"), "have the client use QoS 0 or 1: mqtt.profile = \"aws\" has no QoS 2, as AWS"},
	{is(gateway.ErrQuota), "delete retained messages, or raise mqtt.max_retained, or max_principal_retained for " +
		"one principal"},
	{says("no client certificate", "tls: client didn't provide a certificate"),
		"give the client a certificate and its key; tidemill-bridge thing create makes both"},
	{is(gateway.ErrBadCredentials), "tidemill-bridge cert list shows what is registered; " +
		"cert register and cert activate let a certificate in"},
	{is(pki.ErrNotInTime), "the client's certificate is over or has not begun: give it a new one (tidemill-agent " +
		"rotate, thing create), " +
		"and check its dates and the bridge's clock"},
	{is(topic.ErrReserved), "devices use what services take and tell; README, Limits, lists it"},
	{says(" publish to ", " subscribe to "),
		"tidemill-bridge policy effective shows what the client may; policy put changes it"},
	{is(gateway.ErrOlderSession), "have the thing of this name take its session over, which it does by " +
		"connecting with its own certificate; " +
		"or give the client another id"},
	{is(gateway.ErrNotAuthorized), "tidemill-bridge policy test says which statement decides; policy attach " +
		"gives a policy"},
	{is(gateway.ErrIdentifier), "give the client another id"},
	{says("client id"), "give the client an id of 1 to 128 bytes that does not begin with $"},
	{says("too many sessions"), "raise mqtt.max_sessions, or find out who leaves sessions behind"},
	{is(gateway.ErrUnavailable), "see what the log says at this time; the client will try again"},
	{is(packet.ErrVersion), "set the client to MQTT 3.1.1 or 5"},
	{is(packet.ErrTooLarge), "have the client send less: a CONNECT has at most 64 KiB, with its will"},
	{is(packet.ErrMalformed), "the client does not speak MQTT as the standard says, or not MQTT at all"},
	{is(packet.ErrProtocol), "the client does not speak MQTT as the standard says"},
	{plaintext, "the client does not use TLS: switch it on, with pki/ca.pem of the data directory as its CA"},
	{remote, "the client does not accept the bridge: give it pki/ca.pem of the data directory, reach it by a name of " +
		"mqtt.server_names, and check its clock; with mqtt.cert give it the CA of that file"},
	{says("no WebSocket of MQTT"), "have the client ask for /mqtt by GET with Upgrade: websocket and the " +
		"subprotocol mqtt"},
	{says("MQTT is not served here"), "have the client connect to the broker that broker.url names"},
	{says("application protocol"), "have the client offer the ALPN name mqtt or x-amzn-mqtt-ca, or none"},
	{says("unsupported versions", "no cipher suite", "protocol version"), "the client has to speak TLS 1.2 or 1.3"},
	{is(sigv4.ErrTime), "set the clock of the client, or of the bridge"},
	{is(sigv4.ErrUnknownKey), "sign with an access key that the bridge has, such as that of pki/access-keys in " +
		"the data directory"},
	{is(errRequest), "check secret, region and clock of the client's access key; or have it show a certificate " +
		"that is registered and active"},
	{is(errUpgrade), "sign /mqtt with an access key to which [[access]] grants iot:Connect, or show a client " +
		"certificate"},
	{is(os.ErrDeadlineExceeded), "the client was silent for too long: something that is no MQTT client, or a " +
		"link that loses much"},
	{says("TLS handshake"), "the client and the bridge do not agree on TLS; openssl s_client -connect shows more"},
}

func plaintext(err error) bool {
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

// remote says whether the other end broke a TLS handshake off.
func remote(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// logRefusal logs a refusal. address has a port; key is the access key of the bridge that
// was shown and may not be proven, "" for none: each has lines of its own.
func (r *Refusals) logRefusal(address, clientID, key string, err error) {
	if errors.Is(err, customauth.ErrFailed) {
		return // by no fault of the client: webhooks logs its authorizer
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return // it went away by itself: a look whether the port is open, such as a load balancer's
	}
	for i := range remedies {
		if !remedies[i].is(err) {
			continue
		}
		clientID = clientID[:min(len(clientID), 128)]
		said := []any{"remote", address, "client", clientID, "err", err, "do", remedies[i].text}
		if key != "" {
			said = append(said, "claimed_key", key)
		}
		r.notices.Happened(admission.AddressIn(address).String()+" "+strconv.Itoa(i)+" "+key, func(count uint64) {
			r.log.Info("client refused", append(said, "count", count)...)
		})
		return
	}
}

// Provisioning logs a provisioning request that was refused.
func (r *Refusals) Provisioning(q *provision.Request, code string, err error) {
	r.notices.Happened("provisioning "+q.Principal+" "+code, func(count uint64) {
		r.log.Warn("a provisioning request was refused", "topic", q.Topic, "client", q.ClientID, "principal",
			q.Principal,
			"err", err, "count", count)
	})
}

// FirstConnection logs a device that could not be provisioned by its first
// connection.
func (r *Refusals) FirstConnection(cert *x509.Certificate, err error) {
	r.notices.Happened("first connection "+string(cert.RawIssuer), func(count uint64) {
		r.log.Warn("a device could not be provisioned by its first connection", "subject", cert.Subject.String(),
			"err", err, "count", count)
	})
}

// Full logs a connection that was closed since known clients have as many as the
// setting allows.
func (r *Refusals) Full(setting string, most int) {
	r.notices.Happened("full "+setting, func(count uint64) {
		r.log.Warn("all connections are of known clients, newcomers are closed", "setting", setting, "max_connections",
			most, "closed", count)
	})
}

// Denied is logRefusal for the gateway and the listener.
func (r *Refusals) Denied(a net.Addr, clientID string, err error) {
	if a != nil {
		r.logRefusal(a.String(), clientID, "", err)
	}
}
