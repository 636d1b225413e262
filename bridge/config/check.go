package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/egress"
)

// maxSocketPath is what fits with its zero byte into the 108 bytes of a Unix
// socket's address (unix(7)).
const maxSocketPath = 107

// A bound is what one number may be. Times are in nanoseconds, sizes in bytes.
type bound struct {
	key         string
	value       any   // int, Size or Duration
	least, most int64 // both taken
	zero        bool  // 0 is taken as well
	want        string
}

const (
	noMost  = math.MaxInt64
	second  = int64(time.Second)
	minute  = 60 * second
	hour    = 60 * minute
	noLimit = "0 for no limit, or more"
)

func (b *bound) holds() bool {
	n := reflect.ValueOf(b.value).Int()
	return b.least <= n && n <= b.most || b.zero && n == 0
}

// bounds are those of all numbers that stand alone.
func (c *Config) bounds() []bound {
	m, h := &c.MQTT, &c.HTTPS
	return []bound{
		{"min_free", c.MinFree, 0, noMost, false, "0 for not checked, or more"},
		{"disk.budget", c.Disk.Budget, 512 << 20, noMost, true, "0 for the whole file system, or at least 512 MiB"},
		{"disk.reserve", c.Disk.Reserve, 8 << 20, noMost, true, "0 for none, or at least 8 MiB"},
		{"disk.log", c.Disk.Log, 256 << 20, noMost, true, "0 for a share of disk.budget, or at least 256 MiB"},
		{"disk.outboxes", c.Disk.Outboxes, 1 << 20, noMost, true, "0 for a share of disk.log, or at least 1 MiB"},
		{"disk.objects", c.Disk.Objects, 1 << 20, noMost, true, "0 for a share of disk.budget, or at least 1 MiB"},
		{"disk.functions", c.Disk.Functions, 1 << 20, noMost, true, "0 for a share of disk.budget, or at least 1 MiB"},
		{"disk.backup", c.Disk.Backup, 1 << 20, noMost, true, "0 for a share of disk.budget, or at least 1 MiB"},
		{"https.max_connections", h.MaxConnections, 1, 65536, false, "1 to 65536"},
		{"https.max_per_address", h.MaxPerAddress, 0, noMost, false, noLimit},
		{"https.max_unauthenticated", h.MaxUnauthenticated, 4, 65536, false, "4 to 65536"},
		{"https.unauthenticated_idle", h.UnauthenticatedIdle, second, 10 * minute, false, "1s to 10m"},
		{"https.max_memory", h.MaxMemory, 64 << 20, noMost, false, "at least 64 MiB"},
		{"kinesis.delay", c.Kinesis.Delay, 0, hour, false, "0s to 1h"},
		{"kinesis.max_shards", c.Kinesis.MaxShards, 0, noMost, false, "0 for the log's own bound, or more"},
		{"clock.max_step", c.Clock.MaxStep, second, noMost, false, "at least 1s"},
		{"clock.max_gap", c.Clock.MaxGap, minute, noMost, false, "at least 1m"},
		{"clock.max_error", c.Clock.MaxError, 0, hour, false, "0s to 1h"},
		{"clock.accept_after", c.Clock.AcceptAfter, 0, noMost, false, "0s for never by itself, or more"},
		{"mqtt.connect_timeout", m.ConnectTimeout, second, 10 * minute, false, "1s to 10m"},
		{"mqtt.max_payload", m.MaxPayload, 1 << 10, 256<<20 - 64<<10, false, "1 KiB to 255 MiB"},
		{"mqtt.max_inflight", m.MaxInflight, 1, 65535, false, "1 to 65535"},
		{"mqtt.max_queue", m.MaxQueue, 64 << 10, noMost, false, "at least 64 KiB"},
		{"mqtt.max_connections", m.MaxConnections, 0, noMost, false, noLimit},
		{"mqtt.max_unauthenticated", m.MaxUnauthenticated, 4, 1 << 20, false, "4 to 1048576"},
		{"mqtt.max_session_expiry", m.MaxSessionExpiry, second, noMost, false, "at least 1s"},
		{"mqtt.session_expiry", m.SessionExpiry, 0, int64(m.MaxSessionExpiry), false,
			"0s for the profile's, up to mqtt.max_session_expiry"},
		{"mqtt.max_topic", m.MaxTopic, 0, 65535, false, "0 for the profile's, up to 65535"},
		{"mqtt.max_slashes", m.MaxSlashes, 0, 255, false, "0 for the profile's, up to 255"},
		{"mqtt.max_filters", m.MaxFilters, 0, 10_000, false, "0 for the profile's, up to 10000"},
		{"mqtt.max_subscriptions", m.MaxSubscriptions, 0, 100_000, false, "0 for the profile's, up to 100000"},
		{"mqtt.max_unreleased", m.MaxUnreleased, 0, 65535, false, "0 for the profile's, up to 65535"},
		{"mqtt.max_sessions", m.MaxSessions, 1, noMost, false, "at least 1"},
		{"mqtt.max_retained", m.MaxRetained, 1, noMost, false, "at least 1"},
		{"mqtt.max_retained_bytes", m.MaxRetainedBytes, 1 << 10, noMost, false, "at least 1 KiB"},
		{"mqtt.max_principal_sessions", m.MaxPrincipalSessions, 0, noMost, false, noLimit},
		{"mqtt.max_principal_retained", m.MaxPrincipalRetained, 0, noMost, false, noLimit},
		{"mqtt.max_principal_retained_bytes", m.MaxPrincipalRetainedBytes, 1 << 10, noMost, true,
			"0 for no limit, or at least 1 KiB"},
		{"mqtt.max_per_address", m.MaxPerAddress, 0, noMost, false, noLimit},
		{"mqtt.max_publish_rate", m.MaxPublishRate, 0, noMost, false, "0 for the profile's, or more"},
		{"mqtt.max_publish_bytes", m.MaxPublishBytes, 1 << 10, noMost, true, "0 for the profile's, or at least 1 KiB"},
		{"mqtt.max_thing_rate", m.MaxThingRate, 0, noMost, false, noLimit},
		{"mqtt.max_thing_bytes", m.MaxThingBytes, 64 << 10, noMost, true, "0 for no limit, or at least 64 KiB"},
		{"shadow.max_named", c.Shadow.MaxNamed, 0, noMost, false, noLimit},
		{"shadow.max_bytes", c.Shadow.MaxBytes, 64 << 10, noMost, true, "0 for no limit, or at least 64 KiB"},
		{"ingest.shards", c.Ingest.Shards, 1, 256, false, "1 to 256"},
		{"ingest.retention", c.Ingest.Retention, minute, noMost, false, "at least 1m"},
		{"ingest.max_bytes", c.Ingest.MaxBytes, 64 << 20, noMost, true, "at least 64 MiB, or 0 for no limit"},
		{"ingest.gather", c.Ingest.Gather, 0, 50 * int64(time.Millisecond), false, "0 to 50ms"},
		{"objects.min_free", c.Objects.MinFree, 0, noMost, false, "0 for none, or more"},
		{"objects.max_bucket", c.Objects.MaxBucket, 1 << 20, noMost, true, "0 for no limit, or at least 1 MiB"},
		{"objects.max_uploads", c.Objects.MaxUploads, 1, 100_000, false, "1 to 100000"},
		{"objects.max_upload_bytes", c.Objects.MaxUploadBytes, 16 << 20, noMost, true,
			"0 for no limit, or at least 16 MiB"},
		{"objects.max_upload_age", c.Objects.MaxUploadAge, hour, noMost, false, "at least 1h"},
		{"lambda.max_concurrency", c.Lambda.MaxConcurrency, 1, 1000, false, "1 to 1000"},
		{"lambda.max_memory", c.Lambda.MaxMemory, 128 << 20, 32768 << 20, false, "128 MiB to 32768 MiB"},
		{"lambda.max_timeout", c.Lambda.MaxTimeout, second, 5400 * second, false, "1s to 90m"},
		{"lambda.max_functions", c.Lambda.MaxFunctions, 1, 100_000, false, "1 to 100000"},
		{"lambda.max_code", c.Lambda.MaxCode, 1 << 20, noMost, false, "at least 1 MiB"},
		{"lambda.idle", c.Lambda.Idle, second, noMost, false, "at least 1s"},
		{"pki.device_lifetime", c.PKI.DeviceLifetime, hour, noMost, true, "0s for the end of 2049, or at least 1h"},
		{"audit.retention", c.Audit.Retention, hour, noMost, true, "0s for no limit, or at least 1h"},
		{"audit.max_bytes", c.Audit.MaxBytes, 1 << 20, noMost, true, "0 for no limit, or at least 1 MiB"},
		{"backup.every", c.Backup.Every, minute, noMost, true, "0s for none by itself, or at least 1m"},
		{"backup.keep", c.Backup.Keep, 0, 100_000, false, "0 for all, up to 100000"},
		{"backup.max_bandwidth", c.Backup.MaxBandwidth, 16 << 10, noMost, true, "0 for no limit, or at least 16 KiB"},
		{"channels.retention", c.Channel.Retention, hour, noMost, true, "0s for no limit, or at least 1h"},
		{"channels.max_bytes", c.Channel.MaxBytes, 1 << 20, noMost, true, "0 for no limit, or at least 1 MiB"},
		{"channels.max", c.Channel.Max, 0, 10_000, false, "0 to 10000"},
		{"http_action.tries", c.Web.Tries, 0, 1000, false, "0 for as long as every action, up to 1000"},
		{"metric_action.max", c.Metric.Max, 1, 100_000, false, "1 to 100000"},
		{"metric_action.keep", c.Metric.Keep, minute, noMost, true, "0s for ever, or at least 1m"},
		{"alertmanager.max_alarms", c.Alertmanager.MaxAlarms, 1, 100_000, false, "1 to 100000"},
		{"postgres.connections", c.Postgres.Connections, 1, 100, false, "1 to 100"},
		{"rules.max_backlog", c.Rules.MaxBacklog, 1 << 20, noMost, false, "at least 1 MiB"},
		{"rules.give_up", c.Rules.GiveUp, second, noMost, false, "at least 1s"},
	}
}

