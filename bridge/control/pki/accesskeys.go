package pki

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
)

// accessKeysFile is read by the AWS command line and SDKs as it is:
// AWS_SHARED_CREDENTIALS_FILE={data}/pki/access-keys.
const accessKeysFile = "access-keys"

// openAccessKeys reads the access keys, making one at the first start. An
// operator may add profiles; each is a key of its own.
func (p *PKI) openAccessKeys() error {
	text, err := p.readSecret(accessKeysFile)
	if errors.Is(err, fs.ErrNotExist) {
		id, secret := newAccessKey()
		text = fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", id, secret)
		err = p.write(accessKeysFile, text, 0o600)
	}
	if err != nil {
		return err
	}
	if p.access, err = parseAccessKeys(text); err != nil {
		return fmt.Errorf("%s: %w", accessKeysFile, err)
	}
	return nil
}

// newAccessKey returns a key in AWS's shape: AKIA and 16 of A-Z 2-7, and 40
// characters of 30 random bytes.
func newAccessKey() (id, secret string) {
	var a [10]byte
	var b [30]byte
	rand.Read(a[:])
	rand.Read(b[:])
	return "AKIA" + base32.StdEncoding.EncodeToString(a[:]), base64.StdEncoding.EncodeToString(b[:])
}

// parseAccessKeys reads the shared-credentials format. Settings it doesn't
// know are left to the SDKs.
func parseAccessKeys(text []byte) (map[string]string, error) {
	keys := map[string]string{}
	var profile, id, secret string
	finish := func() error {
		if (id == "") != (secret == "") {
			return fmt.Errorf("profile %q: want both aws_access_key_id and aws_secret_access_key", profile)
		}
		if id == "" {
			return nil
		}
		if other, ok := keys[id]; ok && other != secret {
			return fmt.Errorf("profile %q: key %s is there twice with different secrets", profile, id)
		}
		keys[id] = secret
		id, secret = "", ""
		return nil
	}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		s := strings.TrimSpace(string(line))
		switch {
		case s == "" || s[0] == '#' || s[0] == ';':
		case s[0] == '[':
			if err := finish(); err != nil {
				return nil, err
			}
			if !strings.HasSuffix(s, "]") {
				return nil, fmt.Errorf("line %d: want [profile]", n)
			}
			profile = strings.TrimSpace(s[1 : len(s)-1])
		default:
			name, value, ok := strings.Cut(s, "=")
			if !ok {
				return nil, fmt.Errorf("line %d: want name = value", n)
			}
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "aws_access_key_id":
				id = strings.TrimSpace(value)
			case "aws_secret_access_key":
				secret = strings.TrimSpace(value)
			}
		}
	}
	return keys, finish()
}

// AccessKeys returns the secret of every access key id.
func (p *PKI) AccessKeys() map[string]string { return maps.Clone(p.access) }
