package seal

import (
	"bytes"
	"errors"
	"testing"
)

func key(t testing.TB) *Key {
	t.Helper()
	k, err := Parse(New())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSeal(t *testing.T) {
	k, other := key(t), key(t)
	text := []byte(`{"Password":"hidden-pw"}`)
	sealed := k.Seal(text, "a")
	if !Sealed(sealed) || bytes.Contains(sealed, []byte("hidden")) || bytes.Equal(sealed, k.Seal(text, "a")) {
		t.Errorf("%q", sealed)
	}
	if got, err := k.Open(sealed, "a"); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%q, %v", got, err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1]++
	for name, open := range map[string]func() ([]byte, error){
		"another key":  func() ([]byte, error) { return other.Open(sealed, "a") },
		"no key":       func() ([]byte, error) { return (*Key)(nil).Open(sealed, "a") },
		"another name": func() ([]byte, error) { return k.Open(sealed, "b") },
		"changed":      func() ([]byte, error) { return k.Open(changed, "a") },
		"short":        func() ([]byte, error) { return k.Open(sealed[:len(magic)+3], "a") },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := k.Open(text, "a"); err != nil || !bytes.Equal(got, text) {
		t.Errorf("of before: %q, %v", got, err)
	}
	for _, bad := range []string{"", "{}", `{"key":"AAAA"}`, `{"key":"x"}`} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// A key has one identity, which is not the key, and what is no key has none.
func TestID(t *testing.T) {
	a, b := New(), New()
	if again := ID(bytes.Clone(a)); ID(a) != again || again == ID(b) || len(ID(a)) != 16 {
		t.Errorf("%q, %q", ID(a), ID(b))
	}
	if id := ID(a[:len(a)/2]); id != "" {
		t.Errorf("of half a key: %q", id)
	}
}

// Whatever is opened was sealed by the key, or is not sealed.
func FuzzOpen(f *testing.F) {
	k := key(f)
	f.Add([]byte("{}"))
	f.Add(bytes.Clone(magic))
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := k.Open(raw, "a")
		if Sealed(raw) != (err != nil) || err == nil && !bytes.Equal(got, raw) {
			t.Fatalf("%q: %q, %v", raw, got, err)
		}
		if back, err := k.Open(k.Seal(raw, "a"), "a"); err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("%q: %q, %v", raw, back, err)
		}
	})
}
