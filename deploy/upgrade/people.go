package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/deploy/rig"
)

// A Key is an access key of a user, and what it may do on the stream StreamPut.
type Key struct {
	User   string `json:"user"`
	ID     string `json:"id"`
	Secret string `json:"secret"`
	Reads  bool   `json:"reads"` // it may list shards; else it is refused
}

// people makes users with roles and policies, and keys of which one is narrowed, one
// is inactive and one was taken back.
func (l *leaver) people() error {
	const allows = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kinesis:%s","Resource":"*"}]}`
	lists, puts := filepath.Join(l.dir, "lists.json"), filepath.Join(l.dir, "puts.json")
	defer os.Remove(lists)
	defer os.Remove(puts)
	if err := errors.Join(os.WriteFile(lists, fmt.Appendf(nil, allows, "ListShards"), 0o600),
		os.WriteFile(puts, fmt.Appendf(nil, allows, "PutRecord"), 0o600)); err != nil {
		return err
	}
	for _, args := range [][]string{{"alice", "-role", "viewer"}, {"lister", "-policy", lists}, {"carol", "-role", "admin"},
		{"gone", "-role", "admin"}} {
		if _, err := l.bridge.Command(l.ctx, append([]string{"user", "create"}, args...)...); err != nil {
			return err
		}
	}
	for _, k := range []struct {
		user  string
		reads bool
		end   string // access-key COMMAND that takes it back
		more  []string
	}{
		{"alice", true, "", nil}, {"lister", true, "", nil}, {"alice", false, "", []string{"-policy", puts}},
		{"lister", false, "deactivate", nil}, {"carol", false, "revoke", nil}, {"gone", false, "", nil},
	} {
		if err := l.key(k.user, k.reads, k.end, k.more); err != nil {
			return err
		}
	}
	_, err := l.bridge.Command(l.ctx, "user", "revoke", "gone")
	return err
}

var keyLine = regexp.MustCompile(`(?m)^aws_access_key_id = (.*)\naws_secret_access_key = (.*)$`)

func (l *leaver) key(user string, reads bool, end string, more []string) error {
	text, err := l.bridge.Command(l.ctx, append([]string{"access-key", "create", user}, more...)...)
	if err != nil {
		return err
	}
	found := keyLine.FindSubmatch(text)
	if found == nil {
		return fmt.Errorf("access-key create %s: no key in what it printed", user)
	}
	k := Key{user, string(found[1]), string(found[2]), reads}
	l.m.Keys = append(l.m.Keys, k)
	if end != "" {
		_, err = l.bridge.Command(l.ctx, "access-key", end, k.ID)
	}
	return err
}

// askPeople notes the users, and the lines of the audit log.
func (l *leaver) askPeople() error {
	var err error
	l.m.Users, err = users(l.ctx, l.bridge)
	if err != nil {
		return err
	}
	l.m.Audit, err = auditIDs(l.ctx, l.bridge)
	if err == nil && len(l.m.Audit) < len(l.m.Keys) {
		err = errors.New("the audit log has fewer lines than keys were made")
	}
	return err
}

// users are what `user list -json` says of them, but for when keys were last used.
func users(ctx context.Context, b *rig.Bridge) (list []map[string]any, err error) {
	text, err := b.Command(ctx, "user", "list", "-json")
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	for _, u := range list {
		keys, _ := u["keys"].([]any)
		for _, k := range keys {
			if k, ok := k.(map[string]any); ok {
				delete(k, "last_used")
			}
		}
	}
	return list, err
}

// auditIDs are those of the records of the audit log, in their order.
func auditIDs(ctx context.Context, b *rig.Bridge) (ids []string, err error) {
	text, err := b.Command(ctx, "audit", "-json")
	for line := range bytes.Lines(text) {
		var r struct{ ID string }
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		ids = append(ids, r.ID)
	}
	return ids, err
}

// with is the API asked with a user's key.
func (a *api) with(k Key) *api {
	b := *a
	b.key = sigv4test.Key{ID: k.ID, Secret: k.Secret}
	return &b
}
