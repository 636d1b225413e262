// Package config is the bridge's configuration: one struct, filled from
// defaults, then a TOML file, then the environment, then flags. It is strict:
// unknown keys are refused and all wrong values are reported together.
package config

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/agent/secretfile"
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
	MinFree Size   `toml:"min_free"` // of the disk of data_dir, at the start

	MQTT    MQTT    `toml:"mqtt"`
	Broker  Broker  `toml:"broker"`
	HTTPS   HTTPS   `toml:"https"`
	Kinesis Kinesis `toml:"kinesis"`
	Admin   Admin   `toml:"admin"`
	Ingest  Ingest  `toml:"ingest"`
	Rules   Rules   `toml:"rules"`
	Shadow  Shadow  `toml:"shadow"`
	BridgeD BridgeD `toml:"bridge_d"`
	Objects Objects `toml:"objects"`
	Clock   Clock   `toml:"clock"`
	Log     Log     `toml:"log"`

	AcceptLoss bool // of parts of the data directory; a flag of serve, no key

	Access      []Access     `toml:"access"`
	Authorizers []Authorizer `toml:"authorizers"`
	Hooks       []Hook       `toml:"hooks"`
}

// MQTT is the device listener, always mutual TLS.
type MQTT struct {
	Listen         string   `toml:"listen"`
	ServerNames    []string `toml:"server_names"`
	ConnectTimeout Duration `toml:"connect_timeout"`
	MaxPayload     Size     `toml:"max_payload"`
	MaxInflight    int      `toml:"max_inflight"`
	MaxQueue       Size     `toml:"max_queue"`
	MaxConnections int      `toml:"max_connections"`
	// MaxUnauthenticated is of connections that policy has not let in yet, three
	// quarters of one address.
	MaxUnauthenticated int `toml:"max_unauthenticated"`

	Profile          string   `toml:"profile"`            // mqtt, aws
	Events           bool     `toml:"events"`             // lifecycle events are published
	SessionExpiry    Duration `toml:"session_expiry"`     // of MQTT 3.1.1; 0: the profile's
	MaxSessionExpiry Duration `toml:"max_session_expiry"` // of MQTT 5
	MaxTopic         int      `toml:"max_topic"`          // bytes of a topic or filter; 0: the profile's, as with the four below
	MaxSlashes       int      `toml:"max_slashes"`        // in it
	MaxFilters       int      `toml:"max_filters"`        // of a SUBSCRIBE
	MaxSubscriptions int      `toml:"max_subscriptions"`  // of a session
	MaxUnreleased    int      `toml:"max_unreleased"`     // QoS 2 messages of a session without PUBREL
	MaxSessions      int      `toml:"max_sessions"`
	MaxRetained      int      `toml:"max_retained"`
	MaxRetainedBytes Size     `toml:"max_retained_bytes"`
	MaxPerAddress    int      `toml:"max_per_address"` // connections; 0: no limit
	SessionOwner     string   `toml:"session_owner"`   // "principal" or "client": who may resume one
	// Of one principal; 0: no limit. Sessions are those that outlive their connection.
	MaxPrincipalSessions      int  `toml:"max_principal_sessions"`
	MaxPrincipalRetained      int  `toml:"max_principal_retained"`
	MaxPrincipalRetainedBytes Size `toml:"max_principal_retained_bytes"`

	MaxPublishRate  int  `toml:"max_publish_rate"`  // of a connection, per second; 0: the profile's
	MaxPublishBytes Size `toml:"max_publish_bytes"` // likewise
	MaxThingRate    int  `toml:"max_thing_rate"`    // messages a second of one thing, each reading of a batch one; 0: no limit
	MaxThingBytes   Size `toml:"max_thing_bytes"`   // likewise
}

// Broker is a foreign MQTT broker, joined in place of the device listener.
type Broker struct {
	URL          string   `toml:"url"`           // "" for none
	ClientID     string   `toml:"client_id"`     // what the clients' ids begin with; "" for one that is made
	Username     string   `toml:"username"`      //
	PasswordFile string   `toml:"password_file"` // 0600
	CA           string   `toml:"ca"`            // file of those who sign the broker's certificate; "" for the system's
	Cert         string   `toml:"cert"`          // file of the client certificate
	Key          string   `toml:"key"`           // file of its private key, 0600
	Share        string   `toml:"share"`         // group of the shared subscriptions
	Connections  int      `toml:"connections"`   // that take messages; 0: leave the group
	Subscribe    []string `toml:"subscribe"`
	Shadows      bool     `toml:"shadows"` // take what is on $aws/#, and answer shadow requests
	MaxInflight  int      `toml:"max_inflight"`
	KeepAlive    Duration `toml:"keep_alive"`
}

