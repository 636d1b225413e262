package shadow

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct{ section, patch, want string }{
		{`{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`},
		{`{"a":1}`, `{"a":null}`, `null`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":null}}`, `{"a":{"c":2}}`},
		{`{"a":{"b":1}}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"a":{"b":1}}`, `{"a":{}}`, `{"a":{"b":1}}`},
		{`{"a":1}`, `{"a":{}}`, `{"a":{}}`},
		{`{"a":1}`, `{"a":{"b":null,"c":{"d":null}}}`, `{"a":{"c":{}}}`},
		{`{"a":[1,2]}`, `{"a":[3]}`, `{"a":[3]}`},
		{`{"a":{"b":1}}`, `{"a":[]}`, `{"a":[]}`},
		{`{}`, `{}`, `null`},
	} {
		section := object(t, c.section)
		got := Merge(section, object(t, c.patch))
		want, _ := parse(t, c.want).(map[string]any)
		if !Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%s + %s = %s, want %s", c.section, c.patch, Append(nil, got), c.want)
		}
		if !Equal(section, object(t, c.section)) {
			t.Errorf("%s was changed by %s", c.section, c.patch)
		}
	}
}

func TestMerge3(t *testing.T) {
	for _, c := range []struct{ base, local, cloud, preferLocal, preferCloud string }{
		{`{"a":1}`, `{"a":1}`, `{"a":2}`, `{"a":2}`, `{"a":2}`},
		{`{"a":1}`, `{"a":2}`, `{"a":1}`, `{"a":2}`, `{"a":2}`},
		{`{"a":1}`, `{"a":2}`, `{"a":3}`, `{"a":2}`, `{"a":3}`},
		{`{"a":1}`, `{}`, `{"a":1}`, `null`, `null`},
		{`{"a":1}`, `{"a":1}`, `{}`, `null`, `null`},
		{`{"a":1}`, `{}`, `{"a":2}`, `null`, `{"a":2}`},
		{`{"a":1}`, `{"a":2}`, `{}`, `{"a":2}`, `null`},
		{`{}`, `{"a":{"b":1}}`, `{"a":{"c":1}}`, `{"a":{"b":1,"c":1}}`, `{"a":{"b":1,"c":1}}`},
		{`{"a":{"b":1,"c":1}}`, `{"a":{"b":2,"c":1}}`, `{"a":{"b":1}}`, `{"a":{"b":2}}`, `{"a":{"b":2}}`},
		{`{"a":{"b":1}}`, `{"a":5}`, `{"a":{"b":2}}`, `{"a":5}`, `{"a":{"b":2}}`},
	} {
		for prefer, want := range map[Side]string{Local: c.preferLocal, Cloud: c.preferCloud} {
			got := Merge3(object(t, c.base), object(t, c.local), object(t, c.cloud), prefer)
			if w, _ := parse(t, want).(map[string]any); !Equal(got, w) {
				t.Errorf("%s: %s and %s, prefer %d: %s, want %s", c.base, c.local, c.cloud, prefer, Append(nil, got),
					want)
			}
		}
	}
}

// section reads a fuzz input as a section's value or as a patch.
func section(in []byte, nulls bool) (map[string]any, bool) {
	m, err := ParseObject(in)
	if err != nil || depth(m) > 20 || nullInArray(m, false) {
		return nil, false
	}
	if !nulls {
		m, _ = withoutNulls(m).(map[string]any)
	}
	return m, true
}

func FuzzMerge(f *testing.F) {
	for _, s := range [][3]string{
		{`{"a":{"b":1},"c":[1]}`, `{"a":{"b":null,"d":{}},"c":{"x":1}}`, `{"a":1}`},
		{`{"a":{}}`, `{"a":{"x":{"y":null}}}`, `{"a":{"x":{}}}`},
		{`{"n":1.0}`, `{"n":1}`, `{"n":"1"}`},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), []byte(s[2]))
	}
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		desired, ok1 := section(a, false)
		patch, ok2 := section(b, true)
		other, ok3 := section(c, false)
		if !ok1 || !ok2 || !ok3 {
			return
		}
		once := Merge(desired, patch)
		if twice := Merge(once, patch); !Equal(once, twice) {
			t.Errorf("merged twice: %s, once: %s", Append(nil, twice), Append(nil, once))
		}
		d := Diff(desired, other)
		if got := Merge(desired, d); !Equal(got, other) && len(got)+len(other) > 0 {
			t.Errorf("Diff gives %s, with it %s", Append(nil, d), Append(nil, got))
		}
		if (d == nil) != Equal(desired, other) {
			t.Errorf("Diff of equal or not: %s", Append(nil, d))
		}
		if e := Delta(desired, Merge(other, Delta(desired, other))); e != nil {
			t.Errorf("the delta reported leaves %s", Append(nil, e))
		}
		if Delta(desired, desired) != nil {
			t.Error("a section differs from itself")
		}
		// One side alone changed: that side, whoever is preferred.
		for _, side := range []Side{Local, Cloud} {
			for _, got := range []map[string]any{Merge3(desired, desired, other, side),
				Merge3(desired, other, desired, side)} {
				if !Equal(got, other) && len(got)+len(other) > 0 {
					t.Errorf("one change: %s, want %s", Append(nil, got), Append(nil, other))
				}
			}
		}
	})
}

