package timepattern

import (
	"strings"
	"testing"
	"time"
)

func TestAppend(t *testing.T) {
	east := time.FixedZone("EAST", 2*3600+1800)
	at := time.Date(2026, 3, 9, 7, 5, 4, 30e6, time.UTC)
	for _, c := range []struct {
		compile func(string) (Pattern, bool)
		pattern string
		zone    *time.Location
		want    string
	}{
		{Java, "yyyy/MM/dd/HH/", time.UTC, "2026/03/09/07/"},
		{Java, "uuuu-D 'o''clock' h a", time.UTC, "2026-68 o'clock 7 AM"},
		{Java, "EEE, d LLL yy k:m:s.SSS", time.UTC, "Mon, 9 Mar 26 7:5:4.030"},
		{Java, "X XXX x xxx Z ZZZZZ z", time.UTC, "Z Z +00 +00:00 +0000 +00:00 UTC"},
		{Java, "XXX xx ZZZ z", east, "+02:30 +0230 +0230 EAST"},
		{Joda, "YYYY.MM.dd G 'at' HH:mm:ss z", time.UTC, "2026.03.09 AD at 07:05:04 UTC"},
		{Joda, "xxxx-'W'ww-e Z ZZ", east, "2026-W11-1 +0230 +02:30"},
		{Joda, "EEEE MMMM K", time.UTC, "Monday March 7"},
		{Joda, "''", time.UTC, "'"},
	} {
		p, ok := c.compile(c.pattern)
		if !ok {
			t.Errorf("%q is refused", c.pattern)
			continue
		}
		if got := string(p.Append(nil, at.In(c.zone))); got != c.want {
			t.Errorf("%q gives %q, want %q", c.pattern, got, c.want)
		}
	}
	for _, bad := range []string{"'open", "q", strings.Repeat("y", MaxPattern+1)} {
		if _, ok := Java(bad); ok {
			t.Errorf("Java takes %q", bad)
		}
		if _, ok := Joda(bad); ok {
			t.Errorf("Joda takes %q", bad)
		}
	}
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ text, pattern, want string }{
		{"2016-12-15T18:07:31Z", "yyyy-MM-dd'T'HH:mm:ssX", "2016-12-15T18:07:31Z"},
		{"20161215180731123", "yyyyMMddHHmmssSSS", "2016-12-15T18:07:31.123Z"},
		{"15 December 2016", "d MMMM yyyy", "2016-12-15T00:00:00Z"},
		{"2016-12-15 06:07 PM Europe/Paris", "yyyy-MM-dd hh:mm a VV", "2016-12-15T17:07:00Z"},
		{"2016-02-31", "yyyy-MM-dd", "2016-02-29T00:00:00Z"}, // java.time's SMART resolver
		{"2016-13-01", "yyyy-MM-dd", ""},
		{"2016-12-15x", "yyyy-MM-dd", ""},
		{"18:07", "HH:mm", ""},
	} {
		got, ok := Read(c.text, c.pattern)
		if ok != (c.want != "") || ok && got.UTC().Format(time.RFC3339Nano) != c.want {
			t.Errorf("%q by %q: %v, %v, want %q", c.text, c.pattern, got, ok, c.want)
		}
	}
}

// Any text and pattern are read or refused, and what one pattern wrote it reads.
func FuzzRead(f *testing.F) {
	f.Add("2016-12-15", "yyyy-MM-dd", int64(1481825251155))
	f.Add("+02:00", "XXX", int64(0))
	f.Fuzz(func(t *testing.T, text, pattern string, ms int64) {
		_, _ = Read(text, pattern)
		if p, ok := Java(pattern); ok {
			_ = p.Append(nil, time.UnixMilli(ms%4e12).UTC())
		}
		at := time.UnixMilli((ms%4e12 + 4e12) / 2 % 4e12).UTC()
		const full = "uuuu-MM-dd'T'HH:mm:ss.SSSX"
		p, _ := Java(full)
		wrote := string(p.Append(nil, at))
		if got, ok := Read(wrote, full); !ok || !got.Equal(at) {
			t.Fatalf("%v -> %s -> %v, %v", at, wrote, got, ok)
		}
	})
}