// HTTPS is the listener of the AWS APIs.
type HTTPS struct {
	Listen         string `toml:"listen"`          // "" for none
	Plaintext      string `toml:"plaintext"`       // off, loopback, on
	Permissive     bool   `toml:"permissive"`      // signatures are not verified
	MaxConnections int    `toml:"max_connections"` // more are closed
	MaxPerAddress  int    `toml:"max_per_address"` // 0: no limit
	// MaxUnauthenticated connections are open at once of clients that nothing
	// has authenticated, three quarters of one address; idle ones end after
	// UnauthenticatedIdle.
	MaxUnauthenticated  int      `toml:"max_unauthenticated"`
	UnauthenticatedIdle Duration `toml:"unauthenticated_idle"`
	MaxMemory           Size     `toml:"max_memory"` // of requests' bodies and large answers together
}

// Kinesis is the data streams of the AWS APIs.
type Kinesis struct {
	Emulate       bool     `toml:"emulate"` // the limits of the service
	Delay         Duration `toml:"delay"`   // how long CREATING, UPDATING and DELETING are seen
	MaxShards     int      `toml:"max_shards"`
	SmallRequests bool     `toml:"small_requests"` // 5 MiB
}

// Access says what an access key may do, or the temporary keys of a role: what
// is not granted is denied.
type Access struct {
	Key      string   `toml:"key"`      // id of a key
	All      bool     `toml:"all"`      // every operation of every service; keys only
	Policies []string `toml:"policies"` // names of policies in the registry, for MQTT and the data plane; instead of all
	Role     string   `toml:"role"`     // ARN that role aliases have; instead of key
}

// Authorizer is a custom authorizer, asked by HTTP.
type Authorizer struct {
	Name            string   `toml:"name"`
	URL             string   `toml:"url"`
	TokenKey        string   `toml:"token_key"`
	PublicKeys      []string `toml:"public_keys"` // files, PEM, RSA
	SigningDisabled bool     `toml:"signing_disabled"`
	Status          string   `toml:"status"` // ACTIVE, or empty; INACTIVE
	Default         bool     `toml:"default"`
	Cache           bool     `toml:"cache"`     // for HTTPS: a verdict holds for its connection
	MaxCalls        int      `toml:"max_calls"` // under way at once; 0: 64
}

// Hook is where a pre-provisioning hook or the function of an authorizer is, asked
// by HTTP.
type Hook struct {
	ARN      string `toml:"arn"` // that templates and authorizers name it with
	URL      string `toml:"url"`
	MaxCalls int    `toml:"max_calls"` // under way at once, of the hook and of each authorizer; 0: 64
}

// Shadow bounds the shadows of one thing; 0: no limit.
type Shadow struct {
	MaxNamed int  `toml:"max_named"`
	MaxBytes Size `toml:"max_bytes"` // of all of them as stored, with their times
}

// Admin is where the bridge is looked after.
type Admin struct {
	Listen string `toml:"listen"` // metrics and health; "" for none
	Socket string `toml:"socket"` // "" for DataDir/admin.sock
}

// Ingest is the log of everything that came in.
type Ingest struct {
	Shards    int      `toml:"shards"`
	Retention Duration `toml:"retention"`
	MaxBytes  Size     `toml:"max_bytes"`
	Store     []string `toml:"store"`
	Gather    Duration `toml:"gather"` // how long a message may wait for others to share its sync
}

// Rules bounds what rules leave behind.
type Rules struct {
	MaxBacklog Size `toml:"max_backlog"` // of each outbox and delivery stream
}

// BridgeD is the folder of declarations.
type BridgeD struct {
	Dir   string `toml:"dir"`   // "" for DataDir/bridge.d
	Watch bool   `toml:"watch"` // apply what changes by itself
}

// Objects is the embedded object store.
type Objects struct {
	Dir string `toml:"dir"` // "" for DataDir/objects
}

