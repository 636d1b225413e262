package registry

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
)

// document makes a policy of lines "Allow Action resource"; @ stands for the
// beginning of ARNs.
func document(lines ...string) []byte {
	var out []string
	for _, l := range lines {
		f := strings.Fields(l)
		out = append(out, fmt.Sprintf(`{"Sid":"S%d","Effect":%q,"Action":"iot:%s","Resource":%q}`, len(out)+1, f[0],
			f[1], strings.ReplaceAll(f[2], "@", "arn:aws:iot:eu-local-1:000000000000:")))
	}
	return []byte(`{"Version":"2012-10-17","Statement":[` + strings.Join(out, ",") + `]}`)
}

// site makes a small plant: pump-1 in group line below plant, a certificate of
// its own and policies at all of them; a guest certificate without a thing.
func site(t testing.TB) (r *Registry, pump, guest string) {
	r = open(t)
	update(t, r, func(tx *Tx) error {
		var errs []error
		do := func(err error) { errs = append(errs, err) }
		for i, id := range []*string{&pump, &guest} {
			c, err := tx.RegisterCertificate(testPEM(t, int64(i)), Active)
			do(err)
			*id = c.ID
		}
		do(tx.CreateGroup(Group{Name: "plant"}))
		do(tx.CreateGroup(Group{Name: "line", Parent: "plant"}))
		do(tx.CreateThing(Thing{Name: "pump-1"}))
		do(tx.AddToGroup("pump-1", "line"))
		do(tx.AttachThing("pump-1", pump))
		do(tx.CreatePolicy("device", document("Allow Connect @client/${iot:Connection.Thing.ThingName}",
			"Allow Publish @topic/dt/${iot:Connection.Thing.ThingName}/*")))
		do(tx.CreatePolicy("plant-wide", document("Allow Publish @topic/plant/*")))
		do(tx.CreatePolicy("quiet", document("Deny Publish @topic/plant/secret")))
		do(tx.CreatePolicy("guest", document("Allow Connect @client/guest-*",
			"Allow Publish @topic/guest/${iot:ClientId}/*", "Allow Publish @topic/lobby")))
		do(tx.AttachPolicy("device", pump))
		do(tx.AttachGroupPolicy("plant-wide", "plant"))
		do(tx.AttachGroupPolicy("quiet", "line"))
		do(tx.AttachPolicy("guest", guest))
		return errors.Join(errs...)
	})
	return r, pump, guest
}

func TestEffectivePolicies(t *testing.T) {
	r, pump, guest := site(t)
	for _, c := range []struct {
		certificate, thing string
		want               string
		err                error
	}{
		{pump, "pump-1", "device:1 cert/" + pump + "; plant-wide:1 thinggroup/plant; quiet:1 thinggroup/line", nil},
		{pump, "", "device:1 cert/" + pump, nil},
		{"", "pump-1", "plant-wide:1 thinggroup/plant; quiet:1 thinggroup/line", nil},
		{guest, "pump-1", "guest:1 cert/" + guest, nil}, // not attached to it
		{"", "", "", ErrInvalid}, {"x", "", "", ErrNotFound}, {"", "x", "", ErrNotFound},
	} {
		err := r.View(func(tx *Tx) error {
			all, err := tx.EffectivePolicies(c.certificate, c.thing)
			var got []string
			for _, p := range all {
				got = append(got, fmt.Sprintf("%s:%d %s", p.Name, p.Version, strings.Join(p.From, ",")))
				if len(p.Document) == 0 {
					t.Error("no document")
				}
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("%s %s: %s", c.certificate, c.thing, s)
			}
			return err
		})
		if !errors.Is(err, c.err) {
			t.Errorf("%s %s: %v", c.certificate, c.thing, err)
		}
	}
	// It is what connections are judged by.
	who, err := r.Identity(pump, "pump-1")
	if err != nil || !slices.Equal(who.Policies, []string{"device", "plant-wide", "quiet"}) {
		t.Errorf("%v, %v", who.Policies, err)
	}
}

