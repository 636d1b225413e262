package topic

import (
	"errors"
	"strings"
	"testing"
)

// What devices may publish and subscribe to below '$', if policy lets them.
func TestReserved(t *testing.T) {
	const (
		nothing   = 0
		publish   = 1
		subscribe = 2
		both      = publish | subscribe
	)
	for name, want := range map[string]int{
		"a": both, "": both, "dt/$aws/x": both, "/$aws": both,

		"$aws/things/t/shadow/get":                              both,
		"$aws/things/t/shadow/update":                           both,
		"$aws/things/t/shadow/delete":                           both,
		"$aws/things/t/shadow/name/n/update":                    both,
		"$aws/things/t/shadow/name/get/get":                     both,
		"$aws/things/$t/shadow/get":                             both,
		"$aws/things/t/shadow/get/accepted":                     subscribe,
		"$aws/things/t/shadow/update/accepted":                  subscribe,
		"$aws/things/t/shadow/update/rejected":                  subscribe,
		"$aws/things/t/shadow/update/delta":                     subscribe,
		"$aws/things/t/shadow/update/documents":                 subscribe,
		"$aws/things/t/shadow/delete/accepted":                  subscribe,
		"$aws/things/t/shadow/name/n/update/delta":              subscribe,
		"$aws/things/t/shadow/name/n/get/rejected":              subscribe,
		"$aws/things/t/shadow/get/delta":                        nothing,
		"$aws/things/t/shadow/put":                              nothing,
		"$aws/things/t/shadow/update/":                          nothing,
		"$aws/things/t/shadow/update/accepted/x":                nothing,
		"$aws/things/t/shadow/name/get":                         nothing,
		"$aws/things/t/shadow":                                  nothing,
		"$aws/things/t/x":                                       nothing,
		"$AWS/things/t/shadow/get":                              nothing,
		"$aws/rules/r/x":                                        publish,
		"$aws/rules/r":                                          publish,
		"$aws/rules/r/":                                         publish,
		"$aws/rules/r//x":                                       publish,
		"$aws/rules":                                            nothing,
		"$tidemill/batch":                                       publish,
		"$tidemill/batch/accepted":                              nothing,
		"$tidemill/time":                                        publish,
		"$tidemill/time/accepted":                               subscribe,
		"$tidemill/time/x":                                      nothing,
		"$tidemill/hops/g":                                      nothing,
		"$aws/certificates/create/json":                         both,
		"$aws/certificates/create/cbor":                         both,
		"$aws/certificates/create/xml":                          nothing,
		"$aws/certificates/create-from-csr/cbor":                both,
		"$aws/certificates/create/json/accepted":                subscribe,
		"$aws/certificates/create-from-csr/json/x":              nothing,
		"$aws/provisioning-templates/p/provision/json":          both,
		"$tidemill/certificates/c/retire/json":                  both,
		"$tidemill/certificates/c/retire/json/accepted":         subscribe,
		"$tidemill/certificates/c/retire/cbor/rejected":         subscribe,
		"$aws/provisioning-templates/p/provision/json/rejected": subscribe,
		"$aws/provisioning-templates/p/provision/json/accept":   nothing,
		"$aws/events/presence/connected/t":                      subscribe,
		"$aws/events/thing/t/created":                           subscribe,
		"$aws/events":                                           nothing,

		// No service is here that would take or tell them.
		"$aws/things/t/jobs/$next/get":         nothing,
		"$aws/things/t/jobs/get":               nothing,
		"$aws/things/t/jobs/start-next":        nothing,
		"$aws/things/t/jobs/j/update":          nothing,
		"$aws/things/t/jobs/j/update/accepted": nothing,
		"$aws/things/t/jobs/notify":            nothing,
		"$aws/things/t/jobs/notify-next":       nothing,
		"$aws/things/t/defender/metrics/json":  nothing,
		"$aws/things/t/streams/s/get/json":     nothing,
		"$aws/things/t/tunnels/notify":         nothing,
		"$SYS/broker/load":                     nothing,
		"$":                                    nothing, "$aws": nothing, "$aws/x": nothing,
	} {
		if got := CheckPublish(name, ByPublish, false); (got == nil) != (want&publish != 0) {
			t.Errorf("CheckPublish(%q) = %v", name, got)
		} else if got != nil && !errors.Is(got, ErrReserved) {
			t.Errorf("CheckPublish(%q) = %v, which is not ErrReserved", name, got)
		}
		if got := CheckPublish(name, ByPublish, true); (got == nil) != (!strings.HasPrefix(name, "$")) {
			t.Errorf("CheckPublish(%q), retained = %v", name, got)
		}
		if got := CheckSubscribe(name); (got == nil) != (want&subscribe != 0) {
			t.Errorf("CheckSubscribe(%q) = %v", name, got)
		} else if got != nil && !errors.Is(got, ErrReserved) {
			t.Errorf("CheckSubscribe(%q) = %v, which is not ErrReserved", name, got)
		}
	}
	// An empty level is no name of a thing, rule, template or certificate.
	for _, name := range []string{"$aws/things//shadow/get", "$aws/things/t/shadow/name//get", "$aws/rules//x",
		"$aws/rules/",
		"$aws/provisioning-templates//provision/json", "$tidemill/certificates//retire/json"} {
		if CheckPublish(name, ByPublish, false) == nil {
			t.Errorf("CheckPublish(%q) lets it through", name)
		}
	}
	for filter, want := range map[string]bool{
		"#": true, "+/x": true, "$aws/#": true, "$aws/things/t/#": true, "$aws/things/+/shadow/#": true,
		"$aws/+/+/shadow/update/+": true,
		"$aws/events/#":            true, "$aws/events/+/connected/+": true, "$aws/certificates/#": true,
		"$tidemill/certificates/+/retire/json/+": true,
		"$aws/rules/#":                           false, "$aws/rules/+/x": false, "$tidemill/+": false, "$SYS/#": false,
		"$aws/+":               false,
		"$aws/x/#":             false,
		"$aws/things/+/jobs/#": false, "$aws/things/t/defender/+/+/accepted": false,
		"$aws/things/+/shadow/+/delta/#": true, "$aws/things/+/shadow/+/delta/x": false,
	} {
		if err := CheckSubscribe(filter); (err == nil) != want {
			t.Errorf("CheckSubscribe(%q) = %v", filter, err)
		}
	}
	for name, want := range map[string]string{
		"$aws/things/t/shadow/update/delta": "reserved topic $aws/things/t/shadow/update/delta: only the device " +
			"shadow service publishes there",
		"$aws/things/t/jobs/$next/get": "reserved topic $aws/things/t/jobs/$next/get: this bridge has no jobs service",
		"$aws/things/t/defender/metrics/json": "reserved topic $aws/things/t/defender/metrics/json: this bridge " +
			"has no device defender service",
		"$SYS/x": "reserved topic $SYS/x: no service takes it",
	} {
		if err := CheckPublish(name, ByPublish, false); err == nil || err.Error() != want {
			t.Errorf("CheckPublish(%q) = %v", name, err)
		}
	}
}

