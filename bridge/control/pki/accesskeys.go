package pki

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// accessKeysFile is read by the AWS command line and SDKs as it is:
// AWS_SHARED_CREDENTIALS_FILE={data}/pki/access-keys.
const accessKeysFile = "access-keys"

// grantsFile says what the keys may do, in [[access]] tables.
const grantsFile = "access.toml"

// firstProfile is that of the key that the first start makes.
const firstProfile = "default"

// openAccessKeys makes a key at the first start, with a grant of all. The grant
// is written before the key: one without the other does no harm, and a start
// that was killed between them makes another key and grants that. An operator
// may add profiles; each is a key of its own.
func (p *PKI) openAccessKeys() error {
	if _, err := os.Lstat(p.path(accessKeysFile)); !errors.Is(err, fs.ErrNotExist) {
		_, err := p.ReadAccess()
		return err
	}
	id, secret := NewAccessKey()
	if err := p.GrantAll(id); err != nil {
		return err
	}
	return p.write(accessKeysFile, fmt.Appendf(nil, "[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		firstProfile, id, secret), 0o600)
}

// An Access is what the files say of access keys.
type Access struct {
	Keys map[string]AccessKey // by id
	// Grants are [[access]] tables, TOML; nil: there is no such file, which is
	// so in a folder of a version before it.
	Grants []byte
	// First is the id of the key that the first start made, unless somebody put
	// another in its place; "": none.
	First string
}

// ReadAccess reads the files of access keys and of what they may do.
func (p *PKI) ReadAccess() (a Access, err error) {
	text, err := p.readSecret(accessKeysFile)
	if err != nil {
		return a, fmt.Errorf("access keys: %w", err)
	}
	if a.Keys, a.First, err = parseAccessKeys(text); err != nil {
		return a, fmt.Errorf("%s: %w", accessKeysFile, err)
	}
	a.Grants, err = p.readSecret(grantsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	if a.Grants == nil {
		a.Grants = []byte{} // an empty file
	}
	return a, nil
}

const aboutGrants = `# What access keys may do, in the form of the configuration's [[access]]. A key that is named in neither may do
# nothing; of a key that is named in both, the configuration counts. To take a right away, take its lines out of
# here and run "tidemill-bridge reload".
`

// GrantAll adds a grant of all to the file of what keys may do, or with id ""
// makes that file without one.
func (p *PKI) GrantAll(id string) error {
	text, err := p.readSecret(grantsFile)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte(aboutGrants), nil
	}
	if err != nil {
		return err
	}
	if id != "" {
		text = fmt.Appendf(text, "\n[[access]]\nkey = %q\nall = true # the first start made it: every operation "+
			"of every service\n",
			id)
	}
	return p.write(grantsFile, text, 0o600)
}

// NewAccessKey returns a key in AWS's shape: AKIA and 16 of A-Z 2-7, and 40
// characters of 30 random bytes.
func NewAccessKey() (id, secret string) {
	var a [10]byte
	var b [30]byte
	rand.Read(a[:])
	rand.Read(b[:])
	return "AKIA" + base32.StdEncoding.EncodeToString(a[:]), base64.StdEncoding.EncodeToString(b[:])
}

// An AccessKey is what a client signs with.
type AccessKey struct {
	Secret  string
	Token   string // session token that requests carry; "" if none
	Profile string // that names it in the file
}

// parseAccessKeys reads the shared-credentials format. Settings it doesn't
// know are left to the SDKs. first is the key of the first start's profile, ""
// for none.
func parseAccessKeys(text []byte) (keys map[string]AccessKey, first string, err error) {
	keys = map[string]AccessKey{}
	var profile, id string
	var key AccessKey
	finish := func() error {
		if (id == "") != (key.Secret == "") {
			return fmt.Errorf("profile %q: want both aws_access_key_id and aws_secret_access_key", profile)
		}
		if id == "" {
			return nil
		}
		key.Profile = profile
		if other, ok := keys[id]; ok && (other.Secret != key.Secret || other.Token != key.Token) {
			return fmt.Errorf("profile %q: key %s is there twice with different secrets", profile, id)
		}
		if keys[id] = key; profile == firstProfile {
			first = id
		}
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
				return nil, "", err
			}
			if !strings.HasSuffix(s, "]") {
				return nil, "", fmt.Errorf("line %d: want [profile]", n)
			}
			profile = strings.TrimSpace(s[1 : len(s)-1])
		default:
			name, value, ok := strings.Cut(s, "=")
			if !ok {
				return nil, "", fmt.Errorf("line %d: want name = value", n)
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
	err = finish()
	return keys, first, err
}

// KeepAccessKeys takes the profiles out of the file of access keys in the folder dir
// whose keys keep refuses, and returns those keys.
func KeepAccessKeys(dir string, keep func(id string, k AccessKey) bool) (gone []string, err error) {
	p := &PKI{dir: dir}
	text, err := p.readSecret(accessKeysFile)
	if err != nil {
		return nil, fmt.Errorf("access keys: %w", err)
	}
	keys, _, err := parseAccessKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", accessKeysFile, err)
	}
	out := map[string]bool{} // profiles
	for id, k := range keys {
		if !keep(id, k) {
			gone, out[k.Profile] = append(gone, id), true
		}
	}
	if gone == nil {
		return nil, nil
	}
	var left []byte
	drop := false
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		if strings.HasPrefix(s, "[") {
			drop = out[strings.TrimSpace(strings.Trim(s, "[]"))]
		}
		if !drop {
			left = append(left, line...)
		}
	}
	if now, _, err := parseAccessKeys(left); err != nil || len(now) != len(keys)-len(gone) {
		return nil, fmt.Errorf("%s: keys %v were revoked; take them out by hand", accessKeysFile, gone)
	}
	return gone, p.write(accessKeysFile, left, 0o600)
}

// AccessKeysFile is where the keys are, for AWS_SHARED_CREDENTIALS_FILE.
func AccessKeysFile(dir string) string { return filepath.Join(dir, accessKeysFile) }

// CAFile is where the authority's certificate is, for AWS_CA_BUNDLE.
func CAFile(dir string) string { return filepath.Join(dir, "ca.pem") }

// GrantsFile is where it says what the keys may do.
func GrantsFile(dir string) string { return filepath.Join(dir, grantsFile) }