// Clock bounds jumps of the machine's clock, beyond which nothing is deleted for
// its age by the new time.
type Clock struct {
	MaxStep     Duration `toml:"max_step"`     // while the bridge runs
	MaxGap      Duration `toml:"max_gap"`      // since it last ran
	AcceptAfter Duration `toml:"accept_after"` // 0: never by itself
}

// Log is how the bridge logs.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// SlogLevel returns the level in slog's terms.
func (l Log) SlogLevel() slog.Level {
	var v slog.Level
	_ = v.UnmarshalText([]byte(l.Level)) // checked by Load
	return v
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
	return &Config{
		Account: "000000000000", Region: "eu-local-1", MinFree: 220 << 20,
		MQTT: MQTT{Listen: devicePort, ConnectTimeout: Duration(30 * time.Second), MaxPayload: 128 << 10, MaxInflight: 100, MaxUnauthenticated: 4096,
			MaxQueue: 4 << 20, Profile: "mqtt", Events: true, MaxSessionExpiry: Duration(7 * 24 * time.Hour), MaxSessions: 100_000,
			MaxRetained: 100_000, MaxRetainedBytes: 64 << 20, SessionOwner: "principal",
			MaxPrincipalSessions: 1000, MaxPrincipalRetained: 1000, MaxPrincipalRetainedBytes: 8 << 20, MaxThingRate: 10_000, MaxThingBytes: 8 << 20},
		Broker: Broker{Share: "tidemill", Connections: 1, Subscribe: []string{"#"}, Shadows: true, MaxInflight: 1000, KeepAlive: Duration(30 * time.Second)},
		HTTPS: HTTPS{Listen: ":8443", Plaintext: "off", MaxConnections: 1024, MaxPerAddress: 512,
			MaxUnauthenticated: 512, UnauthenticatedIdle: Duration(10 * time.Second), MaxMemory: 256 << 20},
		Admin:   Admin{Listen: "127.0.0.1:8081"},
		Ingest:  Ingest{Shards: 4, Retention: Duration(24 * time.Hour), MaxBytes: 4 << 30, Store: []string{"#"}, Gather: Duration(2 * time.Millisecond)},
		Rules:   Rules{MaxBacklog: 4 << 30},
		Shadow:  Shadow{MaxNamed: 100, MaxBytes: 1 << 20},
		BridgeD: BridgeD{Watch: true},
		Clock:   Clock{MaxStep: Duration(5 * time.Minute), MaxGap: Duration(24 * time.Hour), AcceptAfter: Duration(24 * time.Hour)},
		Log:     Log{Level: "info", Format: "json"},
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
	c := Default()
	c.DataDir, c.MQTT.Listen = unset, unset
	var errs []error
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w: name one with -config, or make one: tidemill-bridge config sample > bridge.toml", err)
			}
			return nil, fmt.Errorf("config: %w", err)
		}
		if errs, err = decode(string(text), c); err != nil {
			return nil, fmt.Errorf("config %s: %w", path, err)
		}
		if at := c.secretURL(); at != "" {
			if _, err := secretfile.ReadConfig(path); err != nil {
				errs = append(errs, fmt.Errorf("%s: its user or query may be a key: give the file to the bridge's user alone: %w", at, err))
			}
		}
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
	if c.DataDir == unset {
		c.DataDir = dataDir(env, os.Geteuid())
	}
	if c.MQTT.Listen == unset {
		if c.MQTT.Listen = ""; c.Broker.URL == "" {
			c.MQTT.Listen = devicePort
		}
	}
	if c.Admin.Socket == "" {
		c.Admin.Socket = filepath.Join(c.DataDir, "admin.sock")
	}
	if c.BridgeD.Dir == "" {
		c.BridgeD.Dir = filepath.Join(c.DataDir, "bridge.d")
	}
	if c.Objects.Dir == "" {
		c.Objects.Dir = filepath.Join(c.DataDir, "objects")
	}
	if err := errors.Join(append(errs, c.check()...)...); err != nil {
		if path == "" {
			path = "defaults, environment and flags"
		}
		return nil, fmt.Errorf("config %s:\n%w", path, err)
	}
	return c, nil
}

// maxSocketPath is what fits with its zero byte into the 108 bytes of a Unix
// socket's address (unix(7)).
const maxSocketPath = 107

