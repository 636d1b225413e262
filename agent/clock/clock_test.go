package clock

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/telemetry"
)

// A machine is what a Clock reads.
type machine struct{ r kernel.Reading }

func (m *machine) read() kernel.Reading { return m.r }

func (m *machine) pass(d time.Duration) {
	m.r.Boot += d
	m.r.Wall = m.r.Wall.Add(d)
}

func day(n int) time.Time { return time.Date(2027, 1, n, 0, 0, 0, 0, time.UTC) }

func openClock(t *testing.T, m *machine, dir string, floors ...time.Time) *Clock {
	t.Helper()
	return Open(Options{Dir: dir, Start: [16]byte{1}, Floors: floors, Read: m.read, BootID: "b",
		Window: 100 * 24 * time.Hour}, nil)
}

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: day(1).AddDate(-9, 0, 0), NotAfter: day(1).AddDate(99, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert, _ = x509.ParseCertificate(der)
	a.pool.AddCert(a.cert)
	return a
}

// server is a certificate that is valid from one day to another.
func (a *authority) server(t *testing.T, from, to time.Time) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"bridge.test"}, NotBefore: from,
		NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// shake does what the uplink does: one handshake, and one more if the clock says so.
func shake(c *Clock, roots *x509.CertPool, cert tls.Certificate) error {
	try := func() error {
		client, server := net.Pipe()
		defer client.Close()
		go func() {
			_ = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
			_ = server.Close()
		}()
		return tls.Client(client, &tls.Config{RootCAs: roots, ServerName: "bridge.test", Time: c.CertTime}).Handshake()
	}
	err := try()
	if err != nil && c.Refused(err) {
		err = try()
	}
	return err
}

// While the time is not known a certificate may begin later than the newest time that
// was known, by a window, and may not have ended before it; its chain is checked as
// ever. When it is known that time alone counts.
func TestCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	unset := time.Unix(9, 0)
	year := func(n int) time.Time { return day(1).AddDate(n, 0, 0) }
	for name, tc := range map[string]struct {
		wall     time.Time
		from, to time.Time
		by       *authority
		known    time.Time
		ok       bool
	}{
		"1970, valid at the floor":             {unset, year(-1), year(1), a, time.Time{}, true},
		"1970, begins later":                   {unset, day(50), year(1), a, time.Time{}, true},
		"1970, begins beyond the window":       {unset, day(1).AddDate(0, 0, 101), year(1), a, time.Time{}, false},
		"1970, ended before the floor":         {unset, year(-2), day(1).Add(-time.Second), a, time.Time{}, false},
		"1970, another CA":                     {unset, year(-1), year(1), other, time.Time{}, false},
		"1970, another CA, begins later":       {unset, day(50), year(1), other, time.Time{}, false},
		"a guess, valid then":                  {day(60), day(50), day(70), a, time.Time{}, true},
		"a guess, ended by then":               {day(90), day(50), day(70), a, time.Time{}, true}, // it may be wrong
		"a guess far ahead":                    {year(20), day(50), day(70), a, time.Time{}, true},
		"a guess far ahead, valid there alone": {year(20), year(19), year(21), a, time.Time{}, false},
		"known, valid":                         {day(60), day(50), day(70), a, day(60), true},
		"known, begins later":                  {day(40), day(50), day(70), a, day(40), false},
		"known, ended":                         {day(90), day(50), day(70), a, day(90), false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{kernel.Reading{Boot: time.Hour, Wall: tc.wall}}
			if !tc.known.IsZero() {
				m.r.Synced, m.r.Wall = true, tc.known
			}
			c := openClock(t, m, "", day(1))
			for range 2 { // the second connection is as the first
				if err := shake(c, a.pool, tc.by.server(t, tc.from, tc.to)); (err == nil) != tc.ok {
					t.Errorf("%v", err)
				}
			}
		})
	}
	m := &machine{kernel.Reading{Boot: time.Hour, Wall: time.Unix(9, 0)}}
	c := openClock(t, m, "", day(1))
	if c.Refused(errors.New("no route")) {
		t.Error("tries again without a certificate")
	}
}

