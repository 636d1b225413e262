package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
)

func TestTemplates(t *testing.T) {
	r := open(t)
	body := []byte(`{"a":1}`)
	for _, c := range []struct {
		name string
		want error
		do   func(*Tx) error
	}{
		{"create", nil, func(tx *Tx) error {
			tp, err := tx.CreateTemplate(Template{Name: "line", Enabled: true, Description: "d",
				Hook: &Hook{Target: "arn"}}, body)
			if tp.Type != FleetProvisioning || tp.Default != 1 {
				t.Errorf("%+v", tp)
			}
			return errors.Join(err, tx.Tag("provisioningtemplate/line", map[string]string{"k": "v"}))
		}},
		{"twice", ErrExists, func(tx *Tx) error {
			_, err := tx.CreateTemplate(Template{Name: "line"}, body)
			return err
		}},
		{"name", ErrInvalid, func(tx *Tx) error {
			_, err := tx.CreateTemplate(Template{Name: "a b"}, body)
			return err
		}},
		{"long name", ErrInvalid, func(tx *Tx) error {
			_, err := tx.CreateTemplate(Template{Name: strings.Repeat("a", 37)}, body)
			return err
		}},
		{"type", ErrInvalid, func(tx *Tx) error {
			_, err := tx.CreateTemplate(Template{Name: "x", Type: "X"}, body)
			return err
		}},
		{"JITP with hook", ErrInvalid, func(tx *Tx) error {
			_, err := tx.CreateTemplate(Template{Name: "x", Type: JITP, Hook: &Hook{}}, body)
			return err
		}},
		{"body", ErrInvalid, func(tx *Tx) error {
			_, err := tx.CreateTemplate(Template{Name: "x"}, make([]byte, MaxTemplateBody+1))
			return err
		}},
		{"versions", ErrLimit, func(tx *Tx) error {
			for i := range MaxTemplateVersions - 1 {
				if n, err := tx.CreateTemplateVersion("line", fmt.Appendf(nil, "%d", i+2), i == 1); err != nil ||
					n != i+2 {
					return fmt.Errorf("version %d: %w", n, err)
				}
			}
			_, err := tx.CreateTemplateVersion("line", body, false)
			return err
		}},
		{"versions again", nil, func(tx *Tx) error {
			for i := range MaxTemplateVersions - 1 {
				if _, err := tx.CreateTemplateVersion("line", fmt.Appendf(nil, "%d", i+2), i == 1); err != nil {
					return err
				}
			}
			return nil
		}},
		{"default", nil, func(tx *Tx) error {
			got, err := tx.TemplateBody("line", 0)
			if string(got) != "3" {
				t.Errorf("body %s", got)
			}
			return err
		}},
		{"delete the default", ErrInUse, func(tx *Tx) error { return tx.DeleteTemplateVersion("line", 3) }},
		{"delete none", ErrNotFound, func(tx *Tx) error { return tx.DeleteTemplateVersion("line", 9) }},
		{"delete with versions", ErrInUse, func(tx *Tx) error { return tx.DeleteTemplate("line") }},
		{"no such default", ErrNotFound, func(tx *Tx) error {
			return tx.UpdateTemplate("line", func(tp *Template) error { tp.Default = 9; return nil })
		}},
		{"update", nil, func(tx *Tx) error {
			return tx.UpdateTemplate("line", func(tp *Template) error {
				tp.Default, tp.Enabled, tp.Hook, tp.Name, tp.Versions = 1, false, nil, "other", nil
				return nil
			})
		}},
		{"delete versions", nil, func(tx *Tx) error {
			tp, err := tx.Template("line")
			if tp.Enabled || tp.Hook != nil || len(tp.Versions) != MaxTemplateVersions {
				t.Errorf("%+v", tp)
			}
			errs := []error{err}
			for n := 2; n <= MaxTemplateVersions; n++ {
				errs = append(errs, tx.DeleteTemplateVersion("line", n))
			}
			return errors.Join(errs...)
		}},
		{"a number is not given twice", nil, func(tx *Tx) error {
			n, err := tx.CreateTemplateVersion("line", body, false)
			if n != MaxTemplateVersions+1 {
				t.Errorf("version %d", n)
			}
			return errors.Join(err, tx.DeleteTemplateVersion("line", n))
		}},
		{"delete", nil, func(tx *Tx) error { return tx.DeleteTemplate("line") }},
		{"gone", ErrNotFound, func(tx *Tx) error { _, err := tx.TemplateBody("line", 0); return err }},
		{"tags are gone", nil, func(tx *Tx) error {
			if _, err := tx.CreateTemplate(Template{Name: "line"}, body); err != nil {
				return err
			}
			tags, err := tx.Tags("provisioningtemplate/line")
			if len(tags) != 0 {
				t.Errorf("%v", tags)
			}
			return err
		}},
	} {
		try(t, r, c.name, c.want, c.do)
	}
}

