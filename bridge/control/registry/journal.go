package registry

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// maxJournal bounds what a journal has of the entries before, and of those after:
// their names and values, in bytes. Of what comes beyond it the number is known.
const maxJournal = 48 << 10

// A journal is a transaction that notes which entries it changes, and what they
// were before.
type journal struct {
	table.Tx
	entries []*journalEntry // in the order of their first change
	seen    map[string]bool // of entries, by bucket and key
	size    int             // of before
	more    int             // changes of entries that are not among entries, since they are too large or too many
}

// A journalEntry is one that was changed.
type journalEntry struct {
	bucket, key []byte
	name        string // bucket/key, as it is shown
	before      []byte // nil: there was none
}

// shown are the buckets whose entries say what a change of control is, with how
// their keys are shown. The others follow from these, are large, or are nobody's to
// see: PEM texts, indexes, tokens, temporary keys, files, messages. Those of users
// and their keys have a hash and a secret, in members that are called so, and which
// the audit log does not keep.
var shown = map[string]func(key []byte) (name string, ok bool){
	string(bThings):         plainKey,
	string(bTypes):          plainKey,
	string(bBillingGroups):  plainKey,
	string(bGroups):         plainKey,
	string(bTags):           plainKey,
	string(bCertificates):   plainKey,
	string(bCAs):            plainKey,
	string(bCRLs):           plainKey,
	string(bPolicies):       plainKey,
	string(bDocuments):      numberKey,
	string(bCertPolicies):   linkKey,
	string(bGroupPolicies):  linkKey,
	string(bCertThings):     linkKey,
	string(bRules):          plainKey,
	string(bRuleDocuments):  plainKey,
	string(bTemplates):      plainKey,
	string(bTemplateBodies): linkKey,
	string(bAuthorizers):    plainKey,
	string(bRoleAliases):    plainKey,
	string(bUsers):          plainKey,
	string(bAccessKeys):     plainKey,
	string(bUsers):          plainKey, // whose password and secret the audit log leaves out
	string(bAccessKeys):     plainKey,
	string(bMeta):           settingKey,
}

func plainKey(key []byte) (string, bool) { return string(key), true }

func linkKey(key []byte) (string, bool) {
	return string(bytes.ReplaceAll(key, []byte{0}, []byte{'/'})), true
}

func numberKey(key []byte) (string, bool) {
	if len(key) != 8 {
		return "", false
	}
	return fmt.Sprint(binary.BigEndian.Uint64(key)), true
}

// settingKey leaves out what the registry keeps for itself, and the registration
// code.
func settingKey(key []byte) (string, bool) {
	for _, k := range [][]byte{keyEvents, keyIndexing, keyDefaultAuthorizer} {
		if bytes.Equal(k, key) {
			return string(key), true
		}
	}
	return "", false
}

// Table implements table.Tx.
func (j *journal) Table(name []byte) table.Table {
	t := j.Tx.Table(name)
	if of := shown[string(name)]; of != nil {
		return journaled{t, j, name, of}
	}
	return t
}

// journaled is a table whose changes are noted.
type journaled struct {
	table.Table
	journal *journal
	bucket  []byte
	keyName func([]byte) (string, bool)
}

// Put implements table.Table.
func (t journaled) Put(key, value []byte) error {
	t.note(key)
	return t.Table.Put(key, value)
}

// Delete implements table.Table.
func (t journaled) Delete(key []byte) error {
	t.note(key)
	return t.Table.Delete(key)
}

// note remembers an entry as it is before its first change.
func (t journaled) note(key []byte) {
	name, ok := t.keyName(key)
	if !ok {
		return
	}
	j, name := t.journal, string(t.bucket)+"/"+name
	if j.seen[name] {
		return
	}
	before := t.Get(key)
	n := len(name) + len(before)
	if j.size+n > maxJournal {
		j.more++
		return
	}
	if j.seen == nil {
		j.seen = map[string]bool{}
	}
	j.seen[name], j.size = true, j.size+n
	j.entries = append(j.entries, &journalEntry{t.bucket, bytes.Clone(key), name, bytes.Clone(before)})
}

// Journal has the transaction note what it changes from now on, for Changes.
func (t *Tx) Journal() {
	if t.journal == nil {
		t.journal = &journal{Tx: t.tx}
		t.tx = t.journal
	}
}

// Changes are the entries that were changed since Journal, by their names such as
// things/pump-1, before and after: JSON objects of them, nil where none was there.
// An entry that is as it was is in neither. What there is no room for is counted by
// the member "more". first is the name of the first that is shown, "" for none.
func (t *Tx) Changes() (before, after json.RawMessage, first string) {
	j := t.journal
	if j == nil {
		return nil, nil, ""
	}
	was, is, more, size := map[string]any{}, map[string]any{}, j.more, 0
	for _, e := range j.entries {
		now := j.Tx.Table(e.bucket).Get(e.key)
		if (e.before == nil) == (now == nil) && bytes.Equal(e.before, now) {
			continue
		}
		if size += len(e.name) + len(now); size > maxJournal {
			more++
			continue
		}
		if first == "" {
			first = e.name
		}
		if e.before != nil {
			was[e.name] = shownValue(e.before)
		}
		if now != nil {
			is[e.name] = shownValue(now)
		}
	}
	if more > 0 {
		is["more"] = more
	}
	return object(was), object(is), first
}

// shownValue is a value as JSON: a link is true, what is no JSON is text.
func shownValue(v []byte) any {
	switch {
	case len(v) == 0:
		return true
	case json.Valid(v):
		return json.RawMessage(v)
	}
	return strings.ToValidUTF8(string(v), "�")
}

// object is m, nil if it is empty.
func object(m map[string]any) json.RawMessage {
	if len(m) == 0 {
		return nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil // text and valid JSON alone: this is not seen
	}
	return text
}
