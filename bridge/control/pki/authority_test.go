package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// trusts says whether a client that trusts the CAs of a PEM text takes the
// certificate that the device listener shows.
func trusts(t *testing.T, p *PKI, cas []byte) bool {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cas)
	_, err := shown(t, p.MQTTConfig()).Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost"})
	return err == nil
}

func issuedBy(t *testing.T, p *PKI) (id string, previous bool) {
	t.Helper()
	made, err := p.Issue("dev")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(made.CertPEM, made.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range p.Authorities() {
		if pair.Leaf.CheckSignatureFrom(a.Cert) == nil {
			id = a.ID
		}
	}
	return id, p.SignedByPrevious(pair.Leaf)
}

// Over a rotation devices of before and new ones trust the server's certificate;
// after it those that were told of the new CA do. Each state outlives a restart.
func TestRotateCA(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir, Options{})
	old := p.Trusted()
	oldID, _ := issuedBy(t, p)
	if err := p.Retire(); !errors.Is(err, ErrRotation) {
		t.Errorf("retired the only CA: %v", err)
	}
	if err := p.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := p.Rotate(); !errors.Is(err, ErrRotation) {
		t.Errorf("rotated twice: %v", err)
	}
	both := p.Trusted()
	for range 2 {
		if !trusts(t, p, old) || !trusts(t, p, both) {
			t.Error("a device of before or a new one does not trust the bridge during the rotation")
		}
		if id, previous := issuedBy(t, p); id == oldID || id == "" || previous {
			t.Errorf("signed by %s, previous %v; before %s", id, previous, oldID)
		}
		if !bytes.Equal(p.Trusted(), both) || len(p.Authorities()) != 2 || !p.Authorities()[1].Previous {
			t.Errorf("%d authorities", len(p.Authorities()))
		}
		if _, errs := Verify(dir, time.Now()); errs != nil {
			t.Errorf("verify: %v", errs)
		}
		p = open(t, dir, Options{})
	}
	if err := p.Retire(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if trusts(t, p, old) || !trusts(t, p, both) || !trusts(t, p, p.Trusted()) {
			t.Error("not the new CA alone vouches for the bridge")
		}
		if _, err := os.Lstat(filepath.Join(dir, previousKeyFile)); err == nil || len(p.Authorities()) != 1 {
			t.Errorf("the old key is there still, or %d authorities", len(p.Authorities()))
		}
		if _, errs := Verify(dir, time.Now()); errs != nil {
			t.Errorf("verify: %v", errs)
		}
		p = open(t, dir, Options{})
	}
}

// A crash at any write of a rotation or of its end leaves the state of before or of
// after, and the server's certificate is one that devices of before trust until
// the old CA is retired.
func TestRotateCACrash(t *testing.T) {
	files := []string{caFile, caKeyFile, previousKeyFile, "server.pem", "server-key.pem"}
	read := func(dir string) map[string][]byte {
		all := map[string][]byte{}
		for _, name := range files {
			if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				all[name] = text
			}
		}
		return all
	}
	dir := t.TempDir()
	p := open(t, dir, Options{})
	states := []map[string][]byte{read(dir)}
	if err := p.Rotate(); err != nil {
		t.Fatal(err)
	}
	states = append(states, read(dir))
	if err := p.Retire(); err != nil {
		t.Fatal(err)
	}
	states = append(states, read(dir))
	both := states[1][caFile]
	for n, order := range [][]string{{previousKeyFile, caKeyFile, caFile},
		{caFile, previousKeyFile, "server-key.pem", "server.pem"}} {
		for done := range len(order) + 1 {
			at := t.TempDir()
			state := map[string][]byte{}
			for _, name := range files {
				state[name] = states[n][name]
			}
			for _, name := range order[:done] {
				state[name] = states[n+1][name]
			}
			for name, text := range state {
				if text == nil {
					continue
				}
				if err := os.WriteFile(filepath.Join(at, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, errs := Verify(at, time.Now()); n == 0 && errs != nil {
				t.Errorf("step %d of %v: verify: %v", done, order, errs)
			}
			p := open(t, at, Options{})
			if n == 0 && !trusts(t, p, states[0][caFile]) || n == 1 && !trusts(t, p, both) ||
				!trusts(t, p, p.Trusted()) {
				t.Errorf("step %d of %v: devices do not trust the bridge", done, order)
			}
			if id, _ := issuedBy(t, p); id != p.Authorities()[0].ID {
				t.Errorf("step %d of %v: signed by another", done, order)
			}
			if len(p.Authorities()) == 1 {
				if _, err := os.Lstat(filepath.Join(at, previousKeyFile)); err == nil {
					t.Errorf("step %d of %v: a key of no CA is left", done, order)
				}
			}
		}
	}
}
