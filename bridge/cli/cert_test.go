package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Certificates of all origins and their CAs, and questions about policies, by
// the commands alone.
func TestCertificateCommands(t *testing.T) {
	data, dir := newData(t), t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		out, _, err := runText(t, append(args, "-data", data)...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return out
	}
	on := func(args string) string { return args + " -data " + data }
	field := func(out, name string) string {
		t.Helper()
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == name {
				return f[1]
			}
		}
		t.Fatalf("no %s in\n%s", name, out)
		return ""
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Fleet"}, IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.Add(time.Hour)}
	sign := func(serial int64, name string) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}
		if serial == 1 {
			c = ca
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	caFile := write("ca.pem", "CERTIFICATE", sign(1, ""))
	verification := write("verification.pem", "CERTIFICATE", sign(2, strings.TrimSpace(run("cert", "ca", "code"))))
	leaf, pinned := write("leaf.pem", "CERTIFICATE", sign(3, "leaf")),
		write("pinned.pem", "CERTIFICATE", sign(4, "pinned"))
	csrDER, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: "asked"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := write("asked.csr", "CERTIFICATE REQUEST", csrDER)
	list, err := x509.CreateRevocationList(rand.Reader,
		&x509.RevocationList{Number: big.NewInt(7), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(3), RevocationTime: now}}},
		ca,
		key)
	if err != nil {
		t.Fatal(err)
	}
	crl := filepath.Join(dir, "list.crl")
	if err := os.WriteFile(crl, list, 0o600); err != nil {
		t.Fatal(err)
	}

	for _, s := range []step{
		{on("cert register " + leaf), 1, "", "not registered"},
		{on("cert ca register " + caFile), 1, "", "needs one"},
		{on("cert ca register " + leaf + " -mode SNI_ONLY"), 1, "", "not the certificate of a CA"},
		{on("cert ca register " + crl), 1, "", "not PEM"},
		{on("cert register " + leaf + " -pinned -ca " + caFile), 2, "", "exclude each other"},
		{on("cert import-crl " + crl), 1, "", "not found"},
		{on("cert create x"), 2, "", "-out is needed"},
		{on("cert create -out " + dir), 2, "", "want a NAME"},
		{on("policy test x dance y"), 2, "", "want publish, subscribe, receive or connect"},
		{on("policy who-can dance y"), 2, "", "want publish, subscribe, receive or connect"},
		{on("policy effective"), 2, "", "want a CERTIFICATE-ID"},
		{on("policy who-can publish x"), 0, "nobody", ""},
	} {
		s.run(t)
	}
	caID := field(run("cert", "ca", "register", caFile, "-verification", verification), "ca")
	run("cert", "ca", "activate", caID, "-auto-register", "on")
	leafID, pinnedID := field(run("cert", "register", leaf), "certificate"),
		field(run("cert", "register", pinned, "-pinned", "-inactive"), "certificate")
	made := field(run("cert", "create", "-csr", csr, "-out", filepath.Join(dir, "made")), "certificate")
	if _, err := os.Stat(filepath.Join(dir, "made", "key.pem")); err == nil {
		t.Error("there is a key for a request")
	}
	run("cert", "create", "own", "-out", filepath.Join(dir, "own"))
	run("policy", "put", "p", "-document",
		`{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Action":"iot:*","Resource":"arn:aws:iot:*:*:*"}]}`)
	run("policy", "put", "p", "-document",
		`{"Version":"2012-10-17","Statement":[{"Sid":"B","Effect":"Allow","Action":"iot:*","Resource":"*"},`+
			`{"Effect":"Deny","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/secret"}]}`)
	run("policy", "attach", "p", made)
	for _, s := range []step{
		{on("cert ca list"), 0, caID + "  ACTIVE   DEFAULT  true           0          \"CN=Fleet\"", ""},
		{on("cert show " + leafID), 0, "ca           " + caID, ""},
		{on("cert show " + pinnedID), 0, "INACTIVE", ""},
		{on("cert activate " + pinnedID), 0, "", ""},
		{on("cert show " + pinnedID), 0, "status       ACTIVE", ""},
		{on("cert delete " + pinnedID), 1, "", "is active"},
		{on("cert deactivate " + pinnedID), 0, "", ""},
		{on("cert delete " + pinnedID), 0, "", ""},
		{on("cert show " + pinnedID), 1, "", "not found"},
		{on("cert import-crl " + crl), 0, "revoked now     1\n", ""},
		{on("cert import-crl " + crl), 0, "this list was imported before", ""},
		{on("cert show " + leafID), 0, "REVOKED", ""},
		{on("cert activate " + leafID), 1, "", "is revoked"},
		{on("cert ca show " + caID), 0, "number 7", ""},
		{on("cert ca delete " + caID), 1, "", "is active"},
		{on("cert ca deactivate " + caID), 0, "", ""},
		{on("cert ca delete " + caID), 0, "", ""},
		{on("policy versions p"), 0, "in effect", ""},
		{on("policy test " + made + " publish a b -client x"), 0, "ALLOWED iot:Publish", ""},
		{on("policy test " + made + " publish secret -client x -json"), 1, `"authDecision":"EXPLICIT_DENY"`,
			"not allowed"},
		{on("policy test " + made + " publish a -skip p"), 1, "IMPLICIT_DENY", "not allowed"},
		{on("policy test " + leafID + " publish a -add p"), 0, "but the certificate is REVOKED", ""},
		{on("policy effective " + made), 0, "p:2  cert/" + made, ""},
		{on("policy who-can publish a"), 0, made + `  as client "*"  by p statement 1 (B)`, ""},
		{on("policy who-can publish a -json"), 0, `"policy":"p"`, ""},
		{on("policy who-can publish secret"), 0, "nobody", ""},
		{on("policy delete p"), 1, "", "attached"},
		{on("policy default p 1"), 0, "", ""},
		{on("policy delete p -version 1"), 1, "", "is the default"},
		{on("policy delete p -version 2"), 0, "", ""},
		{on("policy who-can publish secret"), 0, "(A)", ""},
		{on("cert revoke " + made), 0, "", ""},
		{on("policy who-can publish secret"), 0, "nobody", ""},
	} {
		s.run(t)
	}
}

