package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"
)

// An authority signs for tests.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	now  time.Time
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func newAuthority(t testing.TB, name string, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(24 * time.Hour)}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, key, cert, now}
}

func (a *authority) pem() []byte { return encode("CERTIFICATE", a.cert.Raw) }

// leaf signs a certificate.
func (a *authority) leaf(serial int64, name string) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader,
		&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: a.now.Add(-time.Hour), NotAfter: a.now.Add(time.Hour)}, a.cert, a.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *authority) crl(number int64, change func(*x509.RevocationList), serials ...int64) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: a.now.Add(-time.Minute),
		NextUpdate: a.now.Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: a.now})
	}
	if change != nil {
		change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func try(t testing.TB, r *Registry, what string, want error, f func(*Tx) error) {
	t.Helper()
	if err := r.Update(f); !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestRegisterCA(t *testing.T) {
	r := open(t)
	ca, other := newAuthority(t, "Fleet", nil), newAuthority(t, "Fleet", nil)
	verification := func(by *authority) (text []byte) {
		update(t, r, func(tx *Tx) error {
			code, err := tx.RegistrationCode()
			text = encode("CERTIFICATE", by.leaf(9, code).Raw)
			return err
		})
		return text
	}
	stale := verification(ca)
	try(t, r, "forget the code", nil, func(tx *Tx) error { return tx.tx.Table(bMeta).Delete(keyRegistrationCode) })
	good := verification(ca)
	for what, in := range map[string]NewCA{
		"no verification":   {Certificate: ca.pem()},
		"old code":          {Certificate: ca.pem(), Verification: stale},
		"signed by another": {Certificate: ca.pem(), Verification: verification(other)},
		"SNI_ONLY with one": {Certificate: ca.pem(), Verification: good, Mode: SNIOnly},
		"no such mode":      {Certificate: ca.pem(), Verification: good, Mode: "X"},
		"not PEM":           {Certificate: ca.cert.Raw, Mode: SNIOnly},
		"leaf":              {Certificate: encode("CERTIFICATE", ca.leaf(2, "x").Raw), Mode: SNIOnly},
		"expired": {Certificate: newAuthority(t, "x", func(c *x509.Certificate) {
			c.NotAfter = c.NotBefore.Add(time.Minute)
		}).pem(), Mode: SNIOnly},
		"of the future": {Certificate: newAuthority(t, "x", func(c *x509.Certificate) {
			c.NotBefore = c.NotAfter.Add(-time.Minute)
		}).pem(), Mode: SNIOnly},
		"may not sign": {Certificate: newAuthority(t, "x", func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageDigitalSignature
		}).pem(), Mode: SNIOnly},
		"configuration": {Certificate: ca.pem(), Mode: SNIOnly, Registration: []byte("{")},
		"too much":      {Certificate: append(ca.pem(), make([]byte, maxCertificatePEM)...), Mode: SNIOnly},
	} {
		try(t, r, what, ErrInvalid, func(tx *Tx) error { _, err := tx.RegisterCA(in); return err })
	}
	var a CA
	try(t, r, "register", nil, func(tx *Tx) (err error) {
		a, err = tx.RegisterCA(NewCA{Certificate: ca.pem(), Verification: good})
		return err
	})
	if a.Status != Inactive || a.Mode != DefaultMode || a.ID != fingerprint(ca.cert.Raw) {
		t.Errorf("%+v", a)
	}
	try(t, r, "again", ErrExists, func(tx *Tx) error {
		_, err := tx.RegisterCA(NewCA{Certificate: ca.pem(), Mode: SNIOnly})
		return err
	})
	for i := range maxCAs {
		want := error(nil)
		if i == maxCAs-1 {
			want = ErrLimit
		}
		try(t, r, "many of one name", want, func(tx *Tx) error {
			_, err := tx.RegisterCA(NewCA{Certificate: newAuthority(t, "Fleet", nil).pem(), Mode: SNIOnly})
			return err
		})
	}
	try(t, r, "status", ErrInvalid, func(tx *Tx) error { return tx.UpdateCA(a.ID, func(c *CA) { c.Status = Revoked }) })
	try(t, r, "activate", nil, func(tx *Tx) error { return tx.UpdateCA(a.ID, func(c *CA) { c.Status = Active }) })
	try(t, r, "delete active", ErrConflict, func(tx *Tx) error { return tx.DeleteCA(a.ID) })
	try(t, r, "deactivate", nil, func(tx *Tx) error { return tx.UpdateCA(a.ID, func(c *CA) { c.Status = Inactive }) })
	try(t, r, "delete", nil, func(tx *Tx) error { return tx.DeleteCA(a.ID) })
	try(t, r, "delete again", ErrNotFound, func(tx *Tx) error { return tx.DeleteCA(a.ID) })
}

func (a *authority) register(r *Registry, in NewCA) CA {
	a.t.Helper()
	in.Certificate, in.Mode = a.pem(), SNIOnly
	var ca CA
	update(a.t, r, func(tx *Tx) (err error) { ca, err = tx.RegisterCA(in); return err })
	return ca
}

func TestRegisterSigned(t *testing.T) {
	r := open(t)
	ca, unknown := newAuthority(t, "Fleet", nil), newAuthority(t, "Fleet", nil)
	c := ca.register(r, NewCA{})
	text := encode("CERTIFICATE", ca.leaf(2, "dev").Raw)
	sign := func(text, by []byte, status Status) func(*Tx) error {
		return func(tx *Tx) error { _, err := tx.RegisterSigned(text, by, status); return err }
	}
	try(t, r, "inactive CA", ErrConflict, sign(text, nil, Active))
	update(t, r, func(tx *Tx) error { return tx.UpdateCA(c.ID, func(c *CA) { c.Status = Active }) })
	try(t, r, "unknown CA of this name", ErrNotFound,
		sign(encode("CERTIFICATE", unknown.leaf(2, "dev").Raw), nil, Active))
	try(t, r, "unknown CA", ErrNotFound, sign(text, unknown.pem(), Active))
	try(t, r, "not its", ErrInvalid, sign(encode("CERTIFICATE", unknown.leaf(2, "dev").Raw), ca.pem(), Active))
	try(t, r, "status", ErrInvalid, sign(text, nil, PendingTransfer))
	try(t, r, "register", nil, sign(text, nil, Active))
	try(t, r, "again", ErrExists, sign(text, ca.pem(), Active))
	err := r.View(func(tx *Tx) error {
		ids, _ := tx.CACertificates(c.ID, "", 0)
		got, err := tx.Certificate(ids[0])
		if len(ids) != 1 || got.CA != c.ID || got.Status != Active {
			t.Errorf("%v %+v", ids, got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAutoRegister(t *testing.T) {
	r := open(t)
	ca := newAuthority(t, "Fleet", nil)
	c := ca.register(r, NewCA{AutoRegister: true})
	leaf := ca.leaf(2, "dev")
	auto := func(tx *Tx) error { _, err := tx.AutoRegister(leaf); return err }
	look := func() error { return r.View(auto) }
	set := func(f func(*CA)) { update(t, r, func(tx *Tx) error { return tx.UpdateCA(c.ID, f) }) }
	try(t, r, "inactive CA", ErrNotFound, auto)
	set(func(c *CA) { c.Status, c.AutoRegister = Active, false })
	try(t, r, "not by itself", ErrNotFound, auto)
	set(func(c *CA) { c.AutoRegister = true })
	r.now = func() time.Time { return ca.cert.NotAfter.Add(time.Second) }
	try(t, r, "expired CA", ErrNotFound, auto)
	r.now = time.Now
	if err := look(); err != nil {
		t.Error(err)
	}
	forged := newAuthority(t, "Fleet", nil).leaf(2, "dev")
	try(t, r, "another CA of this name", ErrNotFound, func(tx *Tx) error {
		_, err := tx.AutoRegister(forged)
		return err
	})
	try(t, r, "register", nil, auto)
	try(t, r, "again", ErrExists, auto)
	id := fingerprint(leaf.Raw)
	who, err := r.Identity(id, "dev")
	if err != nil || who.Certificate.Status != PendingActivation || who.Certificate.CA != c.ID || who.Documents != nil {
		t.Errorf("%+v, %v", who, err)
	}
	try(t, r, "activate", nil, func(tx *Tx) error { return tx.SetCertificateStatus(id, Active) })
	try(t, r, "back", ErrInvalid, func(tx *Tx) error { return tx.SetCertificateStatus(id, PendingActivation) })
}

func TestTransfer(t *testing.T) {
	r := open(t)
	var c Certificate
	update(t, r, func(tx *Tx) (err error) { c, err = tx.RegisterCertificate(testPEM(t, 1), Active); return err })
	set := func(s Status) func(*Tx) error { return func(tx *Tx) error { return tx.SetCertificateStatus(c.ID, s) } }
	transfer := func(tx *Tx) error { return tx.transferCertificate(c.ID) }
	end := func(s Status) func(*Tx) error { return func(tx *Tx) error { return tx.endTransfer(c.ID, s) } }
	try(t, r, "active", ErrConflict, transfer)
	try(t, r, "end of none", ErrConflict, end(Inactive))
	try(t, r, "deactivate", nil, set(Inactive))
	try(t, r, "thing", nil, func(tx *Tx) error {
		return errors.Join(tx.CreateThing(Thing{Name: "dev"}), tx.AttachThing("dev", c.ID))
	})
	try(t, r, "attached", ErrInUse, transfer)
	try(t, r, "detach", nil, func(tx *Tx) error { return tx.DetachThing("dev", c.ID) })
	try(t, r, "transfer", nil, transfer)
	try(t, r, "activate meanwhile", ErrConflict, set(Active))
	try(t, r, "end by a wrong status", ErrInvalid, end(Revoked))
	try(t, r, "accept", nil, end(Active))
	if who, err := r.Identity(c.ID, "dev"); err != nil || who.Certificate.Status != Active {
		t.Error(who, err)
	}
}

func TestImportCRL(t *testing.T) {
	r := open(t)
	ca, forger := newAuthority(t, "Fleet", nil), newAuthority(t, "Fleet", nil)
	id := ca.register(r, NewCA{Active: true, AutoRegister: true}).ID
	pinned := forger.leaf(2, "of the other CA, with the same name and number")
	var ids []string
	for n := range int64(4) {
		c := ca.leaf(2+n, "dev")
		ids = append(ids, fingerprint(c.Raw))
		update(t, r, func(tx *Tx) error {
			_, err := tx.RegisterSigned(encode("CERTIFICATE", c.Raw), nil, Active)
			return err
		})
	}
	update(t, r, func(tx *Tx) error {
		_, err := tx.RegisterCertificate(encode("CERTIFICATE", pinned.Raw), Active)
		return err
	})
	status := func(id string) (s Status) {
		_ = r.View(func(tx *Tx) error { c, err := tx.Certificate(id); s = c.Status; return err })
		return s
	}
	var out CRLImport
	load := func(raw []byte) func(*Tx) error {
		return func(tx *Tx) (err error) { out, err = tx.ImportCRL(raw); return err }
	}
	extension := func(oid ...int) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions,
				pkix.Extension{Id: oid, Critical: true, Value: []byte{2, 1, 1}})
		}
	}
	good := ca.crl(5, nil, 2, 99)
	broken := slices.Clone(good)
	broken[len(broken)-1] ^= 1
	for what, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":     {nil, ErrInvalid},
		"noise":       {[]byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"), ErrInvalid},
		"certificate": {ca.pem(), ErrInvalid},
		"signature":   {broken, ErrInvalid},
		"forged":      {forger.crl(9, nil, 2), ErrInvalid},
		"unknown CA":  {newAuthority(t, "Unknown", nil).crl(1, nil), ErrNotFound},
		"future": {ca.crl(5, func(l *x509.RevocationList) {
			l.ThisUpdate = ca.now.Add(time.Minute)
		}, 2), ErrInvalid},
		"delta":   {ca.crl(5, extension(2, 5, 29, 27), 2), ErrInvalid},
		"partial": {ca.crl(5, extension(2, 5, 29, 28), 2), ErrInvalid},
		"removed from it": {ca.crl(5, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ReasonCode = reasonRemove
		}, 2), ErrInvalid},
		"critical entry": {ca.crl(5, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29},
				Critical: true, Value: []byte{5, 0}}}
		}, 2), ErrInvalid},
	} {
		try(t, r, what, c.want, load(c.raw))
	}
	if status(ids[0]) != Active {
		t.Fatal("revoked by a list that was refused")
	}
	try(t, r, "import", nil, load(good))
	if out.CA != id || out.Number != "5" || out.Entries != 2 || out.Revoked != 1 || out.Unknown != 1 || out.Same ||
		out.Stale || status(ids[0]) != Revoked {
		t.Errorf("%+v, %s", out, status(ids[0]))
	}
	if status(fingerprint(pinned.Raw)) != Active {
		t.Error("another CA's certificate is revoked")
	}
	try(t, r, "the same again", nil, load(encode("X509 CRL", good)))
	if !out.Same || out.Revoked != 0 || out.Already != 1 {
		t.Errorf("%+v", out)
	}
	try(t, r, "another with the number", ErrConflict, load(ca.crl(5, nil, 3)))
	try(t, r, "an older one", ErrConflict, load(ca.crl(4, nil, 3)))
	try(t, r, "registered after it was revoked", ErrConflict, func(tx *Tx) error {
		_, err := tx.AutoRegister(ca.leaf(99, "late"))
		return err
	})
	hold := ca.crl(6, func(l *x509.RevocationList) {
		l.RevokedCertificateEntries[1].ReasonCode = reasonHold
		l.NextUpdate = l.ThisUpdate.Add(time.Second)
	}, 3, 4)
	try(t, r, "hold", nil, load(hold))
	if out.Revoked != 1 || out.Held != 1 || !out.Stale || status(ids[1]) != Revoked || status(ids[2]) != Inactive ||
		status(ids[3]) != Active {
		t.Errorf("%+v", out)
	}
	try(t, r, "no longer listed, so it may be registered", nil, func(tx *Tx) error {
		_, err := tx.AutoRegister(ca.leaf(99, "late"))
		return err
	})

	own := newAuthority(t, "Own", nil)
	mine := own.leaf(7, "mine")
	update(t, r, func(tx *Tx) error {
		_, err := tx.RegisterCertificate(encode("CERTIFICATE", mine.Raw), Active)
		return err
	})
	try(t, r, "the bridge's own", nil, func(tx *Tx) (err error) {
		out, err = tx.ImportCRL(own.crl(1, nil, 7), own.cert)
		return err
	})
	if out.Revoked != 1 || status(fingerprint(mine.Raw)) != Revoked {
		t.Errorf("%+v", out)
	}
}