// check returns all that is wrong with the values.
func (c *Config) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("data_dir: empty, want a folder")
	}
	if len(c.Account) != 12 || strings.Trim(c.Account, "0123456789") != "" {
		bad("account: %q, want 12 digits", c.Account)
	}
	if c.Region == "" || strings.Trim(c.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		bad("region: %q, want letters, digits and hyphens", c.Region)
	}
	errs = append(errs, c.Broker.check()...)
	if c.Broker.URL != "" {
		if c.MQTT.Listen != "" {
			bad("mqtt.listen: %q, but devices connect to broker.url: want no mqtt.listen", c.MQTT.Listen)
		}
	} else if !address(c.MQTT.Listen) {
		bad("mqtt.listen: %q, want host:port or :port", c.MQTT.Listen)
	}
	for _, n := range c.MQTT.ServerNames {
		if net.ParseIP(n) == nil && !serverName(n) {
			bad("mqtt.server_names: %q, want host names and IP addresses", n)
		}
	}
	if c.HTTPS.Listen != "" && !address(c.HTTPS.Listen) {
		bad("https.listen: %q, want host:port, or empty for none", c.HTTPS.Listen)
	}
	if !slices.Contains([]string{"off", "loopback", "on"}, c.HTTPS.Plaintext) {
		bad("https.plaintext: %q, want off, loopback or on", c.HTTPS.Plaintext)
	}
	if c.HTTPS.Permissive && c.HTTPS.Listen != "" && !loopback(c.HTTPS.Listen) {
		bad("https.permissive: %q listens to others, who could then do all without a key: want https.listen on loopback, such as \"127.0.0.1:8443\"", c.HTTPS.Listen)
	}
	if n := c.HTTPS.MaxConnections; n < 1 || n > 65536 {
		bad("https.max_connections: %d, want 1 to 65536", n)
	}
	if n := c.HTTPS.MaxPerAddress; n < 0 {
		bad("https.max_per_address: %d, want 0 for no limit, or more", n)
	}
	if n := c.HTTPS.MaxUnauthenticated; n < 4 || n > 65536 {
		bad("https.max_unauthenticated: %d, want 4 to 65536", n)
	}
	if d := c.HTTPS.UnauthenticatedIdle; d < Duration(time.Second) || d > Duration(10*time.Minute) {
		bad("https.unauthenticated_idle: %v, want 1s to 10m", d)
	}
	if n := c.HTTPS.MaxMemory; n < 64<<20 {
		bad("https.max_memory: %d, want at least 64 MiB", n)
	}
	errs = append(errs, checkAccess(c.Access)...)
	errs = append(errs, c.checkHooks()...)
	if d := c.Kinesis.Delay; d > Duration(time.Hour) {
		bad("kinesis.delay: %v, want 0s to 1h", d)
	}
	if n := c.Kinesis.MaxShards; n < 0 {
		bad("kinesis.max_shards: %d, want 0 for the log's own bound, or more", n)
	}
	if d := c.Clock.MaxStep; d < Duration(time.Second) {
		bad("clock.max_step: %v, want at least 1s", d)
	}
	if d := c.Clock.MaxGap; d < Duration(time.Minute) {
		bad("clock.max_gap: %v, want at least 1m", d)
	}
	if d := c.Clock.AcceptAfter; d < 0 {
		bad("clock.accept_after: %v, want 0s for never by itself, or more", d)
	}
	if c.Admin.Listen != "" && !address(c.Admin.Listen) {
		bad("admin.listen: %q, want host:port, or empty for none", c.Admin.Listen)
	}
	if p := c.Admin.Socket; len(p) > maxSocketPath {
		bad("admin.socket: %q, %d bytes, want at most %d: set a shorter one, or start in the folder and use a relative one", p, len(p), maxSocketPath)
	} else if strings.HasPrefix(p, "@") {
		bad("admin.socket: %q, want a path: sockets without a file are open to everybody", p)
	}
	if d := c.MQTT.ConnectTimeout; d < Duration(time.Second) || d > Duration(10*time.Minute) {
		bad("mqtt.connect_timeout: %v, want 1s to 10m", d)
	}
	if n := c.MQTT.MaxPayload; n < 1<<10 || n > 256<<20-64<<10 {
		bad("mqtt.max_payload: %d, want 1 KiB to 255 MiB", n)
	}
	if n := c.MQTT.MaxInflight; n < 1 || n > 65535 {
		bad("mqtt.max_inflight: %d, want 1 to 65535", n)
	}
	if n := c.MQTT.MaxQueue; n < 64<<10 {
		bad("mqtt.max_queue: %d, want at least 64 KiB", n)
	}
	if n := c.MQTT.MaxConnections; n < 0 {
		bad("mqtt.max_connections: %d, want 0 for no limit, or more", n)
	}
	if n := c.MQTT.MaxUnauthenticated; n < 4 || n > 1<<20 {
		bad("mqtt.max_unauthenticated: %d, want 4 to 1048576", n)
	}
	if p := c.MQTT.Profile; p != "mqtt" && p != "aws" {
		bad("mqtt.profile: %q, want mqtt or aws", p)
	}
	if d := c.MQTT.MaxSessionExpiry; d < Duration(time.Second) {
		bad("mqtt.max_session_expiry: %v, want at least 1s", d)
	}
	if d := c.MQTT.SessionExpiry; d < 0 || d > c.MQTT.MaxSessionExpiry {
		bad("mqtt.session_expiry: %v, want 0s for the profile's, up to mqtt.max_session_expiry", d)
	}
	for _, limit := range []struct {
		key     string
		n, most int
	}{
		{"max_topic", c.MQTT.MaxTopic, 65535}, {"max_slashes", c.MQTT.MaxSlashes, 255}, {"max_filters", c.MQTT.MaxFilters, 10_000},
		{"max_subscriptions", c.MQTT.MaxSubscriptions, 100_000}, {"max_unreleased", c.MQTT.MaxUnreleased, 65535},
	} {
		if limit.n < 0 || limit.n > limit.most {
			bad("mqtt.%s: %d, want 0 for the profile's, up to %d", limit.key, limit.n, limit.most)
		}
	}
	if n := c.MQTT.MaxSessions; n < 1 {
		bad("mqtt.max_sessions: %d, want at least 1", n)
	}
	if n := c.MQTT.MaxRetained; n < 1 {
		bad("mqtt.max_retained: %d, want at least 1", n)
	}
	if n := c.MQTT.MaxRetainedBytes; n < 1<<10 {
		bad("mqtt.max_retained_bytes: %d, want at least 1 KiB", n)
	}
	if o := c.MQTT.SessionOwner; o != "principal" && o != "client" {
		bad("mqtt.session_owner: %q, want principal or client", o)
	}
	if n := c.MQTT.MaxPrincipalSessions; n < 0 {
		bad("mqtt.max_principal_sessions: %d, want 0 for no limit, or more", n)
	}
	if n := c.MQTT.MaxPrincipalRetained; n < 0 {
		bad("mqtt.max_principal_retained: %d, want 0 for no limit, or more", n)
	}
	if n := c.MQTT.MaxPrincipalRetainedBytes; n != 0 && n < 1<<10 {
		bad("mqtt.max_principal_retained_bytes: %d, want 0 for no limit, or at least 1 KiB", n)
	}
	if n := c.MQTT.MaxPerAddress; n < 0 {
		bad("mqtt.max_per_address: %d, want 0 for no limit, or more", n)
	}
	if n := c.MQTT.MaxPublishRate; n < 0 {
		bad("mqtt.max_publish_rate: %d, want 0 for the profile's, or more", n)
	}
	if n := c.MQTT.MaxPublishBytes; n != 0 && n < 1<<10 {
		bad("mqtt.max_publish_bytes: %d, want 0 for the profile's, or at least 1 KiB", n)
	}
	if n := c.MQTT.MaxThingRate; n < 0 {
		bad("mqtt.max_thing_rate: %d, want 0 for no limit, or more", n)
	}
	if n := c.MQTT.MaxThingBytes; n != 0 && n < 64<<10 {
		bad("mqtt.max_thing_bytes: %d, want 0 for no limit, or at least 64 KiB", n)
	}
	if n := c.Shadow.MaxNamed; n < 0 {
		bad("shadow.max_named: %d, want 0 for no limit, or more", n)
	}
	if n := c.Shadow.MaxBytes; n != 0 && n < 64<<10 {
		bad("shadow.max_bytes: %d, want 0 for no limit, or at least 64 KiB", n)
	}
	if n := c.Ingest.Shards; n < 1 || n > 256 {
		bad("ingest.shards: %d, want 1 to 256", n)
	}
	if d := c.Ingest.Retention; d < Duration(time.Minute) {
		bad("ingest.retention: %v, want at least 1m", d)
	}
	if n := c.Ingest.MaxBytes; n != 0 && n < 64<<20 {
		bad("ingest.max_bytes: %d, want at least 64 MiB, or 0 for no limit", n)
	}
	if d := c.Ingest.Gather; d < 0 || d > Duration(50*time.Millisecond) {
		bad("ingest.gather: %v, want 0 to 50ms", d)
	}
	if slices.Contains(c.Ingest.Store, "") {
		bad("ingest.store: empty filter, want topic filters such as \"#\"")
	}
	if n := c.Rules.MaxBacklog; n < 1<<20 {
		bad("rules.max_backlog: %d, want at least 1 MiB", n)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		bad("log.level: %q, want debug, info, warn or error", c.Log.Level)
	}
	if !slices.Contains([]string{"json", "text"}, c.Log.Format) {
		bad("log.format: %q, want json or text", c.Log.Format)
	}
	return errs
}