// A choice is what one text may be. The empty text is taken only if it is listed.
type choice struct {
	key, value string
	of         []string
	want       string
}

func (c *Config) choices() []choice {
	return []choice{
		{"https.plaintext", c.HTTPS.Plaintext, []string{"off", "loopback", "on"}, "off, loopback or on"},
		{"mqtt.profile", c.MQTT.Profile, []string{"mqtt", "aws"}, "mqtt or aws"},
		{"mqtt.session_owner", c.MQTT.SessionOwner, []string{"principal", "client"}, "principal or client"},
		{"log.format", c.Log.Format, []string{"json", "text"}, "json or text"},
	}
}

// check returns all that is wrong with the values, each error beginning with
// its key.
func (c *Config) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, b := range c.bounds() {
		if !b.holds() {
			bad("%s: %v, want %s", b.key, b.value, b.want)
		}
	}
	for _, t := range c.choices() {
		if !slices.Contains(t.of, t.value) {
			bad("%s: %q, want %s", t.key, t.value, t.want)
		}
	}
	if c.DataDir == "" {
		bad("data_dir: empty, want a folder")
	}
	if len(c.Account) != 12 || strings.Trim(c.Account, "0123456789") != "" {
		bad("account: %q, want 12 digits", c.Account)
	}
	if c.Region == "" || strings.Trim(c.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		bad("region: %q, want letters, digits and hyphens", c.Region)
	}
	if slices.Contains(c.Ingest.Store, "") {
		bad("ingest.store: empty filter, want topic filters such as \"#\"")
	}
	if u, err := url.Parse(c.Postgres.URL); c.Postgres.URL != "" && (err != nil || u.Scheme != "postgres" &&
		u.Scheme != "postgresql" || u.Host == "") {
		bad("postgres.url: want postgres://USER@HOST:PORT/DATABASE")
	} else if err == nil && u.User != nil {
		if _, secret := u.User.Password(); secret {
			bad("postgres.url: has a password: want it in postgres.password_file, mode 0600")
		}
	}
	errs = append(errs, c.Alertmanager.check()...)
	errs = append(errs, c.Backup.check(c.DataDir)...)
	if u, err := url.Parse(c.Predict.URL); c.Predict.URL != "" && (err != nil || u.Scheme != "http" &&
		u.Scheme != "https" || u.Host == "" || u.User != nil) {
		bad("predict.url: want http or https, a host, and no user")
	}
	if c.Predict.TokenFile != "" && c.Predict.URL == "" {
		bad("predict.token_file: there is no predict.url that it is for")
	}
	if _, err := egress.New(egress.Options{Allow: c.Egress.Allow}); err != nil {
		bad("egress.allow: %w", err)
	}
	for _, dir := range c.Lambda.Directories {
		if !filepath.IsAbs(dir) {
			bad("lambda.directories: %q, want an absolute path", dir)
		}
	}
	if err := new(slog.Level).UnmarshalText([]byte(c.Log.Level)); err != nil {
		bad("log.level: %q, want debug, info, warn or error", c.Log.Level)
	}
	errs = append(errs, c.checkListeners()...)
	errs = append(errs, c.Broker.check()...)
	errs = append(errs, checkAccess(c.Access)...)
	errs = append(errs, c.checkActions()...)
	errs = append(errs, c.checkTopics()...)
	return append(errs, c.checkHooks()...)
}

