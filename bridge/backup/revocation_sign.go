package backup

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/shadow/format"
)

// envelope is the file: the document, and the HMAC-SHA256 of its bytes.
type envelope struct {
	Revocations string `json:"revocations"` // base64 of the JSON document, so that its bytes are what was signed
	MAC         string `json:"hmac_sha256"`
}

// Sign returns the file; key is of pki.RevocationKey.
func (v *Revocations) Sign(key []byte) ([]byte, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(envelope{base64.StdEncoding.EncodeToString(doc), hex.EncodeToString(sign(key, doc))})
	return append(raw, '\n'), err
}

func sign(key, doc []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(doc)
	return mac.Sum(nil)
}

// A Sealed is a file of revocations that is read, and not yet known to be the bridge's.
type Sealed struct {
	Revocations
	doc, mac []byte
}

// ParseRevocations reads a file. Who it is of is not known before Check.
func ParseRevocations(raw []byte) (*Sealed, error) {
	if len(raw) > MaxRevocations {
		return nil, fmt.Errorf("revocations: %d bytes, want at most %d", len(raw), MaxRevocations)
	}
	var e envelope
	err := json.Unmarshal(raw, &e)
	var s Sealed
	if err == nil {
		s.doc, err = base64.StdEncoding.DecodeString(e.Revocations)
	}
	if err == nil {
		s.mac, err = hex.DecodeString(e.MAC)
	}
	if err == nil {
		err = json.Unmarshal(s.doc, &s.Revocations)
	}
	if err != nil {
		return nil, fmt.Errorf("revocations: this is no such file, or it is damaged: %w", err)
	}
	if err := format.Check(uint64(max(s.Format, 0)), revocationFormat); err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	if s.Format < 1 || len(s.Salt) != saltLen || len(s.Active)%digestLen != 0 || s.Directory == "" {
		return nil, errors.New("revocations: this is no such file, or it is damaged")
	}
	return &s, nil
}

// Check says whether the bridge whose key it is has signed the file.
func (s *Sealed) Check(key []byte) error {
	if !hmac.Equal(s.mac, sign(key, s.doc)) {
		return errors.New("revocations: the file was changed, or another bridge has signed it")
	}
	return nil
}
