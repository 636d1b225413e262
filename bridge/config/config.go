// Package config is the bridge's configuration: one struct, filled from
// defaults, then a TOML file, then the environment, then flags. It is strict:
// unknown keys are refused and all wrong values are reported together.
package config

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal/secretfile"
)

// Sample is a commented configuration file that says the same as the defaults.
//
//go:embed bridge.toml
var Sample string

// A Config is what the bridge runs with. Paths are as written, seen from the
// process's working directory.
type Config struct {
	DataDir string `toml:"data_dir"`
	Account string `toml:"account"`
	Region  string `toml:"region"`
	MinFree Size   `toml:"min_free"` // of the disk of data_dir, at the start; of Disk by default

	Disk    Disk    `toml:"disk"`
	MQTT    MQTT    `toml:"mqtt"`
	Broker  Broker  `toml:"broker"`
	HTTPS   HTTPS   `toml:"https"`
	Kinesis Kinesis `toml:"kinesis"`
	Admin   Admin   `toml:"admin"`
	Ingest  Ingest  `toml:"ingest"`
	Rules   Rules   `toml:"rules"`
	Channel Channel `toml:"channels"`
	Shadow  Shadow  `toml:"shadow"`
	BridgeD BridgeD `toml:"bridge_d"`
	Objects Objects `toml:"objects"`
	Clock   Clock   `toml:"clock"`
	PKI     PKI     `toml:"pki"`
	Audit   Audit   `toml:"audit"`
	Backup  Backup  `toml:"backup"`
	Egress  Egress  `toml:"egress"`
	Web     Web     `toml:"http_action"`
	Metric  Metric  `toml:"metric_action"`

	Alertmanager Alertmanager `toml:"alertmanager"`

	Postgres Postgres `toml:"postgres"`
	Lambda   Lambda   `toml:"lambda"`
	Secrets  Secrets  `toml:"secrets"`
	Predict  Predict  `toml:"predict"`
	Log      Log      `toml:"log"`

	AcceptLoss bool // of parts of the data directory; a flag of serve, no key

	Access      []Access     `toml:"access"`
	Authorizers []Authorizer `toml:"authorizers"`
	Hooks       []Hook       `toml:"hooks"`
	Actions     []Action     `toml:"actions"`
	Topics      []Topic      `toml:"topics"`
}

// RulesDir is where topic rules are declared.
func (c *Config) RulesDir() string { return filepath.Join(c.BridgeD.Dir, "rules") }

// SystemFile is the configuration of the bridge that the system starts: the
// command line's default for root, where there is one.
const SystemFile = "/etc/tidemill/bridge.toml"

// dataDir is where the bridge keeps its data if nobody says: in the folder
// tidemill-data where a bridge has its data there already, as earlier versions
// did; in the folder that systemd gives to the unit (StateDirectory=,
// systemd.exec(5)); else in the system's for root, and in the user's own for
// anybody else (XDG Base Directory Specification 0.8, XDG_STATE_HOME).
func dataDir(env func(string) string, uid int) string {
	const earlier = "tidemill-data"
	if _, err := os.Stat(filepath.Join(earlier, "registry.db")); err == nil {
		return earlier
	}
	if dir, _, _ := strings.Cut(env("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if uid == 0 {
		return "/var/lib/tidemill-bridge"
	}
	if dir := env("XDG_STATE_HOME"); filepath.IsAbs(dir) { // a relative one is to be ignored
		return filepath.Join(dir, "tidemill-bridge")
	}
	if home := env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "tidemill-bridge")
	}
	return earlier
}

// devicePort is where devices connect, unless a broker takes them.
const devicePort = ":8883"

// unset stands for a value that nobody wrote: no file can.
const unset = "\x00"

// Default returns the configuration without a file; Load puts the data
// directory where dataDir says.
func Default() *Config {
	c := defaults()
	c.shareDisk()
	return c
}