// check returns all that is wrong with the broker's settings.
func (b *Broker) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("broker."+format, args...)) }
	secure := false
	if b.URL != "" {
		u, err := url.Parse(b.URL)
		switch {
		case err != nil || !slices.Contains([]string{"tcp", "ssl", "ws", "wss"}, u.Scheme) || u.Hostname() == "" || u.Port() == "":
			bad("url: want tcp://, ssl://, ws:// or wss:// with a host and a port")
		case u.User != nil:
			bad("url: has a user in it, want username and password_file")
		case (u.Scheme == "tcp" || u.Scheme == "ssl") && u.Path != "":
			bad("url: %q, want no path", b.URL)
		}
		secure = err == nil && (u.Scheme == "ssl" || u.Scheme == "wss")
	}
	if len(b.ClientID) > 100 || strings.ContainsAny(b.ClientID, "+#/$\x00") {
		bad("client_id: %q, want at most 100 bytes without + # / $", b.ClientID)
	}
	if b.PasswordFile != "" && b.Username == "" {
		bad("username: empty, and there is a password_file")
	}
	if (b.Cert == "") != (b.Key == "") {
		bad("cert: want cert and key, or neither")
	}
	if b.URL != "" && !secure && (b.CA != "" || b.Cert != "") {
		bad("url: %q has no TLS, and there is a ca or cert: want ssl:// or wss://", b.URL)
	}
	if b.Share == "" || strings.ContainsAny(b.Share, "+#/\x00") {
		bad("share: %q, want the name of a group without + # /", b.Share)
	}
	if b.Connections < 0 || b.Connections > 64 {
		bad("connections: %d, want 0 to leave the group, to 64", b.Connections)
	}
	if b.Connections > 0 && len(b.Subscribe) == 0 && !b.Shadows {
		bad("subscribe: empty, want topic filters such as \"#\"")
	}
	for _, f := range b.Subscribe {
		switch {
		case f == "":
			bad("subscribe: %q, want topic filters such as \"#\"", f)
		case f == "$aws" || strings.HasPrefix(f, "$aws/"):
			bad("subscribe: %q, want shadows = true, which takes all of $aws/#", f)
		case strings.HasPrefix(f, "$share/"):
			bad("subscribe: %q, want the filter alone: the group is broker.share", f)
		}
	}
	if b.MaxInflight < 1 || b.MaxInflight > 65535 {
		bad("max_inflight: %d, want 1 to 65535", b.MaxInflight)
	}
	if d := b.KeepAlive; d < Duration(time.Second) || d > Duration(time.Hour) {
		bad("keep_alive: %v, want 1s to 1h", d)
	}
	return errs
}

