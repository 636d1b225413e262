// Package config reads the agent's configuration: defaults, then the TOML
// file, then the environment, then flags. Unknown keys are refused and every
// bad value is reported at once, each by its key. Paths in the result are
// absolute or relative to the working directory; in the file they are
// relative to the file's folder.
package config

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/tidemill/tidemill/agent/provision"
)

// Sample is a commented configuration file with every key.
//
//go:embed sample.toml
var Sample string

// A Config is the whole configuration. The tags are the keys in the file and
// the variables of the environment.
type Config struct {
	Thing   string `toml:"thing" env:"TIDEMILL_THING"`
	DataDir string `toml:"data_dir" env:"TIDEMILL_DATA_DIR" path:"yes"`
	Socket  string `toml:"socket" env:"TIDEMILL_SOCKET" path:"yes"` // default: agent.sock in DataDir

	Log    Log    `toml:"log"`
	Board  Board  `toml:"board"`
	Uplink Uplink `toml:"uplink"`
	Spool  Spool  `toml:"spool"`
	Health Health `toml:"health"`
	Shadow Shadow `toml:"shadow"`

	Provision Provision `toml:"provision"`
	Sensors   []Sensor  `toml:"sensor"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `toml:"level" env:"TIDEMILL_LOG_LEVEL"` // debug, info, warn, error
	Format string `toml:"format"`                         // json, text
}

// Board says where buses and lines come from.
type Board struct {
	Kind string `toml:"kind"` // linux, sim
	Seed int64  `toml:"seed"` // of the simulated weather
}

// Uplink says where the readings go.
type Uplink struct {
	Endpoint       string   `toml:"endpoint" env:"TIDEMILL_ENDPOINT"` // host:port
	Security       string   `toml:"security"`                         // see the constants below
	CA             string   `toml:"ca" env:"TIDEMILL_CA" path:"yes"`  // or SystemRoots
	Cert           string   `toml:"cert" env:"TIDEMILL_CERT" path:"yes"`
	Key            string   `toml:"key" env:"TIDEMILL_KEY" path:"yes"`
	User           string   `toml:"user" env:"TIDEMILL_USER"`
	PasswordFile   string   `toml:"password_file" env:"TIDEMILL_PASSWORD_FILE" path:"yes"`
	ServerName     string   `toml:"tls_server_name"` // default: the endpoint's host
	ClientID       string   `toml:"client_id"`       // default: the thing's name
	KeepAlive      Duration `toml:"keepalive"`
	Inflight       int64    `toml:"inflight"`
	Format         string   `toml:"format"` // batch, json
	Topic          string   `toml:"topic"`  // for json; {thing} and {sensor} are filled in
	PresenceTopic  string   `toml:"presence_topic"`
	ConnectTimeout Duration `toml:"connect_timeout"`
	AckTimeout     Duration `toml:"ack_timeout"`
	BackoffMin     Duration `toml:"backoff_min"`
	BackoffMax     Duration `toml:"backoff_max"`
	StableAfter    Duration `toml:"stable_after"`
	Drain          Duration `toml:"drain"`
}

// The values of Uplink.Security.
const (
	MutualTLS = "mutual-tls" // both ends have a certificate
	ServerTLS = "tls"        // only the broker has
	Plaintext = "plaintext"  // neither: everybody on the way can read and change what is sent
)

// SystemRoots in place of a path takes the CAs that the system trusts.
const SystemRoots = "system"

// Spool says how much is kept while there is no connection.
type Spool struct {
	FlushEvery Duration `toml:"flush_every"`
	MaxBytes   Size     `toml:"max_bytes"`
	MaxAge     Duration `toml:"max_age"`  // 0: no limit
	Overflow   string   `toml:"overflow"` // drop-oldest, refuse-new
}

// Health says where metrics are served beside the status socket.
type Health struct {
	Metrics string `toml:"metrics" path:"yes"` // path of a Unix socket, "" for none
}

// Shadow says how the device keeps its shadow.
type Shadow struct {
	Enabled     bool     `toml:"enabled"`
	ReportEvery Duration `toml:"report_every"`
	// Which end wins a place that both changed while apart: cloud or device.
	Desired  string `toml:"desired_wins"`
	Reported string `toml:"reported_wins"`
}

// Provision says how the device gets its identity by a claim certificate. With a
// template, the identity is in DataDir, and Uplink's Cert and Key are there.
type Provision struct {
	Template       string         `toml:"template" env:"TIDEMILL_TEMPLATE"` // "": no provisioning
	RotateTemplate string         `toml:"rotate_template"`                  // default: Template
	ClaimCert      string         `toml:"claim_cert" path:"yes"`
	ClaimKey       string         `toml:"claim_key" path:"yes"`
	ClientID       string         `toml:"client_id"`  // of the claim
	Parameters     map[string]any `toml:"parameters"` // texts; {serial} and {hostname} are filled in
	Retire         bool           `toml:"retire"`
	RemoveClaim    bool           `toml:"remove_claim"` // its key, when the device is provisioned
}

// A Sensor is one source of readings.
type Sensor struct {
	Name    string         `toml:"name"`
	Driver  string         `toml:"driver"`
	Every   Duration       `toml:"every"`
	Timeout Duration       `toml:"timeout"` // of one reading; default: Every, at most 10 s
	Options map[string]any `toml:"options"`
}

// A Duration is written "5s", "1m30s".
type Duration time.Duration

// A Size is a number of bytes, or "64 MiB".
type Size int64

// Default returns what holds without a file.
func Default() Config {
	sec := func(n int) Duration { return Duration(time.Duration(n) * time.Second) }
	return Config{
		Log:   Log{Level: "info", Format: "json"},
		Board: Board{Kind: "linux"},
		Uplink: Uplink{Security: MutualTLS, KeepAlive: sec(60), Inflight: 16, Format: "batch",
			Topic:         "dt/{thing}/{sensor}",
			PresenceTopic: "presence/{thing}", ConnectTimeout: sec(20), AckTimeout: sec(30),
			BackoffMin: sec(1), BackoffMax: sec(120), StableAfter: sec(60), Drain: sec(5)},
		Spool:  Spool{FlushEvery: sec(5), MaxBytes: 64 << 20, Overflow: "drop-oldest"},
		Shadow: Shadow{Enabled: true, ReportEvery: sec(1), Desired: "cloud", Reported: "device"},

		Provision: Provision{Retire: true},
	}
}

// A Source says what a configuration is made of.
type Source struct {
	Path   string                      // "" for no file
	Lookup func(string) (string, bool) // of the environment, os.LookupEnv; nil for none
	Flags  map[string]string           // key, such as "log.level", to value
	Files  bool                        // also tell what is wrong with the files that are named
	// CheckOptions returns what is wrong with a driver's options, each error
	// beginning with its key; nil checks nothing.
	CheckOptions func(driver string, opts map[string]any) []error
}

// Load reads and checks a configuration. All that is wrong is in the error,
// one line each.
func Load(src Source) (Config, error) {
	c := Default()
	var errs []error
	dir := ""
	if src.Path != "" {
		text, err := os.ReadFile(src.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return c, fmt.Errorf(
				"config: %w: name one with -config, or make one: tidemill-agent config sample > agent.toml", err)
		} else if err != nil {
			return c, fmt.Errorf("config: %w", err)
		}
		var file map[string]any
		if _, err := toml.Decode(string(text), &file); err != nil {
			if p, ok := errors.AsType[toml.ParseError](err); ok {
				return c, fmt.Errorf("config: %s:%d: %s", src.Path, p.Position.Line, p.Message)
			}
			return c, fmt.Errorf("config: %s: %w", src.Path, err)
		}
		dir = filepath.Dir(src.Path)
		errs = decode(file, &c)
	}
	resolve(&c, dir)
	if src.Lookup != nil {
		errs = append(errs, environment(&c, src.Lookup)...)
	}
	errs = append(errs, flags(&c, src.Flags)...)
	errs = append(errs, c.identity()...)
	c.derive()
	errs = append(errs, c.check(errs, src.CheckOptions)...)
	if src.Files {
		errs = append(errs, c.Files()...)
	}
	slices.SortStableFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return c, errors.Join(errs...)
}

// identity fills in what the device was provisioned as. If it was not yet, Thing
// stays empty.
func (c *Config) identity() (errs []error) {
	if c.Provision.Template == "" {
		return nil
	}
	p := &c.Provision
	p.RotateTemplate = cmp.Or(p.RotateTemplate, p.Template)
	host, _ := os.Hostname()
	for k, v := range p.Parameters {
		s, ok := v.(string)
		if !ok {
			errs = append(errs, fmt.Errorf("provision.parameters.%s: %v, want a string", k, v))
			continue
		}
		if serial := provision.Serial(); serial != "" {
			s = strings.ReplaceAll(s, "{serial}", serial)
		}
		if s = strings.ReplaceAll(s, "{hostname}", host); strings.Contains(s, "{serial}") {
			errs = append(errs, fmt.Errorf(
				"provision.parameters.%s: %q, want a text without {serial}: this machine shows no serial number", k, s))
		}
		p.Parameters[k] = s
	}
	p.ClientID = cmp.Or(p.ClientID, "claim-"+cmp.Or(provision.Serial(), host))
	if c.Uplink.Security != MutualTLS {
		errs = append(errs, fmt.Errorf("uplink.security: %q, want %q beside provision.template", c.Uplink.Security,
			MutualTLS))
		return errs
	}
	if c.Uplink.Cert != "" || c.Uplink.Key != "" {
		errs = append(errs, fmt.Errorf(
			"uplink.cert: %q, want none nor uplink.key beside provision.template: the identity is in data_dir",
			c.Uplink.Cert))
	}
	c.Uplink.Cert, c.Uplink.Key = provision.Paths(c.DataDir)
	id, err := provision.Current(c.DataDir)
	switch {
	case errors.Is(err, provision.ErrNotProvisioned):
	case err != nil:
		errs = append(errs, fmt.Errorf("data_dir: %w", err))
	case c.Thing == "":
		c.Thing = id.Thing
	case c.Thing != id.Thing:
		errs = append(errs, fmt.Errorf("thing: %q, want none, or %q: as which this device was provisioned", c.Thing,
			id.Thing))
	}
	return errs
}

// derive fills in what follows from other values.
func (c *Config) derive() {
	if c.Socket == "" && c.DataDir != "" {
		c.Socket = filepath.Join(c.DataDir, "agent.sock")
	}
	if c.Uplink.ClientID == "" {
		c.Uplink.ClientID = c.Thing
	}
	c.Uplink.PresenceTopic = strings.ReplaceAll(c.Uplink.PresenceTopic, "{thing}", c.Thing)
	c.Uplink.Topic = strings.ReplaceAll(c.Uplink.Topic, "{thing}", c.Thing)
	for i := range c.Sensors {
		if s := &c.Sensors[i]; s.Timeout == 0 {
			s.Timeout = min(s.Every, Duration(10*time.Second))
		}
	}
}

// Names as AWS IoT has them for things; a sensor's is one level of a topic.
var (
	thingName    = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
	templateName = regexp.MustCompile(`^[0-9A-Za-z_-]{1,36}$`)
	sensorName   = regexp.MustCompile(`^[A-Za-z0-9_:-]{1,64}$`)
)

// maxSocket is the longest path of a Unix socket on Linux, without its end.
const maxSocket = 107

// check returns what is wrong with the values. Keys that already have an
// error in before are left alone.
func (c *Config) check(before []error, options func(string, map[string]any) []error) (errs []error) {
	seen := map[string]bool{}
	for _, err := range before {
		key, _, _ := strings.Cut(err.Error(), ": ")
		seen[key] = true
	}
	bad := func(key string, got any, want string) {
		if !seen[key] {
			errs = append(errs, fmt.Errorf("%s: %v, want %s", key, got, want))
		}
	}
	text := func(key, got string, want ...string) {
		if !slices.Contains(want, got) {
			bad(key, strconv.Quote(got), strings.Join(want, " or "))
		}
	}
	span := func(key string, got, low, high Duration) {
		if got < low || got > high {
			bad(key, got, fmt.Sprintf("%v to %v", low, high))
		}
	}
	const (
		ms   = Duration(time.Millisecond)
		s    = Duration(time.Second)
		hour = 3600 * s
		day  = 24 * hour
	)
	if !thingName.MatchString(c.Thing) && (c.Thing != "" || c.Provision.Template == "") {
		bad("thing", strconv.Quote(c.Thing), "1 to 128 characters of a-z A-Z 0-9 : _ -")
	}
	if c.DataDir == "" {
		bad("data_dir", `""`, "a path")
	}
	c.Uplink.checkSecurity(text, bad)
	if p := &c.Provision; p.Template != "" {
		for _, f := range []struct{ key, got string }{{"provision.claim_cert", p.ClaimCert},
			{"provision.claim_key", p.ClaimKey}} {
			if f.got == "" {
				bad(f.key, `""`, "a path")
			}
		}
		for _, f := range []struct{ key, got string }{{"provision.template", p.Template},
			{"provision.rotate_template", p.RotateTemplate}} {
			if !templateName.MatchString(f.got) {
				bad(f.key, strconv.Quote(f.got), "1 to 36 characters of a-z A-Z 0-9 _ -")
			}
		}
		if n := len(p.ClientID); n > 128 || strings.HasPrefix(p.ClientID, "$") {
			bad("provision.client_id", strconv.Quote(p.ClientID), "at most 128 bytes that do not begin with $")
		}
	}
	if len(c.Socket) > maxSocket {
		bad("socket", c.Socket, fmt.Sprintf("a path of at most %d bytes", maxSocket))
	}
	if len(c.Health.Metrics) > maxSocket {
		bad("health.metrics", c.Health.Metrics, fmt.Sprintf("a path of at most %d bytes", maxSocket))
	}
	if c.Health.Metrics != "" && c.Health.Metrics == c.Socket {
		bad("health.metrics", c.Health.Metrics, "another path than socket has")
	}
	text("log.level", c.Log.Level, "debug", "info", "warn", "error")
	text("log.format", c.Log.Format, "json", "text")
	text("board.kind", c.Board.Kind, "linux", "sim")
	if host, port, err := net.SplitHostPort(c.Uplink.Endpoint); err != nil || host == "" {
		bad("uplink.endpoint", strconv.Quote(c.Uplink.Endpoint), "host:port, such as bridge.example.net:8883")
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		bad("uplink.endpoint", strconv.Quote(c.Uplink.Endpoint), "a port from 1 to 65535")
	}
	if n := len(c.Uplink.ClientID); n > 128 || strings.HasPrefix(c.Uplink.ClientID, "$") {
		bad("uplink.client_id", strconv.Quote(c.Uplink.ClientID), "at most 128 bytes that do not begin with $")
	}
	if c.Uplink.Inflight < 1 || c.Uplink.Inflight > 100 {
		bad("uplink.inflight", c.Uplink.Inflight, "1 to 100")
	}
	text("uplink.format", c.Uplink.Format, "batch", "json")
	for _, f := range []struct{ key, got string }{{"uplink.topic", c.Uplink.Topic},
		{"uplink.presence_topic", c.Uplink.PresenceTopic}} {
		if strings.ContainsAny(f.got, "+#\x00") || len(f.got) > 256 {
			bad(f.key, strconv.Quote(f.got), "a topic of at most 256 bytes without + and #")
		}
	}
	if c.Uplink.Format == "json" && !strings.Contains(c.Uplink.Topic, "{sensor}") {
		bad("uplink.topic", strconv.Quote(c.Uplink.Topic), "a topic with {sensor} in it")
	}
	span("uplink.keepalive", c.Uplink.KeepAlive, 5*s, 1200*s)
	span("uplink.connect_timeout", c.Uplink.ConnectTimeout, s, 300*s)
	span("uplink.ack_timeout", c.Uplink.AckTimeout, s, hour)
	span("uplink.backoff_min", c.Uplink.BackoffMin, ms, hour)
	span("uplink.backoff_max", c.Uplink.BackoffMax, c.Uplink.BackoffMin, day)
	span("uplink.stable_after", c.Uplink.StableAfter, 0, day)
	span("uplink.drain", c.Uplink.Drain, 0, 60*s)
	span("spool.flush_every", c.Spool.FlushEvery, 10*ms, hour)
	span("spool.max_age", c.Spool.MaxAge, 0, 10*365*day)
	if c.Spool.MaxBytes < 1<<20 {
		bad("spool.max_bytes", int64(c.Spool.MaxBytes), "at least 1 MiB")
	} else if strconv.IntSize == 32 && c.Spool.MaxBytes > 256<<20 {
		// bbolt maps the file, which must fit the address space.
		bad("spool.max_bytes", int64(c.Spool.MaxBytes), "at most 256 MiB on a 32-bit machine")
	}
	text("spool.overflow", c.Spool.Overflow, "drop-oldest", "refuse-new")
	text("shadow.desired_wins", c.Shadow.Desired, "cloud", "device")
	text("shadow.reported_wins", c.Shadow.Reported, "device", "cloud")
	span("shadow.report_every", c.Shadow.ReportEvery, 50*ms, day)
	names := map[string]bool{}
	for i, sn := range c.Sensors {
		at := fmt.Sprintf("sensor[%d].", i)
		if !sensorName.MatchString(sn.Name) {
			bad(at+"name", strconv.Quote(sn.Name), "1 to 64 characters of A-Z a-z 0-9 _ : -")
		} else if names[sn.Name] {
			bad(at+"name", strconv.Quote(sn.Name), "a name no other sensor has")
		}
		names[sn.Name] = true
		span(at+"every", sn.Every, MinEvery, MaxEvery)
		span(at+"timeout", sn.Timeout, ms, hour)
		if sn.Driver == "" {
			bad(at+"driver", `""`, "the name of a driver (tidemill-agent sensors lists them)")
		} else if options != nil {
			for _, err := range options(sn.Driver, sn.Options) {
				errs = append(errs, fmt.Errorf("sensor[%d]: %q: %w", i, sn.Name, err))
			}
		}
	}
	return errs
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

// The bounds of a sensor's interval, also for what the shadow desires.
const (
	MinEvery = Duration(10 * time.Millisecond)
	MaxEvery = Duration(24 * time.Hour)
)