// Tokens end in their time, with the certificates that nobody took, over a
// reopening too, and cannot be more than so many.
func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	r, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	clock := func() time.Time { return now }
	r.now = clock
	hash := func(n int) string { return fmt.Sprintf("%064x", n) }
	ids := make([]string, 6)
	update(t, r, func(tx *Tx) error {
		errs := []error{tx.CreatePolicy(ClaimPolicy+"line", allow("iot:Connect", "client/*")),
			tx.CreatePolicy("p", allow("iot:Connect", "client/*")), tx.CreateThing(Thing{Name: "a"})}
		for i := range ids {
			c, err := tx.RegisterPending(testPEM(t, int64(i)))
			ids[i] = c.ID
			errs = append(errs, err)
		}
		for i, id := range ids[:5] {
			_, err := tx.AddToken(hash(i), Token{Certificate: id})
			errs = append(errs, err)
		}
		_, err := tx.AddToken(hash(5), Token{Certificate: ids[5], Claim: true})
		errs = append(errs, err, tx.SetCertificateStatus(ids[5], Active), tx.AttachPolicy(ClaimPolicy+"line", ids[5]))
		// 0 is forgotten by its device, 1 is provisioned, 2 was activated by
		// hand, 3 has a policy and 4 a thing.
		errs = append(errs, tx.SetCertificateStatus(ids[1], Active),
			tx.EndToken(hash(1), "asked", json.RawMessage(`{"x":1}`)),
			tx.SetCertificateStatus(ids[2], Inactive), tx.AttachPolicy("p", ids[3]), tx.AttachThing("a", ids[4]))
		return errors.Join(errs...)
	})
	try(t, r, "end again", ErrConflict, func(tx *Tx) error { return tx.EndToken(hash(1), "other", nil) })
	try(t, r, "unknown", ErrNotFound, func(tx *Tx) error { return tx.EndToken(hash(9), "other", nil) })
	left := func() (tokens, certificates []int, policy bool) {
		t.Helper()
		if err := errors.Join(r.Close()); err != nil {
			t.Fatal(err)
		}
		if r, err = openAs(path, bolt.Options{NoSync: true}); err != nil {
			t.Fatal(err)
		}
		r.now = clock
		update(t, r, func(tx *Tx) error {
			_, err := tx.SweepTokens(100)
			return err
		})
		if err := r.View(func(tx *Tx) error {
			for i, id := range ids {
				if _, err := tx.Token(hash(i)); err == nil {
					tokens = append(tokens, i)
				}
				if _, err := tx.Certificate(id); err == nil {
					certificates = append(certificates, i)
				}
			}
			_, err := tx.Policy(ClaimPolicy + "line")
			policy = err == nil
			if due, _ := tx.TokensDue(); due {
				t.Error("something is due after the sweep")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return tokens, certificates, policy
	}
	for _, c := range []struct {
		after                time.Duration
		tokens, certificates []int
		policy               bool
	}{
		{ClaimLife, []int{0, 1, 2, 3, 4, 5}, []int{0, 1, 2, 3, 4, 5}, true},
		{ClaimLife + 1, []int{0, 1, 2, 3, 4}, []int{0, 1, 2, 3, 4}, false},
		{TokenLife, []int{0, 1, 2, 3, 4}, []int{0, 1, 2, 3, 4}, false},
		{TokenLife + 1, []int{1}, []int{1, 2, 3, 4}, false},
		{OutcomeLife, []int{1}, []int{1, 2, 3, 4}, false},
		{OutcomeLife + 1, nil, []int{1, 2, 3, 4}, false},
	} {
		now = now.Add(c.after)
		tokens, certificates, policy := left()
		if !slices.Equal(tokens, c.tokens) || !slices.Equal(certificates, c.certificates) || policy != c.policy {
			t.Errorf("after %v: tokens %v, certificates %v, policy %v; want %+v", c.after, tokens, certificates, policy,
				c)
		}
		now = now.Add(-c.after)
	}
	if err := r.View(func(tx *Tx) error {
		b := tx.tx.Table(bTokens)
		if k, v := b.Cursor().First(); k != nil {
			t.Errorf("left: %q %q", k, v)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	token := func(n int, by string) func(tx *Tx) error {
		return func(tx *Tx) error { _, err := tx.AddToken(hash(n), Token{Certificate: "x", By: by}); return err }
	}
	update(t, r, func(tx *Tx) error { _, err := tx.countTokens("one", maxTokens-1); return err })
	try(t, r, "the last", nil, token(1, "one"))
	try(t, r, "too many", ErrLimit, token(2, "one"))
	try(t, r, "by another claim", nil, token(2, "two"))
	try(t, r, "one is used", nil, func(tx *Tx) error { return tx.EndToken(hash(1), "a", json.RawMessage(`{}`)) })
	try(t, r, "another", nil, token(3, "one"))
	try(t, r, "too many again", ErrLimit, token(4, "one"))
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// What has expired by the wall clock, of a clock that jumped, is no longer good
// but stays until it has expired by the time that is trusted.
func TestExpiryKeeps(t *testing.T) {
	r := open(t)
	now := time.Now()
	r.now = func() time.Time { return now.Add(72 * time.Hour) }
	trusted := now
	r.expiry = func() time.Time { return trusted }
	hash := strings.Repeat("ab", 32)
	var id string
	update(t, r, func(tx *Tx) error {
		r.now = func() time.Time { return now }
		defer func() { r.now = func() time.Time { return now.Add(72 * time.Hour) } }()
		c, err := tx.RegisterCertificate(testPEM(t, 1), Active)
		if id = c.ID; err != nil {
			return err
		}
		_, err = tx.AddToken(hash, Token{Certificate: id})
		return errors.Join(err, tx.AddTemporaryKey(TemporaryKey{ID: "ASIAOLD", Certificate: id,
			Expires: now.Add(time.Hour)}))
	})
	look := func() (tokens, keys int) {
		t.Helper()
		update(t, r, func(tx *Tx) error {
			n, err := tx.SweepTokens(100)
			tokens = n
			return errors.Join(err, tx.AddTemporaryKey(TemporaryKey{ID: "ASIANEW", Certificate: id,
				Expires: now.Add(1000 * time.Hour)}))
		})
		if err := r.View(func(tx *Tx) error {
			if tx.tx.Table(bKeys).Get([]byte("ASIAOLD")) != nil {
				keys++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return tokens, keys
	}
	try(t, r, "token", ErrNotFound, func(tx *Tx) error { _, err := tx.Token(hash); return err })
	try(t, r, "key", ErrNotFound, func(tx *Tx) error { _, err := tx.TemporaryKey("ASIAOLD"); return err })
	if swept, keys := look(); swept != 0 || keys != 1 {
		t.Errorf("%d tokens swept, %d keys kept; want 0, 1", swept, keys)
	}
	trusted = now.Add(72 * time.Hour)
	if swept, keys := look(); swept != 1 || keys != 0 {
		t.Errorf("%d tokens swept, %d keys kept; want 1, 0", swept, keys)
	}
}