// ParseAccess reads the [[access]] tables of a file that holds nothing else.
func ParseAccess(text []byte) ([]Access, error) {
	c := new(Config)
	errs, err := decode(string(text), c)
	if err != nil {
		return nil, err
	}
	if all := c.Access; !reflect.DeepEqual(c, &Config{Access: all}) {
		errs = append(errs, errors.New("want [[access]] and nothing else"))
	}
	return c.Access, errors.Join(append(errs, checkAccess(c.Access)...)...)
}

// badTable is an error of a table that may be there several times.
func badTable(i int, table, format string, args ...any) error {
	return fmt.Errorf("%s[%d]."+format, append([]any{table, i}, args...)...)
}

// checkAccess is check for [[access]].
func checkAccess(all []Access) (errs []error) {
	seen := map[string]bool{}
	for i, a := range all {
		bad := func(format string, args ...any) { errs = append(errs, badTable(i, "access", format, args...)) }
		if (a.Key == "") == (a.Role == "") || seen[a.Key+a.Role] {
			bad("key: %q, want the id of an access key or, instead, the ARN of a role, once", a.Key)
		}
		seen[a.Key+a.Role] = true
		if slices.Contains(a.Policies, "") {
			bad("policies: empty name, want names of policies")
		}
		if a.All && (a.Role != "" || len(a.Policies) > 0) {
			bad("all: want it for a key alone, and no policies beside it")
		}
	}
	return errs
}

