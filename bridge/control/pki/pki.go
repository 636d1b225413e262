// Package pki is the bridge's own certificate authority: it makes itself at
// the first start, so there is nothing to prepare and no default password, and
// issues the server's certificate and those of devices.
//
// The files of its folder:
//
//	ca-key.pem, ca.pem          the authority, ECDSA P-256, self-signed;
//	                            ca.pem also has the one of before while it is rotated
//	previous-ca-key.pem         the key of that one
//	server-key.pem, server.pem  the bridge's own, renewed when names change or the end is near
//	access-keys                 keys for the APIs, AWS shared-credentials format
//	access.toml                 what those keys may do
//	ticket-keys                 keys of TLS session tickets, each with the time when it was made, the latest first
//
// The first of each pair, previous-ca-key.pem, access-keys, access.toml and ticket-keys are for their owner only,
// and refused when they are not. Each file is written beside, synced and renamed: a crash
// leaves the old one or the new one.
//
// A device is known by its certificate's fingerprint in the registry, not by
// who signed it, so the TLS layer here asks for proof of the key and a
// certificate that is in its time; all else is looked up afterwards.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// deviceEnd is when device certificates end without Options.DeviceLifetime, as AWS IoT's do.
var deviceEnd = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)

const (
	serverLife  = 825 * 24 * time.Hour // what Apple's clients accept at most
	renewBefore = 30 * 24 * time.Hour
	// clockBehind is how far a device's clock may be behind when a certificate is
	// new: one without a battery goes on where it stopped.
	clockBehind = 24 * time.Hour
)

// ErrDamaged marks a file that does not hold what it should.
var ErrDamaged = errors.New("damaged")

// Options of a PKI.
type Options struct {
	// ServerNames are host names and IP addresses of the server's certificate
	// beside localhost, the loopback addresses and this host's name.
	ServerNames    []string
	DeviceLifetime time.Duration    // of device certificates from their issue; 0: to the end of 2049
	MQTT, HTTPS    Files            // of the certificates of these listeners, if the bridge is not to make them
	Now            func() time.Time // nil: time.Now
}

// A PKI is a certificate authority in a folder: ca.pem and ca-key.pem,
// server.pem and server-key.pem, access-keys. Keys are for their owner only.
// Its methods may be called from several goroutines.
type PKI struct {
	dir  string
	opts Options
	cas  atomic.Pointer[authorities] // stored with mu held

	mqtt, https *servedCert // of files; nil: server

	temporary []byte // secret of which temporary keys are derived

	mu      sync.Mutex // guards what follows
	server  *tls.Certificate
	tickets []ticketKey   // the latest first
	configs []*tls.Config // that were given out
}

// Open reads the authority in dir; at the first start it makes it, together
// with one access key in the AWS shared credentials format.
func Open(dir string, o Options) (*PKI, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &PKI{dir: dir, opts: o}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	if err := p.openCA(); err != nil {
		return nil, fmt.Errorf("pki: CA: %w", err)
	}
	if err := p.openServer(); err != nil {
		return nil, fmt.Errorf("pki: server certificate: %w", err)
	}
	var err error
	if p.mqtt, err = openServed("mqtt", o.MQTT, o.Now); err != nil {
		return nil, err
	}
	if p.https, err = openServed("https", o.HTTPS, o.Now); err != nil {
		return nil, err
	}
	if err := p.openAccessKeys(); err != nil {
		return nil, fmt.Errorf("pki: access key: %w", err)
	}
	if err := p.openTemporarySecret(); err != nil {
		return nil, fmt.Errorf("pki: temporary keys: %w", err)
	}
	if err := p.openTicketKeys(); err != nil {
		return nil, fmt.Errorf("pki: session tickets: %w", err)
	}
	return p, nil
}

func (p *PKI) path(name string) string { return filepath.Join(p.dir, name) }

