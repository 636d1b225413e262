package uplink

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"github.com/tidemill/tidemill/hal/mqttbound"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// A Kind names why there is no connection, for people and for alerts.
type Kind string

// The kinds of failure.
const (
	KindDNS           Kind = "dns"                 // the endpoint's name does not resolve
	KindRefused       Kind = "tcp_refused"         // nothing listens there
	KindUnreachable   Kind = "unreachable"         // no route
	KindTimeout       Kind = "timeout"             // no answer in time
	KindIdentity      Kind = "identity"            // our own certificate, key or CA file cannot be used
	KindServerCA      Kind = "server_ca"           // the server's certificate is of another CA
	KindServerExpired Kind = "server_expired"      // the server's certificate has expired
	KindServerEarly   Kind = "server_not_yet"      // ... is not valid yet: often a wrong clock here
	KindServerName    Kind = "server_name"         // ... is for another name
	KindClientCert    Kind = "certificate_refused" // the server refused our certificate
	KindTLS           Kind = "tls"                 // any other failure of the handshake
	KindClientID      Kind = "client_id"           // CONNACK 2
	KindUnavailable   Kind = "unavailable"         // CONNACK 3
	KindCredentials   Kind = "bad_credentials"     // CONNACK 4
	KindNotAuthorized Kind = "not_authorized"      // CONNACK 5, and AWS's 7: the policy does not allow it
	KindProtocol      Kind = "protocol"            // what answers does not speak MQTT 3.1.1
	KindNotBridge     Kind = "not_a_bridge"        // a broker that takes batches for messages like any other
	KindTakenOver     Kind = "taken_over"          // another client uses the same client id, as far as can be told
	KindStalled       Kind = "stalled"             // no acknowledgement in time
	KindClosed        Kind = "closed"              // the broker closed the connection
	KindNetwork       Kind = "network"             // the connection broke
)

// An Error is a failure of the link, with its kind.
type linkError struct {
	Kind Kind
	Text string // a sentence for the operator
	Err  error  // the cause, nil if Text says all
}

// linkError returns the sentence and the cause.
func (e *linkError) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *linkError) Unwrap() error { return e.Err }

// classify gives err a kind. endpoint and name are what was dialled and what
// the certificate was checked for; certified says that this device has one to show.
func classify(err error, endpoint, name string, certified bool) *linkError {
	var done *linkError
	if errors.As(err, &done) {
		return done
	}
	var bound *mqttbound.Error
	if errors.As(err, &bound) {
		return &linkError{Kind: KindProtocol, Text: bound.Text}
	}
	wrap := func(k Kind, format string, a ...any) *linkError {
		return &linkError{Kind: k, Text: fmt.Sprintf(format, a...), Err: err}
	}
	var (
		dns     *net.DNSError
		ca      x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		op      *net.OpError
		timeout net.Error
	)
	switch {
	case errors.As(err, &dns):
		return wrap(KindDNS, "the name in uplink.endpoint %q does not resolve", endpoint)
	case errors.As(err, &ca):
		return wrap(KindServerCA, "the certificate of %s is not from the CA in uplink.ca", endpoint)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && strings.Contains(invalid.Detail, "is before"):
		return wrap(KindServerEarly, "the certificate of %s is not valid yet: is this device's clock right?", endpoint)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return wrap(KindServerExpired, "the certificate of %s has expired", endpoint)
	case errors.As(err, &host):
		return wrap(KindServerName, "the certificate of %s is not for the name %q", endpoint, name)
	case errors.As(err, &op) && op.Op == "remote error":
		// The alerts of RFC 8446 section 6.2 that speak of the peer's
		// certificate all say so, in crypto/tls's words too.
		if strings.Contains(op.Err.Error(), "certificate") || strings.Contains(op.Err.Error(), "access denied") ||
			strings.Contains(op.Err.Error(), "unknown certificate authority") {
			if !certified {
				return wrap(KindClientCert,
					`%s wants a certificate of this device: set uplink.security = "mutual-tls", cert and key`, endpoint)
			}
			return wrap(KindClientCert, "%s refused the certificate in uplink.cert", endpoint)
		}
		return wrap(KindTLS, "%s ended the TLS handshake", endpoint)
	case errors.Is(err, syscall.ECONNREFUSED):
		return wrap(KindRefused, "nothing listens at %s", endpoint)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETDOWN):
		return wrap(KindUnreachable, "there is no route to %s", endpoint)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return wrap(KindTimeout, "%s does not answer in time", endpoint)
	case strings.Contains(err.Error(), "tls: "):
		return wrap(KindTLS, "the TLS handshake with %s failed", endpoint)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return wrap(KindClosed, "%s closed the connection", endpoint)
	}
	return wrap(KindNetwork, "the connection to %s broke", endpoint)
}

// refused gives the CONNACK return codes of MQTT 3.1.1, table 3.1, their
// kinds. 7 is what AWS IoT Core sends for a refused policy. certified says that
// this device showed a certificate.
func refused(code byte, o *Options, certified bool) *linkError {
	fail := func(k Kind, format string, a ...any) *linkError {
		return &linkError{Kind: k, Text: fmt.Sprintf("%s %s (CONNACK %d)", o.Endpoint, fmt.Sprintf(format, a...), code)}
	}
	denied := KindNotAuthorized
	if code == 4 {
		denied = KindCredentials
	}
	switch code {
	case 1:
		return fail(KindProtocol, "does not take MQTT 3.1.1")
	case 2:
		return fail(KindClientID, "refused the client id %q", o.ClientID)
	case 3:
		return fail(KindUnavailable, "is not available")
	case 4, 5, 7: // brokers say any of them for a wrong password
		switch {
		case o.User != "" && certified:
			return fail(denied, "refused user %q with the certificate in uplink.cert as client id %q: "+
				"uplink.user, password_file, cert, or a right is wrong",
				o.User, o.ClientID)
		case o.User != "":
			return fail(denied, "refused user %q as client id %q: uplink.user, password_file, or a right is wrong",
				o.User, o.ClientID)
		case !certified:
			return fail(denied, "refused client id %q, which showed neither password nor certificate: set uplink.user and password_file, "+
				`or security = "mutual-tls", cert and key`, o.ClientID)
		case code == 4:
			return fail(denied, "does not accept this certificate: it is not registered there, not active, or revoked")
		}
		return fail(denied, "refuses this certificate: its policy does not allow client id %q to connect", o.ClientID)
	}
	return fail(KindProtocol, "refused the connection")
}