// checkHooks is check for the services that are asked by HTTP.
func (c *Config) checkHooks() (errs []error) {
	bad := func(i int, table, format string, args ...any) {
		errs = append(errs, badTable(i, table, format, args...))
	}
	checkService := func(i int, table, address string, maxCalls int) {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			bad(i, table, "url: %q, want https://host/path, or http", withoutSecret(address))
		}
		if maxCalls < 0 || maxCalls > 4096 {
			bad(i, table, "max_calls: %d, want 1 to 4096, or 0 for 64", maxCalls)
		}
	}
	seen, def := map[string]bool{}, false
	for i, a := range c.Authorizers {
		const table = "authorizers"
		if a.Name == "" || len(a.Name) > 128 || strings.Trim(a.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=,@-") != "" || seen[a.Name] {
			bad(i, table, "name: %q, want 1 to 128 of A-Z a-z 0-9 _=,@-, once", a.Name)
		}
		seen[a.Name] = true
		checkService(i, table, a.URL, a.MaxCalls)
		if len(a.TokenKey) > 128 || strings.ContainsAny(a.TokenKey, " &=?:\r\n") {
			bad(i, table, "token_key: %q, want the name of a header, at most 128 bytes", a.TokenKey)
		}
		switch {
		case a.SigningDisabled && len(a.PublicKeys) > 0:
			bad(i, table, "public_keys: there are some, and signing_disabled is set")
		case !a.SigningDisabled && (len(a.PublicKeys) == 0 || a.TokenKey == ""):
			bad(i, table, "public_keys: want at least one and a token_key, or signing_disabled")
		}
		if !slices.Contains([]string{"", "ACTIVE", "INACTIVE"}, a.Status) {
			bad(i, table, "status: %q, want ACTIVE or INACTIVE", a.Status)
		}
		if a.Default && def {
			bad(i, table, "default: another one is it already")
		}
		def = def || a.Default
	}
	seen = map[string]bool{}
	for i, h := range c.Hooks {
		if len(h.ARN) == 0 || len(h.ARN) > 2048 || seen[h.ARN] {
			bad(i, "hooks", "arn: %.100q, want what templates have as targetArn, at most 2048 bytes, once", h.ARN)
		}
		seen[h.ARN] = true
		checkService(i, "hooks", h.URL, h.MaxCalls)
	}
	return errs
}

// secretURL is the key of the first URL of a service that has a user or a query,
// which may be a key; "" for none.
func (c *Config) secretURL() string {
	secret := func(s string) bool { return strings.ContainsAny(s, "@?") }
	for i, a := range c.Authorizers {
		if secret(a.URL) {
			return fmt.Sprintf("authorizers[%d].url", i)
		}
	}
	for i, h := range c.Hooks {
		if secret(h.URL) {
			return fmt.Sprintf("hooks[%d].url", i)
		}
	}
	return ""
}

// withoutSecret is a URL without user and query.
func withoutSecret(s string) string {
	s, _, _ = strings.Cut(s, "?")
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

// address says whether s is host:port with a port of 0 to 65535; the host may
// be empty.
func address(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// loopback says whether what listens on address s is reached from this machine
// alone.
func loopback(s string) bool {
	host, _, err := net.SplitHostPort(s)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// serverName says whether n can stand in a certificate as a host name; the
// first label may be a wildcard.
func serverName(n string) bool {
	n = strings.TrimPrefix(n, "*.")
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return len(n) <= 253
}