func TestTestAuthorization(t *testing.T) {
	r, pump, _ := site(t)
	update(t, r, func(tx *Tx) error {
		return tx.CreatePolicy(
			"vpn", []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Publish",`+
				`"Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}}`))
	})
	ask := func(q AuthTest) (out []AuthResult, err error) {
		q.Certificate, q.Known = cmp.Or(q.Certificate, pump), where
		err = r.View(func(tx *Tx) (err error) { out, err = tx.TestAuthorization(q); return err })
		return out, err
	}
	info := func(action string, resources ...string) []AuthInfo { return []AuthInfo{{action, resources}} }
	type answer struct {
		Decision                           authz.Decision
		Allowed, Denied, Implicit, Missing []string
	}
	for what, c := range map[string]struct {
		q    AuthTest
		want answer
	}{
		"own topic": {AuthTest{ClientID: "pump-1", Infos: info("PUBLISH", "dt/pump-1/x")},
			answer{authz.Allowed, []string{"device"}, nil, nil, nil}},
		"by ARN": {AuthTest{ClientID: "pump-1", Infos: info("PUBLISH",
			"arn:aws:iot:eu-local-1:000000000000:topic/plant/x")},
			answer{authz.Allowed, []string{"plant-wide"}, nil, nil, nil}},
		"denied": {AuthTest{ClientID: "pump-1", Infos: info("PUBLISH", "plant/secret")},
			answer{authz.ExplicitDeny, nil, []string{"quiet"}, nil, nil}},
		"some denied": {AuthTest{ClientID: "pump-1", Infos: info("PUBLISH", "plant/secret", "plant/x", "none")},
			answer{authz.ExplicitDeny, []string{"plant-wide"}, []string{"quiet"},
				[]string{"device", "plant-wide", "quiet"}, nil}},
		"skipped": {AuthTest{ClientID: "pump-1", Skip: []string{"quiet"}, Infos: info("PUBLISH", "plant/secret")},
			answer{authz.Allowed, []string{"plant-wide"}, nil, nil, nil}},
		"added": {AuthTest{ClientID: "pump-1", Add: []string{"guest"}, Infos: info("PUBLISH", "lobby")},
			answer{authz.Allowed, []string{"guest"}, nil, nil, nil}},
		"no address": {AuthTest{ClientID: "pump-1", Add: []string{"vpn"}, Infos: info("PUBLISH", "x")},
			answer{authz.ImplicitDeny, nil, nil, []string{"device", "plant-wide", "quiet", "vpn"},
				[]string{"aws:sourceip"}}},
		"nothing": {AuthTest{ClientID: "pump-1", Infos: info("RECEIVE", "x")},
			answer{authz.ImplicitDeny, nil, nil, []string{"device", "plant-wide", "quiet"}, nil}},
		"connect": {AuthTest{ClientID: "other", Infos: info("CONNECT", "pump-1")},
			answer{authz.Allowed, []string{"device"}, nil, nil, nil}},
		"as another": {AuthTest{ClientID: "other", Infos: info("PUBLISH", "plant/x")},
			answer{authz.ImplicitDeny, nil, nil, []string{"device"}, []string{"iot:connection.thing.thingname"}}},
	} {
		got, err := ask(c.q)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v, %v", what, got, err)
			continue
		}
		if a := (answer{got[0].Decision, got[0].Allowed, got[0].Denied, got[0].Implicit,
			got[0].Missing}); !reflect.DeepEqual(a, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v\n%s", what, a, c.want, got[0].Explanations[0])
		}
	}
	for what, c := range map[string]struct {
		q    AuthTest
		want error
	}{
		"no question":    {AuthTest{}, ErrInvalid},
		"too many":       {AuthTest{Infos: slices.Repeat(info("PUBLISH", "x"), maxAuthInfos+1)}, ErrInvalid},
		"no such action": {AuthTest{Infos: info("DANCE", "x")}, ErrInvalid},
		"no resource":    {AuthTest{Infos: info("PUBLISH")}, ErrInvalid},
		"empty resource": {AuthTest{Infos: info("PUBLISH", "")}, ErrInvalid},
		"ARN of a filter": {AuthTest{Infos: info("PUBLISH", "arn:aws:iot:eu-local-1:000000000000:topicfilter/x")},
			ErrInvalid},
		"no such policy":    {AuthTest{Add: []string{"nosuch"}, Infos: info("PUBLISH", "x")}, ErrNotFound},
		"no such principal": {AuthTest{Certificate: "x", Infos: info("PUBLISH", "x")}, ErrNotFound},
	} {
		if _, err := ask(c.q); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWhoCan(t *testing.T) {
	r, pump, guest := site(t)
	ask := func(action, resource string) (out []string) {
		t.Helper()
		err := r.WhoCan(action, resource, where, func(a Access) bool {
			name := map[string]string{pump: "pump", guest: "guest"}[a.Certificate]
			out = append(out, fmt.Sprintf("%s thing=%s client=%s by %s:%d:%s", name, a.Thing, a.ClientID,
				a.Grants[0].Policy, a.Grants[0].Statement, a.Grants[0].Sid))
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(out)
		return out
	}
	for _, c := range []struct {
		action, resource string
		want             []string
	}{
		{authz.Publish, "dt/pump-1/x", []string{"pump thing=pump-1 client= by device:2:S2"}},
		{authz.Publish, "plant/x", []string{"pump thing=pump-1 client= by plant-wide:1:S1"}},
		{authz.Publish, "plant/secret", nil},
		{authz.Publish, "lobby", []string{"guest thing= client= by guest:3:S3",
			"guest thing= client=guest-* by guest:3:S3"}},
		{authz.Publish, "guest/guest-7/x", []string{"guest thing= client=guest-7 by guest:2:S2"}},
		{authz.Publish, "guest/other/x", nil}, // may not connect as other
		{authz.Connect, "pump-1", []string{"pump thing=pump-1 client= by device:1:S1"}},
		{authz.Connect, "guest-9", []string{"guest thing= client=guest-9 by guest:1:S1"}},
		{authz.Connect, "x", nil},
		{authz.Receive, "lobby", nil},
	} {
		if got := ask(c.action, c.resource); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %q", c.action, c.resource, got)
		}
	}
	update(t, r, func(tx *Tx) error { return tx.SetCertificateStatus(guest, Inactive) })
	if got := ask(authz.Publish, "lobby"); got != nil {
		t.Errorf("an inactive certificate: %q", got)
	}
}

// TestWhoCanLarge asks a registry of 10,000 things; what it holds in memory
// does not grow with them.
func TestWhoCanLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 10,000 things")
	}
	r := open(t)
	fill(t, r, 10_000)
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin, n, peak := time.Now(), 0, uint64(0)
	err := r.WhoCan(authz.Publish, "$tidemill/batch", where, func(Access) bool {
		if n++; n%2500 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&during)
			peak = max(peak, during.HeapAlloc)
		}
		return true
	})
	if err != nil || n != 20_000 { // as things, and over HTTPS
		t.Errorf("%d, %v", n, err)
	}
	grown := max(0, int64(peak)-int64(before.HeapAlloc))
	t.Logf("all of 10,000 things in %v, heap grown by %d KiB", time.Since(begin).Round(time.Millisecond), grown>>10)
	if grown > 16<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	begin, n = time.Now(), 0
	if err := r.WhoCan(authz.Publish, "dt/thing-000777/x", where, func(Access) bool {
		n++
		return true
	}); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	t.Logf("one of 10,000 things in %v", time.Since(begin).Round(time.Millisecond))
}

