package registry

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A model is the registry as plain sets of pairs.
type model struct {
	things, policies, groups map[string]bool
	certs                    map[string]Status
	certPolicies             map[[2]string]bool // certificate, policy
	certThings               map[[2]string]bool // certificate, thing
	groupThings              map[[2]string]bool // group, thing
	groupPolicies            map[[2]string]bool // group, policy
	rules                    map[string]Rule    // without Created
}

func pairs(m map[[2]string]bool, first string) []string {
	var out []string
	for k := range m {
		if k[0] == first {
			out = append(out, k[1])
		}
	}
	slices.Sort(out)
	return out
}

func second(m map[[2]string]bool, to string) []string {
	var out []string
	for k := range m {
		if k[1] == to {
			out = append(out, k[0])
		}
	}
	slices.Sort(out)
	return out
}

// TestModel compares random operations with the model: the same errors, the
// same links in both directions, the same identities.
func TestModel(t *testing.T) {
	var pems [3][]byte
	var ids [3]string
	scratch, ca := open(t), newAuthority(t, "Fleet", nil)
	for i := range pems {
		pems[i] = encode("CERTIFICATE", ca.leaf(int64(i+2), fmt.Sprint("dev-", i)).Raw)
		update(t, scratch, func(tx *Tx) error {
			c, err := tx.RegisterCertificate(pems[i], Active)
			ids[i] = c.ID
			return err
		})
	}
	doc := allow("iot:Publish", "topic/a")
	rapid.Check(t, func(rt *rapid.T) {
		r := open(t)
		defer r.Close()
		m := model{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]Status{},
			map[[2]string]bool{}, map[[2]string]bool{}, map[[2]string]bool{}, map[[2]string]bool{}, map[string]Rule{}}
		name := func(kind string) string {
			return kind + fmt.Sprint(rapid.IntRange(0, 2).Draw(rt, kind))
		}
		ca.register(r, NewCA{})
		crlNumber, onList := int64(0), map[string]bool{}
		old := kept{}
		// do runs one operation and wants its error, nil or a sentinel.
		do := func(want error, f func(tx *Tx) error) bool {
			rt.Helper()
			err := r.Update(f)
			if !errors.Is(err, want) || want == nil && err != nil {
				rt.Fatalf("got %v, want %v", err, want)
			}
			return err == nil
		}
		when := func(cond bool, err error) error {
			if cond {
				return err
			}
			return nil
		}
		link := func(set map[[2]string]bool, a, b string, there bool, limit int, attach func(*Tx) error) {
			want := when(!there, ErrNotFound)
			if want == nil && !set[[2]string{a, b}] {
				want = when(len(pairs(set, a)) >= limit, ErrLimit)
			}
			if do(want, attach) {
				set[[2]string{a, b}] = true
			}
		}
		unlink := func(set map[[2]string]bool, a, b string, detach func(*Tx) error) {
			if do(when(!set[[2]string{a, b}], ErrNotFound), detach) {
				delete(set, [2]string{a, b})
			}
		}
		drop := func(set map[[2]string]bool, i int, name string) {
			maps.DeleteFunc(set, func(k [2]string, _ bool) bool { return k[i] == name })
		}
		rt.Repeat(map[string]func(*rapid.T){
			"thing": func(*rapid.T) {
				n := name("t")
				do(nil, func(tx *Tx) error { return tx.CreateThing(Thing{Name: n}) })
				m.things[n] = true
			},
			"deleteThing": func(*rapid.T) {
				n := name("t")
				want := when(!m.things[n], ErrNotFound)
				if want == nil {
					want = when(len(second(m.certThings, n)) > 0, ErrInUse)
				}
				if do(want, func(tx *Tx) error { return tx.DeleteThing(n, 0) }) {
					delete(m.things, n)
					drop(m.groupThings, 1, n)
				}
			},
			"certificate": func(*rapid.T) {
				i := rapid.IntRange(0, 2).Draw(rt, "c")
				want := when(m.certs[ids[i]] != "", ErrExists)
				if want == nil {
					want = when(onList[ids[i]], ErrConflict)
				}
				if do(want, func(tx *Tx) error { _, err := tx.RegisterCertificate(pems[i], Active); return err }) {
					m.certs[ids[i]] = Active
				}
			},
			"status": func(*rapid.T) {
				id := rapid.SampledFrom(ids[:]).Draw(rt, "c")
				s := rapid.SampledFrom([]Status{Active, Inactive, Revoked}).Draw(rt, "s")
				old := m.certs[id]
				want := when(old == "", ErrNotFound)
				if want == nil {
					want = when(old == Revoked && s != Revoked || old == PendingTransfer, ErrConflict)
				}
				if do(want, func(tx *Tx) error { return tx.SetCertificateStatus(id, s) }) {
					m.certs[id] = s
				}
			},
			"transfer": func(*rapid.T) {
				id := rapid.SampledFrom(ids[:]).Draw(rt, "c")
				want := when(m.certs[id] == "", ErrNotFound)
				if want == nil {
					want = when(m.certs[id] != Inactive || len(pairs(m.certPolicies, id))+
						len(pairs(m.certThings, id)) > 0, ErrConflict)
				}
				if do(want, func(tx *Tx) error { return tx.transferCertificate(id) }) {
					m.certs[id] = PendingTransfer
				}
			},
			"endTransfer": func(*rapid.T) {
				id := rapid.SampledFrom(ids[:]).Draw(rt, "c")
				to := rapid.SampledFrom([]Status{Active, Inactive}).Draw(rt, "s")
				want := when(m.certs[id] == "", ErrNotFound)
				if want == nil {
					want = when(m.certs[id] != PendingTransfer, ErrConflict)
				}
				if do(want, func(tx *Tx) error { return tx.endTransfer(id, to) }) {
					m.certs[id] = to
				}
			},
			"revocationList": func(*rapid.T) {
				number := crlNumber + rapid.Int64Range(-1, 2).Draw(rt, "number")
				var serials []int64
				listed := map[string]bool{}
				for i, id := range ids {
					if rapid.Bool().Draw(rt, id) {
						serials, listed[id] = append(serials, int64(i+2)), true
					}
				}
				// Lists of one number differ in their signatures.
				want := when(crlNumber > 0 && number <= crlNumber, ErrConflict)
				if number < 1 {
					return
				}
				if do(want, func(tx *Tx) error {
					_, err := tx.ImportCRL(ca.crl(number, nil, serials...))
					return err
				}) {
					crlNumber, onList = number, listed
					for id := range listed {
						if m.certs[id] != "" {
							m.certs[id] = Revoked
						}
					}
				}
			},
			"deleteCertificate": func(*rapid.T) {
				id, force := rapid.SampledFrom(ids[:]).Draw(rt, "c"), rapid.Bool().Draw(rt, "force")
				used := len(pairs(m.certPolicies, id))+len(pairs(m.certThings, id)) > 0
				want := when(m.certs[id] == "", ErrNotFound)
				if want == nil {
					want = when(m.certs[id] == Active || used && !force, ErrConflict)
				}
				if do(want, func(tx *Tx) error { return tx.DeleteCertificate(id, force) }) {
					delete(m.certs, id)
					drop(m.certPolicies, 0, id)
					drop(m.certThings, 0, id)
				}
			},
			"policy": func(*rapid.T) {
				n := name("p")
				if do(when(m.policies[n], ErrExists), func(tx *Tx) error { return tx.CreatePolicy(n, doc) }) {
					m.policies[n] = true
				}
			},
			"deletePolicy": func(*rapid.T) {
				n := name("p")
				want := when(!m.policies[n], ErrNotFound)
				if want == nil {
					want = when(len(second(m.certPolicies, n))+len(second(m.groupPolicies, n)) > 0, ErrInUse)
				}
				if do(want, func(tx *Tx) error { return tx.DeletePolicy(n) }) {
					delete(m.policies, n)
				}
			},
			"group": func(*rapid.T) {
				n := name("g")
				do(nil, func(tx *Tx) error { return tx.CreateGroup(Group{Name: n}) })
				m.groups[n] = true
			},
			"deleteGroup": func(*rapid.T) {
				n := name("g")
				if do(when(!m.groups[n], ErrNotFound), func(tx *Tx) error { return tx.DeleteGroup(n, 0) }) {
					delete(m.groups, n)
					drop(m.groupThings, 0, n)
					drop(m.groupPolicies, 0, n)
				}
			},
			"attachPolicy": func(*rapid.T) {
				id, p := rapid.SampledFrom(ids[:]).Draw(rt, "c"), name("p")
				link(m.certPolicies, id, p, m.certs[id] != "" && m.policies[p], MaxCertificatePolicies,
					func(tx *Tx) error { return tx.AttachPolicy(p, id) })
			},
			"detachPolicy": func(*rapid.T) {
				id, p := rapid.SampledFrom(ids[:]).Draw(rt, "c"), name("p")
				unlink(m.certPolicies, id, p, func(tx *Tx) error { return tx.DetachPolicy(p, id) })
			},
			"attachThing": func(*rapid.T) {
				id, n := rapid.SampledFrom(ids[:]).Draw(rt, "c"), name("t")
				link(m.certThings, id, n, m.certs[id] != "" && m.things[n], 100, func(tx *Tx) error {
					return tx.AttachThing(n, id)
				})
			},
			"detachThing": func(*rapid.T) {
				id, n := rapid.SampledFrom(ids[:]).Draw(rt, "c"), name("t")
				unlink(m.certThings, id, n, func(tx *Tx) error { return tx.DetachThing(n, id) })
			},
			"join": func(*rapid.T) {
				g, n := name("g"), name("t")
				link(m.groupThings, g, n, m.groups[g] && m.things[n], 100, func(tx *Tx) error {
					return tx.AddToGroup(n, g)
				})
			},
			"leave": func(*rapid.T) {
				g, n := name("g"), name("t")
				unlink(m.groupThings, g, n, func(tx *Tx) error { return tx.RemoveFromGroup(n, g) })
			},
			"groupPolicy": func(*rapid.T) {
				g, p := name("g"), name("p")
				link(m.groupPolicies, g, p, m.groups[g] && m.policies[p], MaxGroupPolicies, func(tx *Tx) error {
					return tx.AttachGroupPolicy(p, g)
				})
			},
			"rule": func(*rapid.T) {
				n := rapid.SampledFrom([]string{"r0", "r1", "r2", "no-name"}).Draw(rt, "r")
				disabled, doc := rapid.Bool().Draw(rt, "disabled"),
					rapid.SampledFrom([]string{"", "{}", " { } "}).Draw(rt, "doc")
				want := when(n == "no-name" || doc == "", ErrInvalid)
				replace := rapid.Bool().Draw(rt, "replace")
				if _, there := m.rules[n]; want == nil && there != replace {
					want = ErrExists
					if replace {
						want = ErrNotFound
					}
				}
				if do(want, func(tx *Tx) (err error) {
					if replace {
						_, err = tx.ReplaceRule(Rule{Name: n, Document: []byte(doc), Disabled: disabled})
					} else {
						_, err = tx.CreateRule(Rule{Name: n, Document: []byte(doc), Disabled: disabled})
					}
					return err
				}) {
					m.rules[n] = Rule{Name: n, Document: []byte(doc), Disabled: disabled}
				}
			},
			"disableRule": func(*rapid.T) {
				n, disabled := name("r"), rapid.Bool().Draw(rt, "disabled")
				now, there := m.rules[n]
				if do(when(!there, ErrNotFound), func(tx *Tx) error {
					_, err := tx.SetRuleDisabled(n, disabled)
					return err
				}) {
					now.Disabled = disabled
					m.rules[n] = now
				}
			},
			"deleteRule": func(*rapid.T) {
				n := name("r")
				_, there := m.rules[n]
				if do(when(!there, ErrNotFound), func(tx *Tx) error { return tx.DeleteRule(n) }) {
					delete(m.rules, n)
				}
			},
			"": func(*rapid.T) {
				compare(rt, r, &m, ids[:])
				old.compare(rt, r, ids[:])
			},
		})
	})
}

