package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal/form"
)

// Names as AWS IoT has them for things; a sensor's is one level of a topic.
func thingName(s string) bool    { return form.Thing.Is(s, 1, 128) }
func templateName(s string) bool { return form.Name.Is(s, 1, 36) }
func sensorName(s string) bool   { return form.Thing.Is(s, 1, 64) }

// maxSocket is the longest path of a Unix socket on Linux, without its end.
const maxSocket = 107

// maxTopic is the longest topic, in bytes, as AWS IoT has it (service quotas, message broker).
const maxTopic = 256

const (
	ms   = Duration(time.Millisecond)
	sec  = Duration(time.Second)
	hour = 3600 * sec
	day  = 24 * hour
)

// A findings gathers what is wrong. Keys that already have an error are left alone.
type findings struct {
	seen map[string]bool
	errs []error
}

func (f *findings) bad(key string, got any, want string) {
	if !f.seen[key] {
		f.errs = append(f.errs, fmt.Errorf("%s: %v, want %s", key, got, want))
	}
}

// text wants got to be one of want.
func (f *findings) text(key, got string, want ...string) {
	if !slices.Contains(want, got) {
		f.bad(key, strconv.Quote(got), strings.Join(want, " or "))
	}
}

// span wants got to be from low to high.
func (f *findings) span(key string, got, low, high Duration) {
	if got < low || got > high {
		f.bad(key, got, fmt.Sprintf("%v to %v", low, high))
	}
}

// form wants a text of which is holds.
func (f *findings) form(key, got string, is func(string) bool, want string) {
	if !is(got) {
		f.bad(key, strconv.Quote(got), want)
	}
}

// option takes what a driver has against a sensor's options.
func (f *findings) option(i int, name string, err error) {
	f.errs = append(f.errs, fmt.Errorf("sensor[%d]: %q: %w", i, name, err))
}

// socket wants a path that is short enough for a socket.
func (f *findings) socket(key, got string) {
	if len(got) > maxSocket {
		f.bad(key, got, fmt.Sprintf("a path of at most %d bytes", maxSocket))
	}
}

// clientID wants what a broker takes as one.
func (f *findings) clientID(key, got string) {
	if len(got) > 128 || strings.HasPrefix(got, "$") {
		f.bad(key, strconv.Quote(got), "at most 128 bytes that do not begin with $")
	}
}

// topic wants what can be published to.
func (f *findings) topic(key, got string) {
	if strings.ContainsAny(got, "+#\x00") || len(got) > maxTopic {
		f.bad(key, strconv.Quote(got), fmt.Sprintf("a topic of at most %d bytes without + and #", maxTopic))
	}
}

func (h *Health) check(f *findings, socket string) {
	f.socket("health.metrics", h.Metrics)
	if h.Metrics != "" && h.Metrics == socket {
		f.bad("health.metrics", h.Metrics, "another path than socket has")
	}
}

func (b *Budget) check(f *findings) {
	if b.Monthly != 0 && b.Monthly < 1e6 {
		f.bad("budget.monthly", int64(b.Monthly), "0 for none, or at least 1 MB")
	}
	if b.Day < 1 || b.Day > 28 {
		f.bad("budget.day", b.Day, "1 to 28")
	}
	f.span("budget.flush_every", b.FlushEvery, sec, hour)
	f.text("budget.used", b.Used, budgetSends, BudgetWaits)
}

// check returns what is wrong with the values. Keys that already have an
// error in before are left alone.
func (c *Config) check(before []error, options func(string, map[string]any) []error) []error {
	f := &findings{seen: map[string]bool{}}
	for _, err := range before {
		key, _, _ := strings.Cut(err.Error(), ": ")
		f.seen[key] = true
	}
	if c.Thing != "" || c.Provision.Template == "" {
		f.form("thing", c.Thing, thingName, "1 to 128 characters of a-z A-Z 0-9 : _ -")
	}
	if c.DataDir == "" {
		f.bad("data_dir", `""`, "a path")
	}
	c.Uplink.checkSecurity(f.text, f.bad)
	c.Provision.check(f)
	c.Board.check(f)
	c.Budget.check(f)
	f.socket("socket", c.Socket)
	c.Health.check(f, c.Socket)
	for _, t := range []struct {
		key, got string
		want     []string
	}{
		{"log.level", c.Log.Level, []string{"debug", "info", "warn", "error"}},
		{"log.format", c.Log.Format, []string{"json", "text"}},
		{"board.kind", c.Board.Kind, []string{"linux", "sim"}},
		{"uplink.format", c.Uplink.Format, []string{"batch", "json"}},
		{"spool.overflow", c.Spool.Overflow, []string{DropOldest, DropNewest, RefuseNew, ThinOut}},
		{"shadow.desired_wins", c.Shadow.Desired, []string{"cloud", "device"}},
		{"shadow.reported_wins", c.Shadow.Reported, []string{"device", "cloud"}},
	} {
		f.text(t.key, t.got, t.want...)
	}
	for _, t := range []struct {
		key            string
		got, low, high Duration
	}{
		{"uplink.keepalive", c.Uplink.KeepAlive, 5 * sec, 1200 * sec},
		{"uplink.connect_timeout", c.Uplink.ConnectTimeout, sec, 300 * sec},
		{"uplink.ack_timeout", c.Uplink.AckTimeout, sec, hour},
		{"uplink.backoff_min", c.Uplink.BackoffMin, ms, hour},
		{"uplink.backoff_max", c.Uplink.BackoffMax, c.Uplink.BackoffMin, day},
		{"uplink.stable_after", c.Uplink.StableAfter, 0, day},
		{"uplink.drain", c.Uplink.Drain, 0, 60 * sec},
		{"spool.flush_every", c.Spool.FlushEvery, 10 * ms, hour},
		{"spool.max_loss", c.Spool.MaxLoss, sec, day},
		{"spool.max_age", c.Spool.MaxAge, 0, 10 * 365 * day},
		{"clock.wait", c.Clock.Wait, 0, 365 * day},
		{"clock.cert_window", c.Clock.CertWindow, hour, 100 * 365 * day},
		{"shadow.report_every", c.Shadow.ReportEvery, 50 * ms, day},
	} {
		f.span(t.key, t.got, t.low, t.high)
	}
	c.Uplink.check(f)
	c.Spool.check(f)
	if c.Card.Cycles < 1 || c.Card.Cycles > 1_000_000 {
		f.bad("card.cycles", c.Card.Cycles, "1 to 1000000")
	}
	c.checkSensors(f, options)
	return f.errs
}