// A rotation shows both CAs with what is left of them, and its end one.
func TestRotateCommands(t *testing.T) {
	data := newData(t)
	for _, step := range []struct {
		args string
		want []string
	}{
		{"cert ca list", []string{"SIGNING  OWN   -              1095"}},
		{"cert ca rotate", []string{"SIGNING ", "PREVIOUS ", "days left", "tidemill-bridge cert ca retire"}},
		{"cert ca list", []string{"SIGNING   OWN ", "PREVIOUS  OWN ", "CN=Tidemill CA,", "CN=Tidemill CA 20"}},
		{"cert ca retire", []string{"0 certificates"}},
		{"cert ca list", []string{"SIGNING  OWN ", "CN=Tidemill CA 20"}},
	} {
		out, _, err := runText(t, append(strings.Fields(step.args), "-data", data)...)
		if err != nil {
			t.Fatalf("%s: %v", step.args, err)
		}
		for _, want := range step.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s has no %q:\n%s", step.args, want, out)
			}
		}
	}
	if _, _, err := runText(t, "cert", "ca", "retire", "-data", data); err == nil ||
		!strings.Contains(err.Error(), "there is one CA alone") {
		t.Errorf("retired the only CA: %v", err)
	}
}

// A command without a bridge leaves its line in the audit log, too.
func TestAuditCommand(t *testing.T) {
	data := newData(t)
	run := func(args ...string) string {
		out, _, err := runText(t, append(args, "-data", data)...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return out
	}
	run("cert", "ca", "rotate")
	file := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(file, []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",`+
		`"Action":"iot:Connect","Resource":"*"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run("policy", "put", "p", file)
	if out := run("audit", "-json", "-action", "RotateCA"); !strings.Contains(out, `"action":"RotateCA"`) ||
		!strings.Contains(out, `"from":"offline"`) || strings.Count(out, "\n") != 1 {
		t.Errorf("%s", out)
	}
	for _, c := range []struct {
		args  []string
		wants string // "": nothing is printed
	}{
		{nil, "admin PutPolicy policies/p\n    by uid "},
		{[]string{"-action", "Put*", "-target", "*/p", "-source", "admin", "-who", "uid *"}, "    after: {"},
		{[]string{"-since", "1h", "-target", "policies/p"}, "admin PutPolicy policies/p\n"},
		{[]string{"-since", "2099-01-01T00:00:00Z"}, ""},
		{[]string{"-target", "policies/pp"}, ""},
		{[]string{"-source", "aws"}, ""},
		{[]string{"-who", "uid"}, ""},
	} {
		out := run(append([]string{"audit"}, c.args...)...)
		if c.wants == "" && out != "" || !strings.Contains(out, c.wants) {
			t.Errorf("%q: %s", c.args, out)
		}
	}
	if _, _, err := runText(t, "audit", "-since", "soon", "-data", data); err == nil {
		t.Error("-since soon is taken")
	}
}
