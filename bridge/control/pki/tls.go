package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Reasons of MQTTConfig to end a handshake, beside TLS's own.
var (
	ErrNoCertificate = errors.New("pki: the client showed no certificate")
	ErrNotInTime     = errors.New("pki: client certificate is not valid at this time")
)

// MQTTConfig is the TLS configuration of the device listener: TLS 1.2 and
// newer, and any client certificate with proof of its key. Who that is, and
// whether it may connect, is for the registry. A server name is not asked for,
// since some clients send none. The v2 SDKs of AWS offer x-amzn-mqtt-ca on
// port 8883 too, and a Go server ends a handshake in which no name matches.
//
// Each of checks is asked about the client's certificate and may refuse it.
// They also run when a session is resumed, as VerifyPeerCertificate would not.
func (p *PKI) MQTTConfig(checks ...func(*x509.Certificate) error) *tls.Config {
	c := p.config(p.mqtt, tls.RequireAnyClientCert, "x-amzn-mqtt-ca", "mqtt")
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return ErrNoCertificate
		}
		return p.check(s, checks)
	}
	return c
}

// AuthorizerConfig is MQTTConfig for a bridge with custom authorizers: a client
// that offers the protocol name mqtt and not x-amzn-mqtt-ca may come without a
// certificate.
func (p *PKI) AuthorizerConfig() *tls.Config {
	c := p.MQTTConfig()
	free := p.config(p.mqtt, tls.RequestClientCert, "mqtt")
	free.VerifyConnection = func(s tls.ConnectionState) error { return p.check(s, nil) }
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, "mqtt") && !slices.Contains(hello.SupportedProtos, "x-amzn-mqtt-ca") {
			return free, nil
		}
		return nil, nil
	}
	return c
}

// HTTPSConfig is the TLS configuration of the HTTPS listener: TLS 1.2 and newer;
// HTTP/2, HTTP/1.1 and MQTT, as the client chooses by name. It is asked for a
// certificate and needs none, since it may sign its requests.
func (p *PKI) HTTPSConfig() *tls.Config {
	c := p.config(p.https, tls.RequestClientCert, "h2", "http/1.1", "x-amzn-http-ca", "x-amzn-mqtt-ca", "mqtt")
	c.VerifyConnection = func(s tls.ConnectionState) error { return p.check(s, nil) }
	return c
}

// check refuses certificates that are not valid now, or that checks refuse.
func (p *PKI) check(s tls.ConnectionState, checks []func(*x509.Certificate) error) error {
	if len(s.PeerCertificates) == 0 {
		return nil
	}
	leaf, now := s.PeerCertificates[0], p.opts.Now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("%w: %s to %s", ErrNotInTime, leaf.NotBefore.Format(time.RFC3339),
			leaf.NotAfter.Format(time.RFC3339))
	}
	for _, check := range checks {
		if err := check(leaf); err != nil {
			return err
		}
	}
	return nil
}

// suites are those of TLS 1.2; 1.3 has its own. Go's defaults have four more, with
// CBC and a MAC over the plain text, whose decryption tells by its time what is in
// it (Lucky Thirteen).
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// config is what all listeners have in common. A session that was begun with
// one of them may be resumed with another: what the client showed is judged
// again, and one that needs a certificate takes no session without. own is the
// listener's certificate of files, nil for the one that the bridge makes.
func (p *PKI) config(own *servedCert, auth tls.ClientAuthType, protocols ...string) *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites,
		ClientAuth:     auth,
		NextProtos:     protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.serverCert() },
	}
	if own != nil {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.current.Load(), nil }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seal(c)
	p.configs = append(p.configs, c)
	return c
}

// serverCert returns the server's certificate, a new one if its end is near.
// If that cannot be written, the new one serves until the next start; only
// when none can be made and the old one is over, the handshake fails.
func (p *PKI) serverCert() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Now()
	if now.Add(renewBefore).Before(p.server.Leaf.NotAfter) {
		return p.server, nil
	}
	if err := p.makeServer(); err != nil && now.After(p.server.Leaf.NotAfter) {
		return nil, fmt.Errorf("pki: renew the server certificate: %w", err)
	}
	return p.server, nil
}
