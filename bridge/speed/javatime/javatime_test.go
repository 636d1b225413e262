package javatime

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAppend(t *testing.T) {
	east := time.FixedZone("EAST", 2*3600+1800)
	at := time.Date(2026, 3, 9, 7, 5, 4, 30e6, time.UTC)
	for _, c := range []struct {
		compile func(string) (Pattern, error)
		pattern string
		zone    *time.Location
		want    string
	}{
		{Java, "yyyy/MM/dd/HH/", time.UTC, "2026/03/09/07/"},
		{Java, "uuuu-D 'o''clock' h a", time.UTC, "2026-68 o'clock 7 AM"},
		{Java, "EEE, d LLL yy k:m:s.SSS", time.UTC, "Mon, 9 Mar 26 7:5:4.030"},
		{Java, "X XXX x xxx Z ZZZZZ z", time.UTC, "Z Z +00 +00:00 +0000 Z UTC"},
		{Joda, "GGGG EEEEE MMMMM", time.UTC, "AD Monday March"},
		{Java, "XXX xx ZZZ z", east, "+02:30 +0230 +0230 EAST"},
		{Joda, "YYYY.MM.dd G 'at' HH:mm:ss z", time.UTC, "2026.03.09 AD at 07:05:04 UTC"},
		{Joda, "xxxx-'W'ww-e Z ZZ", east, "2026-W11-1 +0230 +02:30"},
		{Joda, "EEEE MMMM K", time.UTC, "Monday March 7"},
		{Joda, "''", time.UTC, "'"},
	} {
		p, err := c.compile(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if got := string(p.Append(nil, at.In(c.zone))); got != c.want {
			t.Errorf("%q gives %q, want %q", c.pattern, got, c.want)
		}
	}
	for _, bad := range []string{"'open", "q", strings.Repeat("y", maxPattern+1)} {
		if _, err := Java(bad); err == nil {
			t.Errorf("Java takes %q", bad)
		}
		if _, err := Joda(bad); err == nil {
			t.Errorf("Joda takes %q", bad)
		}
	}
}

// What java.time of OpenJDK 17.0.15 wrote, Locale.US, for 2026-03-09: at
// 07:05:04.030123456 UTC, at 19:05:04.030123456 in Kolkata and at 00:05:04 in
// New York.
func TestJava(t *testing.T) {
	kolkata, ok1 := Zone("Asia/Kolkata")
	york, ok2 := Zone("America/New_York")
	if !ok1 || !ok2 {
		t.Fatal("no zones")
	}
	times := []time.Time{
		time.Date(2026, 3, 9, 7, 5, 4, 30123456, time.UTC),
		time.Date(2026, 3, 9, 19, 5, 4, 30123456, kolkata),
		time.Date(2026, 3, 9, 0, 5, 4, 0, york),
	}
	for pattern, want := range map[string]string{
		"G GGGG GGGGG": "AD Anno Domini A|AD Anno Domini A|AD Anno Domini A",
		"u uu uuu":     "2026 26 2026|2026 26 2026|2026 26 2026",
		"yyyyy":        "02026|02026|02026",
		"M MM MMM":     "3 03 Mar|3 03 Mar|3 03 Mar",
		"MMMM MMMMM":   "March M|March M|March M",
		"LLL LLLL":     "Mar March|Mar March|Mar March",
		"d dd D DDD":   "9 09 68 068|9 09 68 068|9 09 68 068",
		"E EEEE EEEEE": "Mon Monday M|Mon Monday M|Mon Monday M",
		"a HH h k K":   "AM 07 7 7 7|PM 19 7 19 7|AM 00 12 24 0",
		"S SSS":        "0 030|0 030|0 000",
		"SSSSSSSSS":    "030123456|030123456|000000000",
		"n nnn":        "30123456 30123456|30123456 30123456|0 000",
		"X XX XXX":     "Z Z Z|+0530 +0530 +05:30|-04 -0400 -04:00",
		"XXXX XXXXX":   "Z Z|+0530 +05:30|-0400 -04:00",
		"x xx xxx":     "+00 +0000 +00:00|+0530 +0530 +05:30|-04 -0400 -04:00",
		"xxxx xxxxx":   "+0000 +00:00|+0530 +05:30|-0400 -04:00",
		"Z ZZ ZZZ":     "+0000 +0000 +0000|+0530 +0530 +0530|-0400 -0400 -0400",
		"ZZZZ ZZZZZ":   "GMT Z|GMT+05:30 +05:30|GMT-04:00 -04:00",
		"O OOOO":       "GMT GMT|GMT+5:30 GMT+05:30|GMT-4 GMT-04:00",
		"VV":           "UTC|Asia/Kolkata|America/New_York",
		"z zzz":        "UTC UTC|IST IST|EDT EDT",
		"'a''b' ''":    "a'b '|a'b '|a'b '",
	} {
		p, err := Java(pattern)
		if err != nil {
			t.Errorf("%q: %v", pattern, err)
			continue
		}
		var got []string
		for _, at := range times {
			got = append(got, string(p.Append(nil, at)))
		}
		if g := strings.Join(got, "|"); g != want {
			t.Errorf("%q gives %q, want %q", pattern, g, want)
		}
	}
	// Refused there too.
	for _, bad := range []string{"yyyyyyyyyyyyyyyyyyyy", "MMMMMM", "ddd", "DDDD", "EEEEEE", "aa", "HHH", "mmm",
		"SSSSSSSSSS",
		"XXXXXX", "ZZZZZZ", "OO", "V", "{", "}", "#", "yyyy'T"} {
		if _, err := Java(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
		if _, ok := Read("2026", bad); ok {
			t.Errorf("%q reads", bad)
		}
	}
	if _, err := Java("yyyy/HHH"); err == nil || !strings.Contains(err.Error(), `"HHH"`) {
		t.Errorf("the error does not name the field: %v", err)
	}
}

// As OpenJDK 17.0.15 reads.
func TestRead(t *testing.T) {
	for _, c := range []struct{ text, pattern, want string }{
		{"2016-12-15T18:07:31Z", "yyyy-MM-dd'T'HH:mm:ssX", "2016-12-15T18:07:31Z"},
		{"20161215180731123", "yyyyMMddHHmmssSSS", "2016-12-15T18:07:31.123Z"},
		{"15 December 2016", "d MMMM yyyy", "2016-12-15T00:00:00Z"},
		{"2016-12-15 06:07 PM Europe/Paris", "yyyy-MM-dd hh:mm a VV", "2016-12-15T17:07:00Z"},
		// an example of the rule SQL reference
		{"2020-04-03 09:45:18 UTC+01:00", "yyyy-MM-dd HH:mm:ss VV", "2020-04-03T08:45:18Z"},
		{"2020-04-03 09:45:18 GMT-01:30", "yyyy-MM-dd HH:mm:ss VV", "2020-04-03T11:15:18Z"},
		{"2020-04-03 09:45:18 UTC+", "yyyy-MM-dd HH:mm:ss VV", ""},
		{"2016-02-31", "yyyy-MM-dd", "2016-02-29T00:00:00Z"}, // java.time's SMART resolver
		{"2016-12-15 06GMT", "yyyy-MM-dd HHO", "2016-12-15T06:00:00Z"},
		{"2016-12-15 06GMT-4", "yyyy-MM-dd HHO", "2016-12-15T10:00:00Z"},
		{"2016-12-15 06GMT", "yyyy-MM-dd HHZZZZ", "2016-12-15T06:00:00Z"},
		{"2016-12-15 06Z", "yyyy-MM-dd HHZZZZZ", "2016-12-15T06:00:00Z"},
		{"2016-12-15 06+05:30", "yyyy-MM-dd HHXXX", "2016-12-15T00:30:00Z"},
		{"2016-12-15 06+0530", "yyyy-MM-dd HHX", "2016-12-15T00:30:00Z"},
		{"2016-12-15 06+0530", "yyyy-MM-dd HHXXX", ""},
		{"2016-12-15 06Z", "yyyy-MM-dd HHx", ""},
		{"1976-9-17010254777", "uuuu-M-dHHmmssSSS", "1976-09-17T01:02:54.777Z"},
		{"1986-06-8235831", "uuuu-MM-dHHmmss", "1986-06-08T23:58:31Z"},
		{"20165-12-15", "yyyy-MM-dd", ""},
		{"Mon, 9 Mar 2026", "E, d MMM yyyy", "2026-03-09T00:00:00Z"},
		{"Tue, 9 Mar 2026", "E, d MMM yyyy", ""},
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

// As OpenJDK 17.0.15 does with Locale.US: R rows read a text, W rows write a time.
func TestOpenJDK(t *testing.T) {
	table, err := os.ReadFile("testdata/openjdk.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		col := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(col) != 4 {
			t.Fatalf("%q", line)
		}
		pattern, in, want := col[1], col[2], col[3]
		got := "-"
		if col[0] == "R" {
			if at, ok := Read(in, pattern); ok {
				got = strconv.FormatInt(at.UnixMilli(), 10)
			}
		} else {
			at, errTime := time.Parse(time.RFC3339, in)
			p, err := Java(pattern)
			if err != nil || errTime != nil {
				t.Errorf("%q: %v, %v", pattern, err, errTime)
			}
			got = string(p.Append(nil, at))
		}
		if got != want {
			t.Errorf("%s %q by %q: %s, OpenJDK has %s", col[0], in, pattern, got, want)
		}
		if err := CheckRead(pattern); want != "-" && err != nil {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	for _, bad := range []string{"yyyy]", "[yyyy]]", "yyyy[Q]", "[", "cc", "WW"} {
		if err := CheckRead(bad); (err == nil) != (bad == "[") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Any text and pattern are read or refused, and what one pattern wrote it reads.
func FuzzRead(f *testing.F) {
	f.Add("2016-12-15", "yyyy-MM-dd", int64(1481825251155))
	f.Add("+02:00", "XXX", int64(0))
	f.Fuzz(func(t *testing.T, text, pattern string, ms int64) {
		_, _ = Read(text, pattern)
		if p, err := Java(pattern); err == nil {
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