// What comes by HTTPS, as a will and from a broker is judged by the same table.
func TestWays(t *testing.T) {
	const p, h, w, b = ByPublish, ByHTTPS, ByWill, ByBroker
	for name, want := range map[string]Way{
		"a":                                      p | h | w | b,
		"$aws/things/t/shadow/update":            p | h | w | b,
		"$aws/things/t/shadow/update/delta":      b, // of another bridge's service
		"$aws/rules/r/x":                         p | h | w | b,
		"$tidemill/batch":                        p | h | b,
		"$tidemill/batch/refused":                0,
		"$aws/certificates/create/json":          p,
		"$aws/certificates/create/json/accepted": 0,
		"$aws/events/presence/connected/t":       b,
		"$aws/things/t/jobs/get":                 0, // no service here
		"$tidemill/hops/g":                       0,
		"$SYS/x":                                 0,
	} {
		for _, way := range []Way{p, h, w, b} {
			if err := CheckPublish(name, way, false); (err == nil) != (want&way != 0) || err != nil &&
				!errors.Is(err, ErrReserved) {
				t.Errorf("CheckPublish(%q, %b) = %v", name, way, err)
			}
		}
	}
	for name, want := range map[string]bool{"a": true, "$SYS/x": true, "$aws/things/t/shadow/update": true,
		"$aws/events/thing/t/created": true,
		"$aws/rules/r/x":              false, "$tidemill/batch": false, "$tidemill/batch/refused": false,
		"$aws/certificates/create/json": false} {
		if ForSubscribers(name) != want {
			t.Errorf("ForSubscribers(%q) = %v", name, !want)
		}
	}
}

// Every row is found under names that its pattern matches, and by no other
// service.
func TestLookup(t *testing.T) {
	for _, row := range table {
		name := strings.NewReplacer("+", "x", "#", "y/z").Replace(row.pattern)
		if got, ok := Lookup(name); !ok || got != row.Reserved {
			t.Errorf("Lookup(%q) = %+v, %v; want %+v", name, got, ok, row.Reserved)
		}
		if err := ValidFilter(row.pattern); err != nil {
			t.Errorf("%q: %v", row.pattern, err)
		}
		if row.Private && row.Service != Provisioning && row.Service != Batches && row.Service != Time &&
			row.Service != Bridges {
			t.Errorf("%q is private", row.pattern)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Lookup("$aws/things/t/shadow/name/n/update/accepted") }); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
}

// Two filters overlap exactly when a name is matched by both; the names tried are
// all that the filters' own levels can make.
func FuzzOverlap(f *testing.F) {
	for _, s := range []string{"a/#|a", "+/b|a/+", "a/+/c|a/#", "a/b|a/b/#", "+|a", "a/b/#|+/+", "/+|/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		a, b, ok := strings.Cut(in, "|")
		if !ok || ValidFilter(a) != nil || ValidFilter(b) != nil || strings.Contains(in, "$") || Levels(a) > 4 ||
			Levels(b) > 4 {
			return
		}
		var levels []string
		for _, l := range append(strings.Split(a, "/"), strings.Split(b, "/")...) {
			if l != "+" && l != "#" {
				levels = append(levels, l)
			}
		}
		levels = append(levels, "other")
		want := false
		var try func(name string, depth int)
		try = func(name string, depth int) {
			want = want || name != "" && Match(a, name) && Match(b, name)
			if depth == 5 || want {
				return
			}
			for _, l := range levels {
				if depth == 0 {
					try(l, 1)
				} else {
					try(name+"/"+l, depth+1)
				}
			}
		}
		try("", 0)
		if got := overlap(a, b); got != want {
			t.Fatalf("overlap(%q, %q) = %v", a, b, got)
		}
	})
}
