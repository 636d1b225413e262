package firehose

import (
	"encoding/json"
	"errors"
	"log/slog"
)

// A Secret is a password, token or access key. It is told to nobody who does not
// call Reveal: not when it is printed, logged or written as JSON.
type Secret struct{ text string }

// NewSecret returns text as a secret.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text itself, for the request that needs it.
func (s Secret) Reveal() string { return s.text }

const hidden = "(secret)"

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return hidden
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalJSON implements json.Unmarshaler. Its error does not show what was
// given.
func (s *Secret) UnmarshalJSON(raw []byte) error {
	if json.Unmarshal(raw, &s.text) != nil {
		return errors.New("want a text")
	}
	return nil
}
