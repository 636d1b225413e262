// Package seal encrypts what the bridge keeps that may have passwords of others: the
// documents of delivery streams and the declarations of bridge.d, which lie in the log
// and in the registry. Its Key is a file of the data directory by itself, so that a
// copy of the log or of the registry shows none. FORMAT.md has the bytes.
//
// What an earlier version kept as it was stays in free pages of the registry and in old
// files of the log after it is sealed, until they are written over: who gave away a
// copy of before, or gives one of soon after, changes the passwords.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
)

// A Key seals and opens. Several goroutines may use it. A nil Key leaves all as it is,
// and opens nothing that is sealed.
type Key struct{ aead cipher.AEAD }

// keySize is that of AES-256.
const keySize = 32

// magic begins what is sealed. No text of JSON begins with a zero.
var magic = []byte("\x00seal1")

// ErrSealed says that something was sealed with another key, for something else, or
// was changed since.
var ErrSealed = errors.New("it is sealed with another key, or damaged")

// document is a key's file.
type document struct {
	Key []byte `json:"key"`
	Sum []byte `json:"sum"` // of Key: a damaged key would open nothing, and seal for nobody
}

func sumOf(key []byte) []byte {
	sum := sha256.Sum256(key)
	return sum[:8]
}

// New returns the document of a new key.
func New() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it never fails
	doc, _ := json.Marshal(document{key, sumOf(key)})
	return append(doc, '\n')
}

// ID is what tells the key of a document from others, in hex, and nothing else of it.
// It is "" for one that Parse refuses.
func ID(doc []byte) string {
	if _, err := Parse(doc); err != nil {
		return ""
	}
	var d document
	_ = json.Unmarshal(doc, &d) // as Parse did
	return hex.EncodeToString(d.Sum)
}

// Parse reads a key's document. Its error does not show it.
func Parse(doc []byte) (*Key, error) {
	var d document
	if json.Unmarshal(doc, &d) != nil || len(d.Key) != keySize || !bytes.Equal(d.Sum, sumOf(d.Key)) {
		return nil, errors.New("is damaged: no key, or not the one that was written")
	}
	block, err := aes.NewCipher(d.Key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Key{aead}, nil
}

// Seal encrypts text, which only Open with the same name finds again: name says what
// it is of.
func (k *Key) Seal(text []byte, name string) []byte {
	if k == nil {
		return text
	}
	return k.aead.Seal(bytes.Clone(magic), nil, text, []byte(name))
}

// Open returns the text of what Seal made, or what is not sealed as it is: earlier
// versions kept it so. The error is ErrSealed.
func (k *Key) Open(sealed []byte, name string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, magic)
	if !ok {
		return sealed, nil
	}
	if k == nil {
		return nil, ErrSealed
	}
	text, err := k.aead.Open(nil, nil, rest, []byte(name))
	if err != nil {
		return nil, ErrSealed
	}
	return text, nil
}

// Sealed says whether something is.
func Sealed(b []byte) bool { return bytes.HasPrefix(b, magic) }