func (a *Alertmanager) check() (errs []error) {
	if u, err := url.Parse(a.URL); a.URL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" ||
		u.Host == "" || u.User != nil || u.RawQuery != "") {
		errs = append(errs, errors.New("alertmanager.url: want http or https, a host, and neither user nor query"))
	} else if base, _, ok := strings.Cut(a.URL, "/api/v"); ok {
		errs = append(errs, fmt.Errorf("alertmanager.url: %q, want %q: the bridge adds the path itself", a.URL, base))
	}
	if (a.Username == "") != (a.PasswordFile == "") || a.URL == "" && a.Username != "" {
		errs = append(errs, errors.New("alertmanager.username: want it with password_file and url, or none of both"))
	}
	return errs
}

// checkListeners is check for addresses, names and the admin socket.
func (c *Config) checkListeners() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.Broker.URL != "" && c.MQTT.Listen != "":
		bad("mqtt.listen: %q, but devices connect to broker.url: want no mqtt.listen", c.MQTT.Listen)
	case c.Broker.URL == "" && !address(c.MQTT.Listen):
		bad("mqtt.listen: %q, want host:port or :port", c.MQTT.Listen)
	}
	for _, own := range [][3]string{{"mqtt", c.MQTT.Cert, c.MQTT.Key}, {"https", c.HTTPS.Cert, c.HTTPS.Key}} {
		if (own[1] == "") != (own[2] == "") {
			bad("%s.cert: want cert and key, or neither", own[0])
		}
	}
	for _, n := range c.MQTT.ServerNames {
		if net.ParseIP(n) == nil && !serverName(n) {
			bad("mqtt.server_names: %q, want host names and IP addresses", n)
		}
	}
	if c.HTTPS.Listen != "" && !address(c.HTTPS.Listen) {
		bad("https.listen: %q, want host:port, or empty for none", c.HTTPS.Listen)
	}
	if c.HTTPS.Permissive && c.HTTPS.Listen != "" && !loopback(c.HTTPS.Listen) {
		bad("https.permissive: %q listens to others, who could then do all without a key: "+
			"want https.listen on loopback, such as \"127.0.0.1:8443\"", c.HTTPS.Listen)
	}
	if c.Admin.Listen != "" && !address(c.Admin.Listen) {
		bad("admin.listen: %q, want host:port, or empty for none", c.Admin.Listen)
	}
	if p := c.Admin.Socket; len(p) > maxSocketPath {
		bad("admin.socket: %q, %d bytes, want at most %d: set a shorter one, "+
			"or start in the folder and use a relative one", p, len(p), maxSocketPath)
	} else if strings.HasPrefix(p, "@") {
		bad("admin.socket: %q, want a path: sockets without a file are open to everybody", p)
	}
	return append(errs, c.checkPeers()...)
}

// checkPeers is check for [[admin.peers]].
func (c *Config) checkPeers() (errs []error) {
	if len(c.Admin.Peers) > 0 && filepath.Dir(c.Admin.Socket) == filepath.Clean(c.DataDir) {
		errs = append(errs, fmt.Errorf("admin.socket: %q, which [[admin.peers]] cannot reach: data_dir is its "+
			"owner's alone: "+
			"want a folder that they may enter, such as \"/run/tidemill-bridge/admin.sock\"", c.Admin.Socket))
	}
	for i, p := range c.Admin.Peers {
		if (p.User == "") == (p.Group == "") {
			errs = append(errs, badTable(i, "admin.peers", "user: %q, want a user or, instead, a group, by name "+
				"or number",
				p.User))
		}
		if len(p.Roles) == 0 {
			errs = append(errs, badTable(i, "admin.peers", "roles: none, want one such as \"viewer\""))
		}
	}
	return errs
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