// defaults are those of all keys, before Disk is shared among parts.
func defaults() *Config {
	return &Config{
		Account: "000000000000", Region: "eu-local-1", MinFree: ofDisk, Disk: Disk{Reserve: 512 << 20},
		MQTT: MQTT{Listen: devicePort, ConnectTimeout: Duration(30 * time.Second), MaxPayload: 128 << 10,
			MaxInflight: 100, MaxUnauthenticated: 4096,
			MaxQueue: 4 << 20, Profile: "mqtt", Events: true, MaxSessionExpiry: Duration(7 * 24 * time.Hour),
			MaxSessions: 100_000,
			MaxRetained: 100_000, MaxRetainedBytes: 64 << 20, SessionOwner: "principal",
			MaxPrincipalSessions: 1000, MaxPrincipalRetained: 1000, MaxPrincipalRetainedBytes: 8 << 20,
			MaxThingRate: 10_000, MaxThingBytes: 8 << 20},
		Broker: Broker{Share: "tidemill", Connections: 1, Subscribe: []string{"#"}, Shadows: true, MaxInflight: 1000,
			KeepAlive: Duration(30 * time.Second)},
		HTTPS: HTTPS{Listen: ":8443", Plaintext: "off", MaxConnections: 1024, MaxPerAddress: 512,
			MaxUnauthenticated: 512, UnauthenticatedIdle: Duration(10 * time.Second), MaxMemory: 256 << 20},
		Admin: Admin{Listen: "127.0.0.1:8081"},
		Ingest: Ingest{Shards: 4, Retention: Duration(24 * time.Hour), MaxBytes: ofDisk, Store: []string{"#"},
			Gather: Duration(2 * time.Millisecond)},
		Rules:   Rules{MaxBacklog: ofDisk, GiveUp: Duration(24 * time.Hour)},
		Channel: Channel{Retention: Duration(90 * 24 * time.Hour), MaxBytes: ofDisk, Max: 64},
		Shadow:  Shadow{MaxNamed: 100, MaxBytes: 1 << 20},
		BridgeD: BridgeD{Watch: true},
		Objects: Objects{Public: []string{}, MinFree: ofDisk, MaxBucket: ofDisk, MaxUploads: 1000,
			MaxUploadBytes: 64 << 30, MaxUploadAge: Duration(7 * 24 * time.Hour)},
		Clock: Clock{MaxStep: Duration(5 * time.Minute), MaxGap: Duration(24 * time.Hour),
			AcceptAfter: Duration(24 * time.Hour), MaxError: Duration(500 * time.Millisecond)},
		Audit:  Audit{Retention: Duration(90 * 24 * time.Hour), MaxBytes: ofDisk},
		Backup: Backup{Recipients: []string{}, Keep: 30},
		Lambda: Lambda{Directories: []string{}, MaxConcurrency: 20, MaxMemory: 3008 << 20,
			MaxTimeout: Duration(15 * time.Minute), MaxFunctions: 1000, MaxCode: ofDisk,
			Idle: Duration(10 * time.Minute)},
		Alertmanager: Alertmanager{MaxAlarms: 1000},
		Metric:       Metric{Max: 1000, Keep: Duration(time.Hour)},
		Postgres:     Postgres{Connections: 4},
		Egress:       Egress{Allow: []string{}},
		Log:          Log{Level: "info", Format: "json"},
	}
}

// A setting is one value that the environment or a flag may override.
type setting struct {
	key, env string
	at       func(*Config) *string
}

// settings lists them; each flag is named after its key.
var settings = []setting{
	{"data_dir", "TIDEMILL_BRIDGE_DATA_DIR", func(c *Config) *string { return &c.DataDir }},
	{"mqtt.listen", "TIDEMILL_BRIDGE_MQTT_LISTEN", func(c *Config) *string { return &c.MQTT.Listen }},
	{"https.listen", "TIDEMILL_BRIDGE_HTTPS_LISTEN", func(c *Config) *string { return &c.HTTPS.Listen }},
	{"admin.listen", "TIDEMILL_BRIDGE_ADMIN_LISTEN", func(c *Config) *string { return &c.Admin.Listen }},
	{"admin.socket", "TIDEMILL_BRIDGE_ADMIN_SOCKET", func(c *Config) *string { return &c.Admin.Socket }},
	{"objects.dir", "TIDEMILL_BRIDGE_OBJECTS_DIR", func(c *Config) *string { return &c.Objects.Dir }},
	{"log.level", "TIDEMILL_BRIDGE_LOG_LEVEL", func(c *Config) *string { return &c.Log.Level }},
}

// Load reads the file at path, if path is not empty, over the defaults, then
// the environment as env answers it, then overrides by key. All errors are
// returned together, each beginning with its key.
func Load(path string, env func(string) string, overrides map[string]string) (*Config, error) {
	c := defaults()
	c.DataDir, c.MQTT.Listen = unset, unset
	errs, err := c.readFile(path)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(overrides)) {
		if !slices.ContainsFunc(settings, func(s setting) bool { return s.key == key }) {
			errs = append(errs, fmt.Errorf("%s: cannot be overridden", key))
		}
	}
	for _, s := range settings {
		if v := env(s.env); v != "" {
			*s.at(c) = v
		}
		if v, ok := overrides[s.key]; ok {
			*s.at(c) = v
		}
	}
	c.place(env)
	if err := errors.Join(append(errs, c.check()...)...); err != nil {
		if path == "" {
			path = "defaults, environment and flags"
		}
		return nil, fmt.Errorf("config %s:\n%w", path, err)
	}
	return c, nil
}

// readFile sets what the file at path has; "": there is none. errs are about single
// keys, err about the file.
func (c *Config) readFile(path string) (errs []error, err error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: name one with -config, or make one: tidemill-bridge config sample > bridge.toml", err)
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if errs, err = decode(string(text), c); err != nil {
		return nil, fmt.Errorf("config %s: %w", path, err)
	}
	if at := c.secretURL(); at != "" {
		if _, err := secretfile.ReadConfig(path); err != nil {
			errs = append(errs,
				fmt.Errorf("%s: its user, path or query may be a key: give the file to the bridge's user alone: %w",
					at, err))
		}
	}
	return errs, nil
}

// place fills in the paths and the port that depend on others, where they are not set.
func (c *Config) place(env func(string) string) {
	c.shareDisk()
	if c.DataDir == unset {
		c.DataDir = dataDir(env, os.Geteuid())
	}
	if c.MQTT.Listen == unset {
		if c.MQTT.Listen = ""; c.Broker.URL == "" {
			c.MQTT.Listen = devicePort
		}
	}
	for path, name := range map[*string]string{&c.Admin.Socket: "admin.sock", &c.BridgeD.Dir: "bridge.d",
		&c.Objects.Dir: "objects", &c.Secrets.Dir: "secrets"} {
		*path = cmp.Or(*path, filepath.Join(c.DataDir, name))
	}
}