// A file from before there was an index of serial numbers gets it.
func TestSerialsAreIndexed(t *testing.T) {
	path := t.TempDir() + "/registry.db"
	r, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, "Fleet", nil)
	leaf := ca.leaf(2, "dev")
	update(t, r, func(tx *Tx) error {
		_, err := tx.RegisterCertificate(encode("CERTIFICATE", leaf.Raw), Active)
		return errors.Join(err, tx.tx.Drop(bSerials))
	})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = openFile(path); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ca.register(r, NewCA{})
	var out CRLImport
	update(t, r, func(tx *Tx) (err error) { out, err = tx.ImportCRL(ca.crl(1, nil, 2)); return err })
	if out.Revoked != 1 {
		t.Errorf("%+v", out)
	}
}

// Foreign bytes do no harm: they are refused, or are what they say.
func FuzzCRL(f *testing.F) {
	ca := newAuthority(f, "Fleet", nil)
	f.Add(ca.crl(1, nil, 2, 3))
	f.Add(encode("X509 CRL", ca.crl(1, nil)))
	f.Add([]byte{})
	r := open(f)
	ca.register(r, NewCA{Active: true})
	f.Fuzz(func(t *testing.T, raw []byte) {
		errAbort := errors.New("abort")
		err := r.Update(func(tx *Tx) error {
			out, err := tx.ImportCRL(raw)
			if err == nil && (out.Number == "" || out.Entries != out.Revoked+out.Held+out.Already+out.Unknown) {
				t.Errorf("%+v", out)
			}
			return errors.Join(err, errAbort)
		})
		if !errors.Is(err, errAbort) || err.Error() == errAbort.Error() {
			return
		}
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) {
			t.Errorf("no sentinel: %v", err)
		}
	})
}