// Whatever an update does, the times have the shape of the state, and a
// record comes back as it was.
func FuzzUpdate(f *testing.F) {
	f.Add([]byte(`{"state":{"desired":{"a":[1,{"b":2}]},"reported":{"a":{"b":1}}}}`),
		[]byte(`{"state":{"desired":{"a":{"x":1}},"reported":null},"version":1}`))
	f.Add([]byte(`{"state":null,"clientToken":"x"}`), []byte(`{"state":{}}`))
	f.Add([]byte(`{"state":{"reported":{"timestamp":{"timestamp":1}}}}`),
		[]byte(`{"state":{"reported":{"timestamp":null}}}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var d *Document
		now := time.Unix(1_700_000_000, 0)
		for _, in := range [][]byte{first, second} {
			u, err := ParseUpdate(in, Limits{})
			var e *Error
			if err != nil {
				if !errors.As(err, &e) {
					t.Fatalf("%T", err)
				}
				continue
			}
			again, err := ParseUpdate(u.Append(nil), Limits{})
			if err != nil || !bytes.Equal(u.Append(nil), again.Append(nil)) {
				t.Fatalf("%s comes back as %s, %v", u.Append(nil), again.Append(nil), err)
			}
			next, err := d.Update(u, now, Limits{})
			if err != nil {
				if !errors.As(err, &e) {
					t.Fatalf("%T", err)
				}
				continue
			}
			d = next
			for _, s := range [][2]map[string]any{{d.Desired, d.DesiredTimes}, {d.Reported, d.ReportedTimes}} {
				if !sameShape(s[0], s[1]) {
					t.Fatalf("state %s, times %s", Append(nil, s[0]), Append(nil, s[1]))
				}
			}
			back, err := DecodeRecord(d.AppendRecord(nil))
			if err != nil || !bytes.Equal(AppendGetAccepted(nil, back, "", now), AppendGetAccepted(nil, d, "", now)) {
				t.Fatalf("record %s: %v", d.AppendRecord(nil), err)
			}
			now = now.Add(time.Second)
		}
	})
}

func sameShape(v, times any) bool {
	switch v := v.(type) {
	case map[string]any:
		m, ok := times.(map[string]any)
		if !ok || len(m) != len(v) {
			return false
		}
		for k := range v {
			if !sameShape(v[k], m[k]) {
				return false
			}
		}
		return true
	case []any:
		l, ok := times.([]any)
		if !ok || len(l) != len(v) {
			return false
		}
		for i := range v {
			if !sameShape(v[i], l[i]) {
				return false
			}
		}
		return true
	}
	_, ok := times.(Stamp)
	return ok
}

func TestVersionAfterDelete(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	u := &Update{Reported: Section{Set: true, Patch: object(t, `{"a":1}`)}}
	gone := (&Document{Version: 7}).Delete(now)
	for after, want := range map[time.Duration]uint64{0: 9, 47 * time.Hour: 9, 49 * time.Hour: 1} {
		before := gone
		if before.Over(now.Add(after)) {
			before = nil
		}
		d, err := before.Update(u, now, Limits{})
		if err != nil || d.Version != want || d.Deleted != 0 {
			t.Errorf("after %v: %+v, %v; want version %d", after, d, err, want)
		}
	}
	for version, want := range map[uint64]error{0: nil, 1: nil, 2: ErrVersionConflict} {
		u := *u
		u.Version = &version
		if _, err := (*Document)(nil).Update(&u, now, Limits{}); !errors.Is(err, want) && !(want == nil && err == nil) {
			t.Errorf("version %d onto nothing: %v", version, err)
		}
	}
}

func TestRequestErrors(t *testing.T) {
	for _, c := range []struct {
		in   string
		want *Error
	}{
		{"\xff", ErrEncoding}, {"", ErrInvalidJSON}, {`[]`, ErrInvalidJSON}, {`{} {}`, ErrInvalidJSON},
		{`{"clientToken":7}`, ErrToken}, {`{"clientToken":"` + strings.Repeat("x", 65) + `"}`, ErrToken},
		{`{"version":"x"}`, ErrNoState}, {`{"state":1,"version":"x"}`, ErrStateType},
		{`{"state":{"desired":1,"x":1}}`, ErrDesiredType},
		{`{"state":{},"version":-1}`, ErrVersion}, {`{"state":{},"version":1.5}`, ErrVersion},
		{`{"state":{},"version":99999999999999999999}`, ErrVersion},
		{`{"state":{"desired":{"a":[{"b":null}]}}}`, ErrNullInArray},
	} {
		if _, err := ParseUpdate([]byte(c.in), Limits{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.in, err, c.want)
		}
	}
	for levels, ok := range map[int]bool{7: true, 8: false} { // and the section itself
		in := `{"state":{"desired":` + strings.Repeat(`{"a":`, levels) + `{}` + strings.Repeat(`}`, levels) + `}}`
		if _, err := ParseUpdate([]byte(in), Limits{}); (err == nil) != ok {
			t.Errorf("%d levels within the section: %v", levels, err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	in := []byte(`{"state":{"reported":{"sensors":{"t1":{"every":5,"value":21.53},"t2":{"every":5,"value":19.1}},` +
		`"uptime":123456}},"clientToken":"4f1c2a77-00112233-17"}`)
	var d *Document
	now := time.Unix(1_700_000_000, 0)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		u, err := ParseUpdate(in, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if d, err = d.Update(u, now, Limits{}); err != nil {
			b.Fatal(err)
		}
		_ = d.AppendRecord(nil)
		_ = AppendUpdateAccepted(nil, u, d, now)
	}
}