// What was known is a floor after a reboot, and a file that is damaged is none.
func TestFloorIsKept(t *testing.T) {
	dir := t.TempDir()
	m := &machine{kernel.Reading{Boot: time.Minute, Wall: day(20), Synced: true}}
	c := openClock(t, m, dir, day(1))
	c.Stamp()
	m.pass(3 * time.Hour)
	c.Stamp() // written now and then; no end
	m = &machine{kernel.Reading{Boot: 2 * time.Second, Wall: time.Unix(3, 0)}}
	c = openClock(t, m, dir, day(1))
	if at := c.CertTime(); at.Before(day(20).Add(2*time.Hour+59*time.Minute)) || at.After(day(20).Add(4*time.Hour)) {
		t.Errorf("judges by %v", at)
	}
	if s := c.Stamp(); s.Known || s.Now < day(20).UnixMilli() {
		t.Errorf("%+v", s)
	}
	// It is written some times an hour at most.
	before, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil || before.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", before, err)
	}
	for range 100 {
		m.pass(5 * time.Second)
		c.Stamp()
	}
	if after, err := os.Stat(filepath.Join(dir, fileName)); err != nil || after.ModTime() != before.ModTime() {
		t.Errorf("written again: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = openClock(t, m, dir, day(2))
	if at := c.CertTime(); at.Before(day(2)) || at.After(day(3)) {
		t.Errorf("judges by %v", at)
	}
}

// ask has c ask, and returns the nonce.
func ask(t *testing.T, c *Clock) string {
	t.Helper()
	q, _ := c.Ask(true)
	var r telemetry.TimeRequest
	if err := json.Unmarshal(q, &r); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return r.Nonce
}

// Only the answer to the question that was asked counts, within half the round trip,
// and not one that is before a time that was known.
func TestBridgeTime(t *testing.T) {
	m := &machine{kernel.Reading{Boot: time.Hour, Wall: time.Unix(3, 0)}}
	c := openClock(t, m, "", day(10))
	answer := func(nonce string, at time.Time, off int64) {
		text, _ := json.Marshal(telemetry.TimeAnswer{Nonce: nonce, Time: at.UnixMilli(), Error: off})
		c.Answer(text, day(1), day(40))
	}
	known := func() bool { return c.Status().Known }
	old := ask(t, c)
	nonce := ask(t, c)
	answer("", day(20), 1)
	answer(old, day(20), 1)
	answer(nonce, day(20), -1)
	answer(nonce, time.UnixMilli(1<<60), 1)
	c.Answer([]byte("{"), day(1), day(40))
	if known() {
		t.Fatal("took what is no answer")
	}
	answer(nonce, day(9), 5)
	if st := c.Status(); st.Known || !strings.Contains(st.Refused, "2027-01-09") {
		t.Fatalf("took a time before one that was known: %+v", st)
	}
	// By a time at which its certificate is not valid, no bridge would be believed any more.
	for _, at := range []time.Time{day(365 * 20), day(41)} {
		answer(ask(t, c), at, 5)
		if st := c.Status(); st.Known || !strings.Contains(st.Refused, "its certificate is valid from 2027-01-01") {
			t.Fatalf("took %v: %+v", at, st)
		}
	}
	text, _ := json.Marshal(telemetry.TimeAnswer{Nonce: ask(t, c), Time: day(20).UnixMilli(), Error: 1})
	if c.Answer(text, day(21), day(40)); known() {
		t.Fatal("took a time before the bridge's certificate")
	}
	nonce = ask(t, c)
	m.pass(3 * time.Second)
	answer(nonce, day(20), 5)
	st := c.Status()
	if !st.Known || st.Source != Bridge || st.Error < 1500*time.Millisecond || st.Error > 1520*time.Millisecond ||
		st.Refused != "" || st.Now.Sub(day(20)).Abs() > 1600*time.Millisecond {
		t.Errorf("%+v", st)
	}
	// It is asked again when that has grown by half; a time service ends the asking.
	if q, next := c.Ask(false); q != nil || next < 30*time.Minute {
		t.Errorf("%s, %v", q, next)
	}
	m.pass(2 * time.Hour)
	if q, _ := c.Ask(false); q == nil {
		t.Error("did not ask again")
	}
	m.r.Synced, m.r.Wall = true, day(20).Add(2*time.Hour)
	if q, _ := c.Ask(true); q != nil || c.Status().Source != Kernel {
		t.Error("asks although a time service holds the clock")
	}
}

// A time service may say that what was known was wrong; the floor follows it.
func TestHeldClockIsBelieved(t *testing.T) {
	m := &machine{kernel.Reading{Boot: time.Hour, Wall: day(5), Synced: true}}
	c := openClock(t, m, "", day(20))
	if st := c.Status(); !st.Known || !st.Now.Equal(day(5)) {
		t.Errorf("%+v", st)
	}
	if at := c.CertTime(); !at.Equal(day(5)) {
		t.Errorf("judges by %v", at)
	}
}

func TestBuilt(t *testing.T) {
	if b := Built(); b.Before(written) || b.After(time.Now().AddDate(1, 0, 0)) && time.Now().After(written) {
		t.Error(b)
	}
}

// What a batch says itself counts where the clock has forgotten more.
func TestBatchKnowsMore(t *testing.T) {
	m := &machine{kernel.Reading{Boot: time.Hour, Wall: time.Unix(3, 0)}}
	c := openClock(t, m, "", day(1))
	batch := func(boot byte, clock telemetry.Clock) []byte {
		p, err := telemetry.Append(nil, &telemetry.Batch{
			Header: telemetry.Header{Seq: 1, Boot: [16]byte{boot}, Clock: clock,
				Time: telemetry.Time{Anchor: day(2).UnixMilli() - 60_000, Bound: 5000}},
			Series: []telemetry.Series{{Sensor: "s", Times: []int64{day(2).UnixMilli()}}}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for boot, name := range map[byte]string{1: "this boot", 9: "a boot that is forgotten"} {
		out, known := c.Fix(batch(boot, telemetry.ClockSynced))
		if h, err := telemetry.DecodeHeader(out); err != nil || !known || h.Time.Bound != 5000 ||
			h.Clock != telemetry.ClockSynced {
			t.Errorf("%s: %+v, %v, %v", name, h, known, err)
		}
		c.Sent(1)
		if _, known := c.Fix(batch(boot+1, telemetry.ClockUnknown)); known {
			t.Errorf("%s: known", name)
		}
	}
	// The time is learned: a batch of a boot that is forgotten was before this one, and
	// not before what was known when it was sealed.
	m.r.Synced, m.r.Wall = true, day(4)
	m.pass(time.Hour)
	c.Stamp()
	out, known := c.Fix(batch(10, telemetry.ClockUnknown))
	b, err := telemetry.Decode(out)
	if err != nil || !known {
		t.Fatal(known, err)
	}
	at := time.UnixMilli(b.Series[0].Times[0])
	if begin := day(3).Add(23 * time.Hour); at.Before(day(2)) || at.After(begin.Add(time.Hour)) ||
		at.Add(-time.Duration(b.Time.Bound)*time.Millisecond).After(day(2)) {
		t.Errorf("%v within %d ms", at, b.Time.Bound)
	}
}

// BenchmarkFix is what a batch of 60 readings of 4 channels that waited for its time
// costs when it is sent.
func BenchmarkFix(b *testing.B) {
	m := &machine{kernel.Reading{Boot: time.Hour, Wall: day(2), Synced: true}}
	c := Open(Options{Start: [16]byte{1}, Read: m.read, BootID: "b"}, nil)
	batch := &telemetry.Batch{Header: telemetry.Header{Boot: [16]byte{1}, Seq: 1,
		Time: telemetry.Time{Anchor: 5, Bound: 9}},
		Series: []telemetry.Series{{Sensor: "climate"}}}
	s := &batch.Series[0]
	for _, name := range []string{"temperature", "humidity", "pressure", "dew_point"} {
		s.Columns = append(s.Columns, telemetry.Column{Name: name, Kind: telemetry.Float})
	}
	for i := range 60 {
		s.Times = append(s.Times, int64(i)*1000)
		for j := range s.Columns {
			s.Columns[j].Floats = append(s.Columns[j].Floats, float64(2000+i*j%17)/100)
		}
	}
	raw, err := telemetry.Append(nil, batch)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, known := c.Fix(raw); !known {
			b.Fatal("unknown")
		}
		c.Sent(1)
	}
}

// BenchmarkTaken is what the time of a reading costs.
func BenchmarkTaken(b *testing.B) {
	c := Open(Options{}, nil)
	b.ReportAllocs()
	for b.Loop() {
		c.Taken(time.Now())
	}
}

// A clock that a time service holds to within seconds alone is no news at each look.
func TestWritesOfAPoorClock(t *testing.T) {
	m := &machine{kernel.Reading{Boot: time.Hour, Wall: day(5), Synced: true, MaxError: 2 * time.Second}}
	c := openClock(t, m, t.TempDir(), day(1))
	c.Stamp()
	changed, wakes, writes, last := c.Changed(), 0, 0, c.saved
	for range 24 * 60 * 6 {
		m.pass(10 * time.Second)
		m.r.Wall = m.r.Wall.Add(time.Millisecond)
		c.Stamp()
		if c.saved != last {
			writes, last = writes+1, c.saved
		}
		select {
		case <-changed:
			changed, wakes = c.Changed(), wakes+1
		default:
		}
	}
	if writes < 20 || writes > 30 || wakes > 1 {
		t.Errorf("%d writes and %d wakes in a day", writes, wakes)
	}
	// A much better time is news at once.
	m.pass(time.Minute)
	m.r.MaxError = 10 * time.Millisecond
	if c.Stamp(); c.saved == last {
		t.Error("a time that has become good is not written")
	}
}

// What could not be written is tried again, not an hour later.
func TestWriteThatFails(t *testing.T) {
	m := &machine{kernel.Reading{Boot: time.Hour, Wall: time.Unix(3, 0)}}
	dir := filepath.Join(t.TempDir(), "data")
	c := openClock(t, m, dir, day(1)) // there is no such folder yet
	m.r.Synced, m.r.Wall = true, day(5)
	c.Stamp()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.pass(5 * time.Second)
	c.Stamp()
	if rec, err := load(dir); err != nil || len(rec.Boots) != 1 || len(rec.Boots[0].Anchors) == 0 {
		t.Errorf("%+v, %v", rec, err)
	}
}
