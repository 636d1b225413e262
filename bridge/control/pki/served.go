package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/hal/secretfile"
)

// lookEvery is how often files of server certificates are looked at: a new one is
// served within two looks. Looking also sees what file systems and symbolic links
// tell nobody of.
const lookEvery = 5 * time.Second

// Files name a server certificate that the bridge did not make, PEM: the
// certificate with the chain up to its CA, and its private key, which is for its
// owner only. Both are empty for the one that the bridge makes.
type Files struct{ Cert, Key string }

// A servedCert is a server certificate of files, read again when they change.
type servedCert struct {
	setting string // of the configuration, such as "mqtt"
	files   Files
	now     func() time.Time

	current atomic.Pointer[tls.Certificate]

	mu          sync.Mutex // guards what follows
	refused     error      // why the files are not served as they are now
	lastRefusal string     // the text of the last refusal that was logged
}

// openServed reads the files of a setting; without files it is nil.
func openServed(setting string, f Files, now func() time.Time) (*servedCert, error) {
	if f == (Files{}) {
		return nil, nil
	}
	s := &servedCert{setting: setting, files: f, now: now}
	_, err := s.load()
	return s, err
}

// load serves what is in the files now. If they are wrong, what was served stays.
func (s *servedCert) load() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair, err := readPair(s.files, s.now())
	if err != nil {
		s.refused = fmt.Errorf("%s.cert: %w", s.setting, err)
		return false, s.refused
	}
	s.refused, s.lastRefusal = nil, ""
	old := s.current.Swap(pair)
	return old != nil && !old.Leaf.Equal(pair.Leaf), nil
}

// readPair reads files of a server certificate and refuses what no client takes.
func readPair(f Files, now time.Time) (*tls.Certificate, error) {
	pair, err := secretfile.KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", f.Cert, f.Key, err)
	}
	leaf := pair.Leaf
	switch {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("%s: expired on %s", f.Cert, leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("%s: not valid before %s, is the clock right?", f.Cert,
			leaf.NotBefore.Format(time.RFC3339))
	case len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		return nil, fmt.Errorf("%s: names no host (subjectAltName), is it a server's?", f.Cert)
	}
	return &pair, nil
}

// reload is load that logs a change, and each refusal once.
func (s *servedCert) reload(names []string, log *slog.Logger) error {
	changed, err := s.load()
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if text := err.Error(); text != s.lastRefusal {
			s.lastRefusal = text
			log.Error("the server certificate in the files is not served, the one before stays", "setting", s.setting,
				"not_after", s.current.Load().Leaf.NotAfter, "err", err)
		}
		return err
	}
	if changed {
		leaf := s.current.Load().Leaf
		log.Info("a new server certificate is served", "setting", s.setting, "certificate", Fingerprint(leaf.Raw),
			"not_after", leaf.NotAfter)
		s.warn(names, log)
	}
	return nil
}

// warn names what the certificate does not serve of names, and says if devices cannot be
// given its CA.
func (s *servedCert) warn(names []string, log *slog.Logger) {
	for _, n := range names {
		if !covers(s.current.Load().Leaf, n) {
			log.Warn("the server certificate is not for a name of mqtt.server_names: clients that ask for it do "+
				"not connect",
				"setting", s.setting, "file", s.files.Cert, "name", n)
		}
	}
	if s.setting == "mqtt" && len(s.roots()) == 0 {
		log.Warn("the file of the server certificate does not end with its CA, and this system knows none for it: "+
			"devices of thing create and thing kit will refuse the bridge; put the CA there", "file", s.files.Cert)
	}
}

// covers says whether a certificate is for a host name, address or, as
// mqtt.server_names may have it, a wildcard.
func covers(leaf *x509.Certificate, name string) bool {
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		name = "any." + rest // a label that no certificate names by itself
	}
	return leaf.VerifyHostname(name) == nil
}

// watch reloads after the files have changed and then stayed as they are for a
// look, so that a half-written pair is left to its writer. What is refused is
// tried at each look.
func (s *servedCert) watch(ctx context.Context, names []string, log *slog.Logger) {
	s.warn(names, log)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	loaded, before := "", s.look() // unknown: what changed since load is read by the first look
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		now := s.look()
		if now == before && (now != loaded || s.isRefused()) {
			_ = s.reload(names, log) // it is logged
			loaded = now
		}
		before = now
	}
}

func (s *servedCert) isRefused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused != nil
}

// look tells contents of the files apart, without reading them.
func (s *servedCert) look() string {
	var b strings.Builder
	for _, path := range []string{s.files.Cert, s.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
			continue
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%d %d %v %d %d\n", info.Size(), info.ModTime().UnixNano(), info.Mode(), st.Ino, st.Uid)
	}
	return b.String()
}

// served are the certificates of files.
func (p *PKI) served() (all []*servedCert) {
	for _, s := range []*servedCert{p.mqtt, p.https} {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// ReloadServed serves what the files of server certificates have now, to
// connections that begin from now on. For a file that is wrong the certificate
// before stays, and the error names it.
func (p *PKI) ReloadServed(log *slog.Logger) error {
	var errs []error
	for _, s := range p.served() {
		errs = append(errs, s.reload(p.opts.ServerNames, log))
	}
	return errors.Join(errs...)
}

// WatchServed does what ReloadServed does whenever files of server certificates
// change, until ctx ends. What is wrong with one is logged once.
func (p *PKI) WatchServed(ctx context.Context, log *slog.Logger) error {
	var wg sync.WaitGroup
	for _, s := range p.served() {
		wg.Go(func() { s.watch(ctx, p.opts.ServerNames, log) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

// CheckFiles says what is wrong with the files of a server certificate now.
func CheckFiles(f Files) error {
	if f == (Files{}) {
		return nil
	}
	_, err := readPair(f, time.Now())
	return err
}

// roots returns the CA certificates, PEM, that clients need for the certificate
// of files: the one that its chain ends with, or that this system trusts for it.
// Without one it is empty.
func (s *servedCert) roots() []byte {
	cert := s.current.Load()
	intermediates := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if c.IsCA && c.CheckSignatureFrom(c) == nil {
			return encodeCert(der)
		}
		intermediates.AddCert(c)
	}
	if cert.Leaf.CheckSignatureFrom(cert.Leaf) == nil {
		return encodeCert(cert.Leaf.Raw)
	}
	chains, err := cert.Leaf.Verify(x509.VerifyOptions{Intermediates: intermediates, CurrentTime: s.now()})
	if err != nil {
		return nil
	}
	return encodeCert(chains[0][len(chains[0])-1].Raw)
}