// BenchmarkDecideFleet is a decision of a connection with 20 policies, those of
// its certificate and of its groups, in a registry of 10,000 things.
func BenchmarkDecideFleet(b *testing.B) {
	r := open(b)
	fill(b, r, 10_000)
	const thing = "thing-000500"
	id := fmt.Sprintf("%064x", 500*7919)
	update(b, r, func(tx *Tx) error {
		var errs []error
		for i := range 20 {
			name := fmt.Sprint("p", i)
			errs = append(errs, tx.CreatePolicy(name,
				document(fmt.Sprintf("Allow Publish @topic/site/%d/${iot:Connection.Thing.ThingName}/*", i),
					fmt.Sprintf("Deny Publish @topic/secret/%d/*", i))))
			if i < 9 {
				errs = append(errs, tx.AttachPolicy(name, id))
				continue
			}
			group := fmt.Sprint("g", i/2)
			errs = append(errs, tx.CreateGroup(Group{Name: group}), tx.AddToGroup(thing, group),
				tx.AttachGroupPolicy(name, group))
		}
		return errors.Join(errs...)
	})
	who, err := r.Identity(id, thing)
	if err != nil || len(who.Policies) != 21 {
		b.Fatal(who, err)
	}
	e := who.Evaluator(where)
	topics := []string{"dt/thing-000500/x", "site/19/thing-000500/x", "site/3/other/x", "secret/5/x"}
	b.Run("decide", func(b *testing.B) {
		var took []time.Duration
		b.ReportAllocs()
		for b.Loop() {
			for _, topic := range topics {
				begin := time.Now()
				e.Decide(authz.Publish, topic)
				if len(took) < 1<<18 {
					took = append(took, time.Since(begin))
				}
			}
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
		b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
		b.ReportMetric(float64(took[len(took)*999/1000]), "p99.9-ns")
	})
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			who, err := r.Identity(id, thing)
			if err != nil {
				b.Fatal(err)
			}
			who.Evaluator(where)
		}
	})
}
