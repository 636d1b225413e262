package audit

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/secretname"
	"github.com/tidemill/tidemill/shadow"
)

// notKept stands where a secret was.
const notKept = "(not kept)"

// hidden stands where something is that is told to those alone who may change it.
const hidden = "(hidden)"

// A cleaner takes secrets out of documents.
type cleaner struct {
	mark string // in their place
	// most takes also what may be a secret by any name: values of headers and
	// attributes that are sent with each request, and all of a URL but its host.
	most bool
}

// withoutSecrets is a JSON document with notKept for the values of members that are
// called like secrets, for texts with a private key, and for passwords in URLs. A
// document without any is returned as it is.
func withoutSecrets(doc json.RawMessage) json.RawMessage { return cleaner{mark: notKept}.document(doc) }

// Kept is a JSON document as records have it: with "(not kept)" for secrets.
func Kept(doc json.RawMessage) json.RawMessage { return withoutSecrets(doc) }

// Hidden is a JSON document as it is shown to who may see it but not change it, such
// as the action of a rule: with "(hidden)" for what withoutSecrets takes, for values
// of headers and for all of a URL but its host. It is null if doc is no JSON.
func Hidden(doc json.RawMessage) json.RawMessage {
	if out := (cleaner{hidden, true}).document(doc); out != nil {
		return out
	}
	return json.RawMessage("null")
}

// HiddenRecord is a record as it is kept, with its documents as Hidden shows them: for
// who may read the audit log but not change what it is about.
func HiddenRecord(text []byte) []byte {
	var r Record
	if json.Unmarshal(text, &r) != nil {
		return Hidden(text)
	}
	for _, doc := range []*json.RawMessage{&r.Before, &r.After} {
		if *doc != nil {
			*doc = Hidden(*doc)
		}
	}
	out, err := json.Marshal(r)
	if err != nil {
		return Hidden(text)
	}
	return out
}

func (c cleaner) document(doc json.RawMessage) json.RawMessage {
	v, err := shadow.Parse(doc)
	if err != nil {
		return nil
	}
	out, changed := c.clean(v)
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
func (c cleaner) clean(v any) (out any, changed bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, c.members(v)
	case []any:
		for i := range v {
			x, more := c.clean(v[i])
			v[i], changed = x, changed || more
		}
		return v, changed
	case string:
		return c.text(v)
	}
	return v, false
}

// nameMembers and valueMembers are those of an object that is a name and a value,
// such as the header of an HTTP action, and sentNames those of lists of them.
var (
	nameMembers  = []string{"key", "name", "Key", "Name", "AttributeName"}
	valueMembers = []string{"value", "Value", "AttributeValue"}
	sentNames    = []string{"headers", "httpheaders", "userproperties"}
)

// commonAttributes are sent with each request of a delivery stream.
const commonAttributes = "commonattributes"

// copyOptions are those of Redshift's COPY, a text that may have credentials in it.
const copyOptions = "copyoptions"

// copySecrets are in the names of options of COPY that are credentials, besides
// the words of secretname (Redshift's guide for developers, authorization parameters).
var copySecrets = []string{"accesskey", "symmetrickey"}

// members takes the secrets out of an object. One of a name and a value is judged by
// its name.
func (c cleaner) members(m map[string]any) (changed bool) {
	for _, of := range nameMembers {
		name, ok := m[of].(string)
		if ok && (secretname.Is(name) || c.most && sentName(name)) {
			changed = c.values(m) || changed
		}
	}
	for name, v := range m {
		if c.secretMember(name, v) && v != nil && v != c.mark {
			m[name], changed = c.mark, true
			continue
		}
		if list, ok := v.([]any); ok && c.pairs(secretname.Plain(name)) {
			for _, each := range list {
				if pair, ok := each.(map[string]any); ok {
					changed = c.values(pair) || changed
				}
			}
		}
		x, more := c.clean(v)
		m[name], changed = x, changed || more
	}
	return changed
}

// pairs says whether the list of pairs with that name is taken the values of: those of
// an HTTP endpoint's attributes are what lets in there.
func (c cleaner) pairs(plain string) bool {
	return plain == commonAttributes || c.most && slices.Contains(sentNames, plain)
}

// sentName says whether a pair of that name is sent with each request: a header, or
// one of the properties that a republished message has.
func sentName(name string) bool {
	plain := secretname.Plain(name)
	return strings.Contains(plain, "header") || strings.HasPrefix(plain, "userproperties") || plain == "correlationdata"
}

// secretMember says whether all of a member is a secret.
func (c cleaner) secretMember(name string, v any) bool {
	if text, ok := v.(string); ok && secretname.Plain(name) == copyOptions {
		return secretname.HasWord(secretname.Plain(text)) || hasWord(secretname.Plain(text), copySecrets)
	}
	return secretname.Is(name) || c.most && secretname.Plain(name) == "correlationdata"
}

// values takes the values out of an object of a name and a value.
func (c cleaner) values(m map[string]any) (changed bool) {
	for _, at := range valueMembers {
		if _, ok := m[at]; ok {
			m[at], changed = c.mark, true
		}
	}
	return changed
}

func hasWord(plain string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(plain, w) })
}

// text also looks into texts that are JSON, such as the body of a template.
func (c cleaner) text(s string) (any, bool) {
	if strings.Contains(s, "PRIVATE KEY-----") {
		return c.mark, true
	}
	if strings.HasPrefix(strings.TrimSpace(s), "{") && json.Valid([]byte(s)) {
		if text := c.document(json.RawMessage(s)); string(text) != s {
			return string(text), true
		}
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok && c.most && isHTTP(strings.TrimSpace(scheme)) {
		return c.host(strings.TrimSpace(s))
	}
	if strings.Contains(s, "://") && strings.Contains(s, "@") {
		u, err := url.Parse(s)
		if err != nil {
			return c.mark, true
		}
		if _, has := u.User.Password(); has {
			u.User = url.User(u.User.Username())
			return u.String(), true
		}
	}
	return s, false
}

// isHTTP says whether URLs of a scheme are of HTTP: upper and lower case are the same
// (RFC 3986 section 3.1).
func isHTTP(scheme string) bool {
	return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// host is a URL of which only the host is shown: what comes behind may be what lets in.
func (c cleaner) host(s string) (any, bool) {
	u, err := url.Parse(s)
	if err != nil {
		return c.mark, true
	}
	bare := u.Scheme + "://" + u.Host
	if strings.EqualFold(s, bare) || strings.EqualFold(s, bare+"/") {
		return s, false
	}
	return bare + "/" + c.mark, true
}
