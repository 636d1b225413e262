package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Verify reads the files in dir as Open and ReadAccess do, and changes nothing.
// Each error names a file that does not hold what it should and says what to do.
// A file that is not there is none: Open makes it, or its folder's owner misses it.
// grants are those of ReadAccess.
func Verify(dir string, now time.Time) (grants []byte, errs []error) {
	p := &PKI{dir: dir}
	wrong := func(name, what, next string) {
		errs = append(errs, fmt.Errorf("%s %s: %s", p.path(name), what, next))
	}
	read := func(name string, secret bool) (text []byte, ok bool) {
		var err error
		if secret {
			text, err = p.readSecret(name)
		} else {
			text, err = os.ReadFile(p.path(name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err) // it names the file, and what to do
		}
		return text, err == nil
	}

	const restore = "restore both from a backup; devices trust no other authority"
	cert, certThere := read("ca.pem", false)
	key, keyThere := read("ca-key.pem", true)
	var signsServer *x509.Certificate
	if certThere && keyThere {
		pair, err := tls.X509KeyPair(cert, key)
		cas, half := p.readCA()
		switch {
		case errors.Is(half, errHalfRotated): // a start finishes it
			signsServer = cas.previous.cert
		case err == nil && pair.Leaf.IsCA && half != nil: // it says what to do about the previous one
			errs = append(errs, half)
		case err != nil:
			wrong("ca.pem", fmt.Sprintf("or ca-key.pem is damaged, or they do not belong together (%v)", err), restore)
		case !pair.Leaf.IsCA:
			wrong("ca.pem", "is the certificate of no authority", restore)
		case now.After(pair.Leaf.NotAfter):
			wrong("ca.pem", "has expired on "+pair.Leaf.NotAfter.Format(time.DateOnly),
				"set the clock, or give devices the certificate of a new authority")
		default:
			signsServer = cas.server().cert
		}
	}

	const another = "take both away; a start makes another pair"
	cert, certThere = read("server.pem", false)
	key, keyThere = read("server-key.pem", true)
	if certThere && keyThere { // else a start makes both
		pair, err := tls.X509KeyPair(cert, key)
		switch {
		case err != nil:
			wrong("server.pem", fmt.Sprintf("or server-key.pem is damaged, or they do not belong together (%v)", err),
				another)
		case signsServer != nil && pair.Leaf.CheckSignatureFrom(signsServer) != nil:
			wrong("server.pem", "is not signed by the authority in ca.pem", another)
		}
	}

	if text, ok := read(accessKeysFile, true); ok && len(text) > 0 { // an empty one is told as a lost part
		keys, _, err := parseAccessKeys(text)
		switch {
		case err != nil:
			wrong(accessKeysFile, fmt.Sprintf("is damaged (%v)", err), "mend it, or restore it from a backup")
		case len(keys) == 0:
			wrong(accessKeysFile, "has no key", "restore it from a backup")
		}
	}
	if text, ok := read(temporarySecretFile, true); ok && len(text) < minTemporarySecret {
		wrong(temporarySecretFile, "is too short", "take it away; a start makes another one, and temporary keys end")
	}
	if text, ok := read(ticketKeysFile, true); ok {
		if _, err := parseTicketKeys(string(text)); err != nil {
			wrong(ticketKeysFile, fmt.Sprintf("is damaged (%v)", err), "take it away; a start makes another one")
		}
	}
	grants, _ = read(grantsFile, true)
	return grants, errs
}

// minTemporarySecret is how many bytes the secret of temporary keys has at least.
const minTemporarySecret = 32

// DropMade removes from a copy of a pki folder the damaged files of which a start
// makes others by itself: what they were for, session tickets and temporary keys,
// ends with them.
func DropMade(dir string) error {
	p := &PKI{dir: dir}
	text, err := p.readSecret(temporarySecretFile)
	if err == nil && len(text) < minTemporarySecret {
		err = os.Remove(p.path(temporarySecretFile))
	}
	tickets, bad := p.readSecret(ticketKeysFile)
	if bad == nil {
		if _, damaged := parseTicketKeys(string(tickets)); damaged != nil {
			bad = os.Remove(p.path(ticketKeysFile))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if errors.Is(bad, fs.ErrNotExist) {
		bad = nil
	}
	return errors.Join(err, bad)
}
