package audit

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
)

// notKept stands where a secret was.
const notKept = "(not kept)"

// secretWords are in the names of members whose values are secrets. Names are
// compared in lower case without what is no letter.
var secretWords = []string{"password", "passwd", "passphrase", "secret", "privatekey", "token", "credential",
	"authorization", "apikey", "cookie", "signature", "sasljaas", "truststore", "keystore"}

// publicNames have one of those words and are public.
var publicNames = []string{"tokenkeyname", "tokenkey", "tokensigningpublickeys", "credentialdurationseconds"}

// withoutSecrets is a JSON document with notKept for the values of members that are
// called like secrets, for texts with a private key, and for passwords in URLs. A
// document without any is returned as it is.
func withoutSecrets(doc json.RawMessage) json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber() // as they are written
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	out, changed := clean(v)
	if !changed {
		return doc
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return text
}

// clean returns v without secrets, and whether there was one.
func clean(v any) (out any, changed bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, cleanMembers(v)
	case []any:
		for i := range v {
			x, c := clean(v[i])
			v[i], changed = x, changed || c
		}
		return v, changed
	case string:
		return cleanText(v)
	}
	return v, false
}

// cleanMembers takes the secrets out of an object. One of a name and a value, such
// as the header of an HTTP action, is judged by what is called key or name.
func cleanMembers(m map[string]any) (changed bool) {
	for _, of := range []string{"key", "name", "Key", "Name"} {
		name, ok := m[of].(string)
		if !ok || !secretName(name) {
			continue
		}
		for _, at := range []string{"value", "Value"} {
			if _, ok := m[at]; ok {
				m[at], changed = notKept, true
			}
		}
	}
	for name, v := range m {
		if secretName(name) && v != nil && v != notKept {
			m[name], changed = notKept, true
			continue
		}
		x, c := clean(v)
		m[name], changed = x, changed || c
	}
	return changed
}

func secretName(name string) bool {
	plain := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, name)
	for _, p := range publicNames {
		if plain == p {
			return false
		}
	}
	for _, w := range secretWords {
		if strings.Contains(plain, w) {
			return true
		}
	}
	return false
}

// cleanText also looks into texts that are JSON, such as the body of a template.
func cleanText(s string) (any, bool) {
	if strings.Contains(s, "PRIVATE KEY-----") {
		return notKept, true
	}
	if strings.HasPrefix(strings.TrimSpace(s), "{") && json.Valid([]byte(s)) {
		if text := withoutSecrets(json.RawMessage(s)); string(text) != s {
			return string(text), true
		}
	}
	if strings.Contains(s, "://") && strings.Contains(s, "@") {
		u, err := url.Parse(s)
		if err != nil {
			return notKept, true
		}
		if _, has := u.User.Password(); has {
			u.User = url.User(u.User.Username())
			return u.String(), true
		}
	}
	return s, false
}