func compare(rt *rapid.T, r *Registry, m *model, ids []string) {
	equal := func(what string, got, want []string) {
		rt.Helper()
		if !slices.Equal(got, want) {
			rt.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	err := r.View(func(tx *Tx) error {
		for i := range 3 {
			g, p, n := fmt.Sprint("g", i), fmt.Sprint("p", i), fmt.Sprint("t", i)
			equal("certificates of "+n, tx.ThingCertificates(n), second(m.certThings, n))
			members, _ := tx.GroupThings(g, "", 0)
			equal("things of "+g, members, pairs(m.groupThings, g))
			equal("policies of "+g, tx.GroupPolicies(g), pairs(m.groupPolicies, g))
			var targets []string
			for _, id := range second(m.certPolicies, p) {
				targets = append(targets, targetCertificate+id)
			}
			for _, x := range second(m.groupPolicies, p) {
				targets = append(targets, targetGroup+x)
			}
			got, _ := tx.PolicyTargets(p, "", 0)
			equal("targets of "+p, got, targets)
			if m.things[n] {
				th, err := tx.Thing(n)
				if err != nil {
					return err
				}
				equal("groups of "+n, th.Groups, second(m.groupThings, n))
			}
		}
		rules := map[string]Rule{}
		for after := ""; ; {
			page, next, err := tx.Rules(after, 1)
			if err != nil {
				return err
			}
			for _, one := range page {
				if again, err := tx.Rule(one.Name); err != nil || !reflect.DeepEqual(again, one) ||
					one.Created.IsZero() {
					rt.Fatalf("rule %+v, listed as %+v: %v", again, one, err)
				}
				one.Created = time.Time{}
				rules[one.Name] = one
			}
			if after = next; next == "" {
				break
			}
		}
		if !reflect.DeepEqual(rules, m.rules) {
			rt.Fatalf("rules %v, want %v", rules, m.rules)
		}
		return nil
	})
	if err != nil {
		rt.Fatal(err)
	}
	for _, id := range ids {
		for i := range 3 {
			n := fmt.Sprint("t", i)
			who, err := r.Identity(id, n)
			if m.certs[id] == "" {
				if !errors.Is(err, ErrNotFound) {
					rt.Fatalf("identity of no certificate: %v", err)
				}
				continue
			}
			if err != nil || who.Certificate.Status != m.certs[id] {
				rt.Fatalf("identity: %+v, %v", who, err)
			}
			var want []string
			if m.certs[id] == Active {
				want = pairs(m.certPolicies, id)
				if m.certThings[[2]string{id, n}] {
					for _, g := range second(m.groupThings, n) {
						want = append(want, pairs(m.groupPolicies, g)...)
					}
				}
				slices.Sort(want)
				want = slices.Compact(want)
			}
			if strings.Join(who.Policies, " ") != strings.Join(want, " ") || len(who.Documents) != len(want) {
				rt.Fatalf("policies of %s as %s: %v, want %v", id[:8], n, who.Policies, want)
			}
		}
	}
}

// kept are identities that were read a while ago, by certificate and client
// id, and the revisions up to which Unchanged confirmed them.
type kept map[[2]string]struct {
	who   *Identity
	since uint64
}

// compare reads anew what Unchanged confirms.
func (k kept) compare(rt *rapid.T, r *Registry, ids []string) {
	for _, id := range ids {
		for i := range 3 {
			key := [2]string{id, fmt.Sprint("t", i)}
			now, err := r.Identity(key[0], key[1])
			if errors.Is(err, ErrNotFound) {
				now = &Identity{Certificate: Certificate{ID: id}, ClientID: key[1], Revision: r.Revision()}
			} else if err != nil {
				rt.Fatal(err)
			}
			e, known := k[key]
			if known {
				revision, ok := r.Unchanged(e.who, e.since)
				if revision != r.Revision() {
					rt.Fatalf("unchanged to revision %d, at %d", revision, r.Revision())
				}
				if ok {
					a, b := *e.who, *now
					a.Revision, b.Revision = 0, 0
					if !reflect.DeepEqual(a, b) {
						rt.Fatalf("unchanged since %d, but %+v was %+v", e.since, b, a)
					}
					e.since = revision
					k[key] = e
					continue
				}
			}
			e.who, e.since = now, now.Revision
			k[key] = e
		}
	}
}

// What other sessions are about leaves an identity alone; what is too long ago
// to know is taken for a change.
func TestUnchanged(t *testing.T) {
	r := open(t)
	id := provision(t, r, "pump-1", 1)
	who, err := r.Identity(id, "pump-1")
	if err != nil {
		t.Fatal(err)
	}
	update(t, r, func(tx *Tx) error { return tx.CreateThing(Thing{Name: "pump-2"}) })
	if _, ok := r.Unchanged(who, who.Revision); !ok {
		t.Error("another thing counts as a change")
	}
	update(t, r, func(tx *Tx) error {
		for i := range 3 * maxRecent {
			if err := tx.CreateThing(Thing{Name: fmt.Sprint("many-", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	if n := len(r.recent.events); n > 2*maxRecent {
		t.Errorf("%d events are kept", n)
	}
	if _, ok := r.Unchanged(who, who.Revision); ok {
		t.Error("unchanged, though the events are forgotten")
	}
	if _, ok := r.Unchanged(who, r.Revision()); !ok {
		t.Error("changed since now")
	}
}
