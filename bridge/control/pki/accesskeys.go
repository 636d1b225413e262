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
	"path/filepath"
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
	return p.setAccessKeys(text)
}

func (p *PKI) setAccessKeys(text []byte) error {
	keys, err := parseAccessKeys(text)
	if err != nil {
		return fmt.Errorf("%s: %w", accessKeysFile, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.access = keys
	return nil
}

// ReloadAccessKeys reads the file of access keys again, so that keys are added
// and taken away without a restart. If it cannot be read, the keys stay.
func (p *PKI) ReloadAccessKeys() error {
	text, err := p.readSecret(accessKeysFile)
	if err == nil {
		err = p.setAccessKeys(text)
	}
	if err != nil {
		return fmt.Errorf("pki: access keys: %w", err)
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

// An AccessKey is what a client signs with.
type AccessKey struct {
	Secret string
	Token  string // session token that requests carry; "" if none
}

// parseAccessKeys reads the shared-credentials format. Settings it doesn't
// know are left to the SDKs.
func parseAccessKeys(text []byte) (map[string]AccessKey, error) {
	keys := map[string]AccessKey{}
	var profile, id string
	var key AccessKey
	finish := func() error {
		if (id == "") != (key.Secret == "") {
			return fmt.Errorf("profile %q: want both aws_access_key_id and aws_secret_access_key", profile)
		}
		if id == "" {
			return nil
		}
		if other, ok := keys[id]; ok && other != key {
			return fmt.Errorf("profile %q: key %s is there twice with different secrets", profile, id)
		}
		keys[id] = key
		id, key = "", AccessKey{}
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
			value = strings.TrimSpace(value)
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "aws_access_key_id":
				id = value
			case "aws_secret_access_key":
				key.Secret = value
			case "aws_session_token":
				key.Token = value
			}
		}
	}
	return keys, finish()
}

// AccessKeys returns every access key by its id.
func (p *PKI) AccessKeys() map[string]AccessKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.access)
}

// Secret returns the secret and the session token of an access key.
func (p *PKI) Secret(keyID string) (secret, sessionToken string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.access[keyID]
	return k.Secret, k.Token, ok
}

// AccessKeysFile is where the keys are, for AWS_SHARED_CREDENTIALS_FILE.
func AccessKeysFile(dir string) string { return filepath.Join(dir, accessKeysFile) }

// CAFile is where the authority's certificate is, for AWS_CA_BUNDLE.
func CAFile(dir string) string { return filepath.Join(dir, "ca.pem") }
