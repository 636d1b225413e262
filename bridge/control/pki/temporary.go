package pki

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// temporarySecretFile has 32 random bytes, of which temporary access keys are
// derived.
const temporarySecretFile = "temporary-secret"

func (p *PKI) openTemporarySecret() error {
	secret, err := p.readSecret(temporarySecretFile)
	if errors.Is(err, fs.ErrNotExist) {
		secret = make([]byte, 32)
		rand.Read(secret) // never fails
		err = p.write(temporarySecretFile, secret, 0o600)
	}
	if err == nil && len(secret) < 32 {
		err = errors.New(temporarySecretFile +
			": is too short; without the file a new one is made, and temporary keys end")
	}
	p.temporary = secret
	return err
}

func (p *PKI) derive(parts ...string) []byte {
	mac := hmac.New(sha256.New, p.temporary)
	mac.Write([]byte(strings.Join(parts, "\x00"))) // no part has a zero byte
	return mac.Sum(nil)
}

// TemporarySecretFile is, below the folder of a PKI, of which RevocationKey is made.
const TemporarySecretFile = temporarySecretFile

// RevocationKey is the key by which a bridge knows the lists of what it revoked. It
// follows from the secret of temporary keys.
func RevocationKey(secret []byte) ([]byte, error) {
	if len(secret) < minTemporarySecret {
		return nil, fmt.Errorf("pki: %s: %w: it is too short", temporarySecretFile, ErrDamaged)
	}
	return (&PKI{temporary: secret}).derive("revocations"), nil
}

// RevocationKey is that of this PKI.
func (p *PKI) RevocationKey() []byte { return p.derive("revocations") }

// temporaryPrefix is that of AWS's temporary access keys.
const temporaryPrefix = "ASIA"

// TemporaryID is the id of the temporary access key that is of what parts say,
// always the same.
func (p *PKI) TemporaryID(parts ...string) string {
	return temporaryPrefix + base32.StdEncoding.EncodeToString(p.derive(append([]string{"id"}, parts...)...)[:10])
}

// IsTemporary says whether a key's id has the form of TemporaryID.
func IsTemporary(id string) bool { return strings.HasPrefix(id, temporaryPrefix) }

// Temporary is the secret and session token of a temporary access key. Whether
// the key was given to anybody, and still holds, is not known here.
func (p *PKI) Temporary(id string) AccessKey {
	return AccessKey{Secret: base64.StdEncoding.EncodeToString(p.derive("secret", id)[:30]),
		Token: base64.StdEncoding.EncodeToString(p.derive("token", id))}
}