func (s *Spool) check(f *findings) {
	if s.MaxWrites != 0 && s.MaxWrites < 1<<18 {
		f.bad("spool.max_writes", int64(s.MaxWrites), "at least 256 KiB/day, or 0 for no bound")
	}
	if s.MaxBytes < 1<<20 {
		f.bad("spool.max_bytes", int64(s.MaxBytes), "at least 1 MiB")
	} else if strconv.IntSize == 32 && s.MaxBytes > 256<<20 {
		// bbolt maps the file, which must fit the address space.
		f.bad("spool.max_bytes", int64(s.MaxBytes), "at most 256 MiB on a 32-bit machine")
	}
}

func (p *Provision) check(f *findings) {
	if p.Template == "" {
		return
	}
	if p.ClaimCert == "" {
		f.bad("provision.claim_cert", `""`, "a path")
	}
	if p.ClaimKey == "" {
		f.bad("provision.claim_key", `""`, "a path")
	}
	const want = "1 to 36 characters of a-z A-Z 0-9 _ -"
	f.form("provision.template", p.Template, templateName, want)
	f.form("provision.rotate_template", p.RotateTemplate, templateName, want)
	f.clientID("provision.client_id", p.ClientID)
}

func (u *Uplink) check(f *findings) {
	if host, port, err := net.SplitHostPort(u.Endpoint); err != nil || host == "" {
		f.bad("uplink.endpoint", strconv.Quote(u.Endpoint), "host:port, such as bridge.example.net:8883")
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		f.bad("uplink.endpoint", strconv.Quote(u.Endpoint), "a port from 1 to 65535")
	}
	f.clientID("uplink.client_id", u.ClientID)
	f.span("uplink.keepalive_max", u.KeepAliveMax, 0, 1200*sec)
	if u.Inflight < 1 || u.Inflight > 100 {
		f.bad("uplink.inflight", u.Inflight, "1 to 100")
	}
	f.topic("uplink.topic", u.Topic)
	f.topic("uplink.presence_topic", u.PresenceTopic)
	if u.Format == "json" && !strings.Contains(u.Topic, "{sensor}") {
		f.bad("uplink.topic", strconv.Quote(u.Topic), "a topic with {sensor} in it")
	}
}

// checkSecurity checks what depends on Security.
func (u *Uplink) checkSecurity(text func(key, got string, want ...string), bad func(key string, got any, want string)) {
	text("uplink.security", u.Security, MutualTLS, ServerTLS, Plaintext)
	const mutual, server, plain = 1, 2, 4
	is := map[string]int{MutualTLS: mutual, ServerTLS: server, Plaintext: plain}[u.Security]
	for _, f := range []struct {
		key, got     string
		needed, none int // by Security
		want         string
	}{
		{"uplink.ca", u.CA, mutual | server, plain, `a path, or "system" for the CAs that the system trusts`},
		{"uplink.cert", u.Cert, mutual, server | plain,
			`a path; for a broker that takes a user and password: security = "tls"`},
		{"uplink.key", u.Key, mutual, server | plain, "a path"},
	} {
		if f.got == "" && is&f.needed != 0 {
			bad(f.key, `""`, f.want)
		} else if f.got != "" && is&f.none != 0 {
			bad(f.key, strconv.Quote(f.got), fmt.Sprintf("none with security = %q", u.Security))
		}
	}
	if u.Security == Plaintext && u.Format == "batch" {
		bad("uplink.format", strconv.Quote(u.Format),
			`"json" with security = "plaintext": batches are for a tidemill-bridge, which takes devices over TLS`)
	}
	if u.User == "" && u.PasswordFile != "" {
		bad("uplink.user", `""`, "a name beside uplink.password_file")
	} else if u.User != "" && u.PasswordFile == "" {
		bad("uplink.password_file", `""`, "a path beside uplink.user")
	}
}
