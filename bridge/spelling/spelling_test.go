package spelling

import "testing"

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b       string
		most, want int
	}{
		{"", "", 3, 0}, {"abc", "", 3, 3}, {"abc", "abd", 3, 1}, {"abc", "acb", 3, 1}, {"abc", "xabc", 3, 1},
		{"abcdef", "fedcba", 3, 4}, {"abcdef", "", 3, 4},
	} {
		if got := Distance(c.a, c.b, c.most); got != c.want {
			t.Errorf("%q, %q, %d: %d, want %d", c.a, c.b, c.most, got, c.want)
		}
	}
}

func FuzzDistance(f *testing.F) {
	f.Add("iot:deletething", "iot:deletethign")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a)+len(b) > 200 {
			return
		}
		d := Distance(a, b, 400)
		if d != Distance(b, a, 400) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Errorf("%q %q: %d", a, b, d)
		}
	})
}