func FuzzRegisterCA(f *testing.F) {
	ca := newAuthority(f, "Fleet", nil)
	f.Add(ca.cert.Raw, ca.leaf(2, "x").Raw)
	f.Add(ca.leaf(3, "y").Raw, []byte{})
	r := open(f)
	f.Fuzz(func(t *testing.T, der, verification []byte) {
		errAbort := errors.New("abort")
		_ = r.Update(func(tx *Tx) error {
			for i, in := range []NewCA{{Mode: SNIOnly}, {Verification: encode("CERTIFICATE", verification)}} {
				in.Certificate = encode("CERTIFICATE", der)
				if _, err := tx.RegisterCA(in); err == nil && i == 1 {
					t.Error("registered without the code")
				} else if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrExists) {
					t.Errorf("no sentinel: %v", err)
				}
			}
			if _, err := tx.RegisterSigned(encode("CERTIFICATE", der), nil, Active); err == nil {
				t.Error("registered by a CA that is not active")
			}
			if c, err := x509.ParseCertificate(der); err == nil {
				if _, err := tx.AutoRegister(c); err == nil {
					t.Error("registered by itself")
				}
			}
			return errAbort
		})
	})
}

// BenchmarkImportCRL imports a list of 10,000 entries, of which 1,000 are
// registered.
func BenchmarkImportCRL(b *testing.B) {
	r := open(b)
	ca := newAuthority(b, "Fleet", nil)
	ca.register(r, NewCA{Active: true})
	for n := range 1000 {
		c := ca.leaf(int64(n+2), fmt.Sprint("dev-", n))
		update(b, r, func(tx *Tx) error {
			_, err := tx.RegisterSigned(encode("CERTIFICATE", c.Raw), nil, Active)
			return err
		})
	}
	var serials []int64
	for n := range int64(10_000) {
		serials = append(serials, n+2)
	}
	raw := ca.crl(1, nil, serials...)
	for b.Loop() {
		update(b, r, func(tx *Tx) error { _, err := tx.ImportCRL(raw); return err })
	}
}

