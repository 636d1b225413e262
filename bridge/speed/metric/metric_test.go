package metric

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestExposed(t *testing.T) {
	for _, c := range []struct{ namespace, name, unit, want string }{
		{"plant", "temperature", "None", "plant_temperature"},
		{"plant", "parts", "Count", "plant_parts"},
		{"Plant/North", "Engine temp. (°C)", "None", "Plant_North_Engine_temp_C_"},
		{"plant", "delay", "Milliseconds", "plant_delay_milliseconds"},
		{"plant", "delay_seconds", "Seconds", "plant_delay_seconds"},
		{"plant", "in", "Bytes/Second", "plant_in_bytes_per_second"},
		{"plant", "rate", "Count/Second", "plant_rate_per_second"},
		{"4th floor", "load", "Percent", "_4th_floor_load_percent"},
		{"a:b", "c", "None", "a_b_c"},
		{"ñ", "ñ", "Bits", "_bits"},
	} {
		if got := exposed(c.namespace, c.name, c.unit); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func sample(name string, v float64, at int64) Sample {
	return Sample{Namespace: "plant", Name: name, Unit: "None", Value: v, Time: time.Unix(at, 0)}
}

func TestPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Most: 2, Keep: time.Hour})
		for _, s := range []Sample{sample("b", 1, 100), sample("b", 2, 50), sample("b", 5, 100), sample("a", -3, 7)} {
			if err := r.Put(s); err != nil {
				t.Fatal(err)
			}
		}
		all := r.All()
		if len(all) != 2 || all[0].Exposed != "plant_a" || all[1].Last.Value != 5 || all[1].Count != 3 ||
			all[1].Sum != 8 {
			t.Errorf("%+v", all)
		}
		err := r.Put(sample("c", 1, 1))
		if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "metric_action.max is 2") {
			t.Errorf("one too many: %v", err)
		}
		time.Sleep(59 * time.Minute)
		if err := r.Put(sample("a", 0, 8)); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		if all := r.All(); len(all) != 1 || all[0].Exposed != "plant_a" {
			t.Errorf("b is stale: %+v", all)
		}
		if err := r.Put(sample("c", 1, 1)); err != nil {
			t.Errorf("there is room again: %v", err)
		}
	})
}

// Names that are refused are not each a look at all metrics; room that expires is there
// within a second.
func TestRefusedIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Most: 2, Keep: time.Hour})
		began := time.Now()
		for _, name := range []string{"a", "b"} {
			if err := r.Put(sample(name, 1, 1)); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			if err := r.Put(sample("c", 1, 1)); !errors.Is(err, errRefused) || !r.swept.Equal(began) {
				t.Errorf("%v, looked at all at %v", err, r.swept.Sub(began))
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Hour - time.Second)
		if err := r.Put(sample("c", 1, 1)); !errors.Is(err, errRefused) {
			t.Errorf("there is no room yet: %v", err)
		}
		time.Sleep(sweepAgain)
		if err := r.Put(sample("c", 1, 1)); err != nil {
			t.Errorf("there is room: %v", err)
		}
	})
}

// BenchmarkRefused is of a new name where there is no room.
func BenchmarkRefused(b *testing.B) {
	r := New(Options{Most: 100_000, Keep: time.Hour})
	for i := range 100_000 {
		if err := r.Put(sample(fmt.Sprint(i), 1, 1)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if r.Put(sample("more", 1, 1)) == nil {
			b.Fatal("taken")
		}
	}
}

func TestNamesOfOthers(t *testing.T) {
	r := New(Options{Most: 100})
	for _, c := range []struct {
		namespace, name string
		ok              bool
	}{
		{"plant", "temp", true},
		{"plant", "temp_sum", false},
		{"pl.ant", "temp_samples_total", true},
		{"pl", "ant_temp", false},
		{"plant/", "temp", true}, // the same name, and labels of its own
		{"tidemill", "x", false},
		{"go", "goroutines", false},
		{"bad", "\xff", false},
	} {
		err := r.Put(Sample{Namespace: c.namespace, Name: c.name, Unit: "None"})
		if (err == nil) != c.ok || err != nil && !errors.Is(err, errRefused) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// Whatever a metric is called, its names are Prometheus's, and those of two metrics
// with other names are never the same.
func FuzzPut(f *testing.F) {
	f.Add("a\nb_sum\na_b\nsum", uint8(3))
	f.Add("1\n2\n\n_\n:\né", uint8(0))
	form := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	f.Fuzz(func(t *testing.T, text string, unit uint8) {
		r := New(Options{Most: 20})
		parts := strings.Split(text, "\n")
		for i := 1; i < len(parts); i++ {
			u := []string{"None", "Seconds", "Count/Second", "Bits"}[(int(unit)+i)%4]
			if err := r.Put(Sample{Namespace: parts[i-1], Name: parts[i], Unit: u}); err != nil &&
				!errors.Is(err, errRefused) {
				t.Fatal(err)
			}
		}
		role := map[string]string{}
		for _, s := range r.All() {
			for _, suffix := range suffixes {
				name := s.Exposed + suffix
				if was, there := role[name]; there && was != suffix || !form.MatchString(name) {
					t.Fatalf("%q is %q and %q", name, was, suffix)
				}
				role[name] = suffix
			}
		}
	})
}

func BenchmarkPut(b *testing.B) {
	r := New(Options{Most: 1000, Keep: time.Hour})
	all := make([]Sample, 1000)
	for i := range all {
		all[i] = sample(fmt.Sprint(i), float64(i), 1)
	}
	for n := 0; b.Loop(); n++ {
		if err := r.Put(all[n%1000]); err != nil {
			b.Fatal(err)
		}
	}
}