// openServer loads the server's certificate or makes one, if there is none,
// the names have changed or its end is near.
func (p *PKI) openServer() error {
	keyPEM, err := p.readSecret("server-key.pem")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	certPEM, err := os.ReadFile(p.path("server.pem"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A pair that does not fit is what a crash between the two writes leaves.
	if pair, err := tls.X509KeyPair(certPEM, keyPEM); err == nil && p.serves(pair.Leaf) {
		p.server = &pair
		return nil
	}
	return p.makeServer()
}

// names returns the DNS names and addresses that the server is known by.
func (p *PKI) names() (dns []string, ips []net.IP) {
	all := append([]string{"localhost", "127.0.0.1", "::1"}, p.opts.ServerNames...)
	if host, err := os.Hostname(); err == nil && validHost(host) {
		all = append(all, host)
	}
	slices.Sort(all)
	for _, n := range slices.Compact(all) {
		if ip := net.ParseIP(n); ip != nil {
			ips = append(ips, ip)
		} else {
			dns = append(dns, n)
		}
	}
	return dns, ips
}

// Serves says whether the certificate of the device listener is for host, a name
// or an address: else no client that asks for it connects.
func (p *PKI) Serves(host string) bool {
	if p.mqtt != nil {
		return covers(p.mqtt.current.Load().Leaf, host)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.Leaf.VerifyHostname(host) == nil
}

// validHost keeps a host name out of the certificate that no client could ask
// for, and that would make no valid certificate.
func validHost(h string) bool {
	return h != "" && len(h) <= 253 && strings.Trim(strings.ToLower(h), "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

func (p *PKI) serves(cert *x509.Certificate) bool {
	dns, ips := p.names()
	return cert.CheckSignatureFrom(p.cas.Load().server().cert) == nil &&
		p.opts.Now().Add(renewBefore).Before(cert.NotAfter) &&
		slices.Equal(cert.DNSNames, dns) && slices.EqualFunc(cert.IPAddresses, ips, net.IP.Equal)
}

func (p *PKI) makeServer() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	by := p.cas.Load().server()
	now := p.opts.Now()
	dns, ips := p.names()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "tidemill-bridge", Organization: []string{"Tidemill"}},
		NotBefore: now.Add(-clockBehind), NotAfter: now.Add(serverLife), DNSNames: dns, IPAddresses: ips,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, by.cert, key.Public(), by.key)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	certPEM := append(encodeCert(der), by.pem...)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return err
	}
	p.server = &pair
	return errors.Join(p.write("server-key.pem", keyPEM, 0o600), p.write("server.pem", certPEM, 0o644))
}

func (p *PKI) write(name string, data []byte, mode fs.FileMode) error {
	return durable.Write(p.path(name), data, mode)
}

// readSecret reads a file that must be its owner's alone.
func (p *PKI) readSecret(name string) ([]byte, error) { return secretfile.Read(p.path(name)) }

// CA returns the certificates of the bridge's authorities, PEM, as in ca.pem: the
// current one, and the one of before while a rotation is under way.
func (p *PKI) CA() []byte { return p.cas.Load().file() }

// Trusted returns what a device is to trust, PEM: what CA returns, and the CA of the device
// listener's own certificate, if it has one of files.
func (p *PKI) Trusted() []byte {
	all := p.CA()
	if p.mqtt != nil {
		all = append(all, p.mqtt.roots()...)
	}
	return all
}

// Untrusted is the file of the device listener's certificate if Trusted has not its CA, so
// that a device with what Trusted returns refuses the bridge. Else it is empty.
func (p *PKI) Untrusted() (file string) {
	if p.mqtt == nil || len(p.mqtt.roots()) > 0 {
		return ""
	}
	return p.mqtt.files.Cert
}

// Fingerprint is a certificate's id: the SHA-256 of its DER form, 64 lower-case
// hexadecimal digits, as AWS IoT's certificate ids are.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] &= 0x7f           // positive in 16 bytes
	return new(big.Int).SetBytes(b[:])
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
