// Package secretname knows members of documents whose values are secrets by how they
// are called: passwords, tokens, keys. It is the one list of those for whatever shows,
// logs or keeps a document.
package secretname

import (
	"slices"
	"strings"
)

// words are in the names of members whose values are secrets. Names are compared as
// Plain has them.
var words = []string{"password", "passwd", "passphrase", "secret", "privatekey", "token", "credential",
	"authorization", "apikey", "cookie", "signature", "sasljaas", "truststore", "keystore"}

// whole are secrets without having such a word: accesskey is that of an HTTP
// endpoint, beside which accesskeyid is public.
var whole = []string{"accesskey"}

// public have one of those words and are no secrets.
var public = []string{"tokenkeyname", "tokenkey", "tokensigningpublickeys", "credentialdurationseconds",
	"secretsmanagerconfiguration"}

// Is says whether the value of a member with that name is a secret.
func Is(name string) bool {
	plain := Plain(name)
	return !slices.Contains(public, plain) && (slices.Contains(whole, plain) || HasWord(plain))
}

// HasWord says whether a name, or a text, as Plain has it has a word of secrets in it.
func HasWord(plain string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(plain, w) })
}

// Plain is a name in lower case without what is no letter.
func Plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, name)
}