// transferCertificate makes an INACTIVE certificate (else ErrConflict) with
// nothing attached (else ErrInUse) PENDING_TRANSFER.
func (t *Tx) transferCertificate(id string) error {
	c, err := t.Certificate(id)
	switch {
	case err != nil:
		return err
	case c.Status != Inactive:
		return fmt.Errorf("certificate %s is %s, want INACTIVE: %w", id, c.Status, ErrConflict)
	case t.anyLink(bCertPolicies, id) || t.anyLink(bCertThings, id):
		return inUse("certificate "+id, append(each("policy ", t.links(bCertPolicies, id)),
			each("thing ", t.links(bCertThings, id))...))
	}
	return t.putStatus(&c, PendingTransfer)
}

// endTransfer ends a transfer: with ACTIVE or INACTIVE when it is accepted, with
// INACTIVE when it is cancelled or rejected. A certificate that is not
// PENDING_TRANSFER is ErrConflict.
func (t *Tx) endTransfer(id string, status Status) error {
	if status != Active && status != Inactive {
		return fmt.Errorf("certificate status %q: %w: want ACTIVE or INACTIVE", status, ErrInvalid)
	}
	c, err := t.Certificate(id)
	switch {
	case err != nil:
		return err
	case c.Status != PendingTransfer:
		return fmt.Errorf("certificate %s is %s, want PENDING_TRANSFER: %w", id, c.Status, ErrConflict)
	}
	return t.putStatus(&c, status)
}
