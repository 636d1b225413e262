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
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/agent/sampler"
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
	Budget Budget `toml:"budget"`
	Spool  Spool  `toml:"spool"`
	Card   Card   `toml:"card"`
	Clock  Clock  `toml:"clock"`
	Health Health `toml:"health"`
	Shadow Shadow `toml:"shadow"`

	Provision Provision `toml:"provision"`
	Sensors   []Sensor  `toml:"sensor"`

	Remote Remote // what became of the deviceConfiguration; of no file
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
	// Chips that a simulated board has beside its BME280, as sim.ParsePlace has them.
	Chips []string `toml:"chips"`
	// How buses are freed that a chip holds, by their names.
	Recover map[string]Recovery `toml:"recover"`
}

// Uplink says where the readings go.
type Uplink struct {
	Endpoint       string   `toml:"endpoint" env:"TIDEMILL_ENDPOINT"` // host:port
	Security       string   `toml:"security"`                         // see the constants below
	CA             string   `toml:"ca" env:"TIDEMILL_CA" path:"yes"`  // or provision.SystemRoots
	Cert           string   `toml:"cert" env:"TIDEMILL_CERT" path:"yes"`
	Key            string   `toml:"key" env:"TIDEMILL_KEY" path:"yes"`
	User           string   `toml:"user" env:"TIDEMILL_USER"`
	PasswordFile   string   `toml:"password_file" env:"TIDEMILL_PASSWORD_FILE" path:"yes"`
	ServerName     string   `toml:"tls_server_name"` // default: the endpoint's host
	ClientID       string   `toml:"client_id"`       // default: the thing's name
	KeepAlive      Duration `toml:"keepalive"`
	KeepAliveMax   Duration `toml:"keepalive_max"` // 0: keepalive
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

// Spool says how much is kept while there is no connection.
type Spool struct {
	FlushEvery Duration `toml:"flush_every"`
	MaxBytes   Size     `toml:"max_bytes"`
	MaxAge     Duration `toml:"max_age"`    // 0: no limit
	Overflow   string   `toml:"overflow"`   // see the constants below
	MaxWrites  Rate     `toml:"max_writes"` // by the agent; 0: no bound
	MaxLoss    Duration `toml:"max_loss"`   // the longest that flushes wait to keep MaxWrites
}

// Card says what is assumed of the device that DataDir is on.
type Card struct {
	Cycles int64 `toml:"cycles"` // how often a cell can be written
}

// The values of Spool.Overflow: what gives way when the spool is full.
const (
	DropOldest = "drop-oldest"
	DropNewest = "drop-newest"
	RefuseNew  = "refuse-new" // the same, as it was called first
	ThinOut    = "thin-out"   // every second reading of the oldest
)

// Budget says how many bytes the uplink's connections may take in a month.
type Budget struct {
	Monthly    Size     `toml:"monthly"`     // 0: there is no budget
	Day        int64    `toml:"day"`         // of the month on which it begins
	FlushEvery Duration `toml:"flush_every"` // of the spool, while what is left does not suffice
	Used       string   `toml:"used"`        // what batches do when nothing is left: see the constants below
}

// The values of Budget.Used.
const (
	budgetSends = "send"
	BudgetWaits = "wait"
)

// Clock says what is done while the time is not known.
type Clock struct {
	Wait       Duration `toml:"wait"`        // before readings of an unknown time are sent as such
	CertWindow Duration `toml:"cert_window"` // beyond the newest time that was known
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

// A Duration is written "5s", "1m30s".
type Duration time.Duration

// A Size is a number of bytes, or "64 MiB".
type Size int64

// A Rate is a number of bytes in a day, or "50 MiB/day".
type Rate int64

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
		Spool:  Spool{FlushEvery: sec(5), MaxBytes: 64 << 20, Overflow: DropOldest, MaxLoss: sec(600)},
		Card:   Card{Cycles: 1000},
		Budget: Budget{Day: 1, FlushEvery: sec(300), Used: budgetSends},
		Clock:  Clock{Wait: sec(30), CertWindow: 3 * 365 * day},
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
	// RefuseRemote, if not "", is why the deviceConfiguration does not hold.
	RefuseRemote string
	// CheckOptions returns what is wrong with a driver's options, each error
	// beginning with its key; nil checks nothing.
	CheckOptions func(driver string, opts map[string]any) []error
	// Place says on which I2C bus, "" for the first, and at which address a sensor is;
	// nil knows none.
	Place func(driver string, opts map[string]any) (bus string, address int64, ok bool)
}

// Load reads and checks a configuration. All that is wrong is in the error,
// one line each. What is wrong with the deviceConfiguration that the device was
// provisioned with is in Config.Remote instead: then the rest holds without it.
func Load(src Source) (Config, error) {
	file, err := src.read()
	if err != nil {
		return Default(), err
	}
	c, errs := src.build(file)
	if len(errs) == 0 {
		c = src.remote(file, c)
	}
	if src.Files {
		errs = append(errs, c.files()...)
	}
	slices.SortStableFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return c, errors.Join(errs...)
}

// read returns the tables of the file.
func (src *Source) read() (file map[string]any, _ error) {
	if src.Path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(src.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf(
			"config: %w: name one with -config, or make one: tidemill-agent config sample > agent.toml", err)
	} else if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if _, err := toml.Decode(string(text), &file); err != nil {
		if p, ok := errors.AsType[toml.ParseError](err); ok {
			return nil, fmt.Errorf("config: %s:%d: %s", src.Path, p.Position.Line, p.Message)
		}
		return nil, fmt.Errorf("config: %s: %w", src.Path, err)
	}
	return file, nil
}

// build makes a configuration of tables, environment and flags, and says what is wrong
// with it.
func (src *Source) build(tables map[string]any) (Config, []error) {
	c := Default()
	errs := decode(tables, &c)
	dir := ""
	if src.Path != "" {
		dir = filepath.Dir(src.Path)
	}
	resolve(&c, dir)
	if src.Lookup != nil {
		errs = append(errs, environment(&c, src.Lookup)...)
	}
	errs = append(errs, flags(&c, src.Flags)...)
	errs = append(errs, c.identity()...)
	c.derive()
	return c, append(errs, c.check(errs, src.CheckOptions)...)
}

// remote returns c with the deviceConfiguration below the file, or c as it is and why the
// deviceConfiguration is refused. c is right without it.
func (src *Source) remote(file map[string]any, c Config) Config {
	if c.Provision.Template == "" {
		return c
	}
	id, err := provision.Current(c.DataDir)
	if err != nil || len(id.Configuration) == 0 { // not provisioned yet
		return c
	}
	return src.below(file, c, id.Configuration)
}

// below returns c with a deviceConfiguration below the file.
func (src *Source) below(file map[string]any, c Config, given []byte) Config {
	in, errs := parseRemote(given)
	if len(errs) == 0 && in == nil {
		return c
	}
	var with Config
	if in != nil {
		var wrong []error
		tables := under(file, in)
		with, wrong = src.build(tables)
		errs = append(errs, overLocal(in["sensor"], file["sensor"], src.Place)...)
		errs = append(errs, renumber(append(wrong, with.checkRemote(&c)...), tables["sensor"], in["sensor"])...)
	}
	if src.RefuseRemote != "" {
		errs = append(errs, errors.New(src.RefuseRemote))
	}
	if len(errs) > 0 {
		c.Remote = refuse(errs)
		return c
	}
	with.Remote.State = RemoteApplied
	return with
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
			s.Timeout = Duration(sampler.DefaultTimeout(time.Duration(s.Every)))
		}
	}
}
