package config

import "log/slog"

// MQTT is the device listener, always mutual TLS.
type MQTT struct {
	Listen         string   `toml:"listen"`
	ServerNames    []string `toml:"server_names"`
	Cert           string   `toml:"cert"` // PEM file with the chain; "" for the one that the bridge makes
	Key            string   `toml:"key"`
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
	// bytes of a topic or filter; 0: the profile's, as with the four below
	MaxTopic         int    `toml:"max_topic"`
	MaxSlashes       int    `toml:"max_slashes"`       // in it
	MaxFilters       int    `toml:"max_filters"`       // of a SUBSCRIBE
	MaxSubscriptions int    `toml:"max_subscriptions"` // of a session
	MaxUnreleased    int    `toml:"max_unreleased"`    // QoS 2 messages of a session without PUBREL
	MaxSessions      int    `toml:"max_sessions"`
	MaxRetained      int    `toml:"max_retained"`
	MaxRetainedBytes Size   `toml:"max_retained_bytes"`
	MaxPerAddress    int    `toml:"max_per_address"` // connections; 0: no limit
	SessionOwner     string `toml:"session_owner"`   // "principal" or "client": who may resume one
	// Of one principal; 0: no limit. Sessions are those that outlive their connection.
	MaxPrincipalSessions      int  `toml:"max_principal_sessions"`
	MaxPrincipalRetained      int  `toml:"max_principal_retained"`
	MaxPrincipalRetainedBytes Size `toml:"max_principal_retained_bytes"`

	MaxPublishRate  int  `toml:"max_publish_rate"`  // of a connection, per second; 0: the profile's
	MaxPublishBytes Size `toml:"max_publish_bytes"` // likewise
	// messages a second of one thing, each reading of a batch one; 0: no limit
	MaxThingRate  int  `toml:"max_thing_rate"`
	MaxThingBytes Size `toml:"max_thing_bytes"` // likewise
}

// HTTPS is the listener of the AWS APIs.
type HTTPS struct {
	Listen         string `toml:"listen"` // "" for none
	Cert           string `toml:"cert"`   // as of MQTT
	Key            string `toml:"key"`
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

// Shadow bounds the shadows of one thing; 0: no limit.
type Shadow struct {
	MaxNamed int  `toml:"max_named"`
	MaxBytes Size `toml:"max_bytes"` // of all of them as stored, with their times
}

// Admin is where the bridge is looked after.
type Admin struct {
	Listen string `toml:"listen"` // metrics and health; "" for none
	Socket string `toml:"socket"` // "" for DataDir/admin.sock
	Peers  []Peer `toml:"peers"`
}

// A Peer gives roles to a user or a group of the system, at the admin socket.
type Peer struct {
	User  string   `toml:"user"`  // a name or a number
	Group string   `toml:"group"` // instead of User, likewise
	Roles []string `toml:"roles"` // as users have
}

// Ingest is the log of everything that came in.
type Ingest struct {
	Shards    int      `toml:"shards"`
	Retention Duration `toml:"retention"`
	MaxBytes  Size     `toml:"max_bytes"`
	Store     []string `toml:"store"`
	Gather    Duration `toml:"gather"` // how long a message may wait for others to share its sync
	Units     bool     `toml:"units"`  // readings of batches carry their units
}

// Rules bounds what rules leave behind.
type Rules struct {
	MaxBacklog Size     `toml:"max_backlog"` // of each outbox and delivery stream
	GiveUp     Duration `toml:"give_up"`     // how long an outbox tries a delivery
}

// Channel bounds the channels that iotAnalytics actions fill.
type Channel struct {
	Retention Duration `toml:"retention"` // of messages; 0: no limit
	MaxBytes  Size     `toml:"max_bytes"` // of one channel, the oldest messages go beyond it; 0: no limit
	Max       int      `toml:"max"`       // channels; actions that name more fail
}

// BridgeD is the folder of declarations.
type BridgeD struct {
	Dir   string `toml:"dir"`   // "" for DataDir/bridge.d
	Watch bool   `toml:"watch"` // apply what changes by itself
}

// Objects is the embedded object store.
type Objects struct {
	Dir            string   `toml:"dir"`              // "" for DataDir/objects
	Public         []string `toml:"public"`           // buckets that everybody reads
	MinFree        Size     `toml:"min_free"`         // of its disk, which writes leave
	MaxBucket      Size     `toml:"max_bucket"`       // bytes of one; 0: no limit
	MaxUploads     int      `toml:"max_uploads"`      // in parts, open at once
	MaxUploadBytes Size     `toml:"max_upload_bytes"` // of their parts together; 0: no limit
	MaxUploadAge   Duration `toml:"max_upload_age"`
}

// Clock bounds jumps of the machine's clock, beyond which nothing is deleted for
// its age by the new time.
type Clock struct {
	MaxStep     Duration `toml:"max_step"`     // while the bridge runs
	MaxGap      Duration `toml:"max_gap"`      // since it last ran
	AcceptAfter Duration `toml:"accept_after"` // 0: never by itself
	MaxError    Duration `toml:"max_error"`    // told to devices while the kernel says nothing; 0: none is told
}

// PKI is the bridge's own certificate authority.
type PKI struct {
	DeviceLifetime Duration `toml:"device_lifetime"` // 0: to the end of 2049
}

// Audit is the log of who changed what.
type Audit struct {
	Retention Duration `toml:"retention"` // 0: no limit
	MaxBytes  Size     `toml:"max_bytes"` // likewise
	Events    bool     `toml:"events"`    // rules see each record
}

// Egress is what rules, delivery streams and functions may reach, beside what the
// configuration itself names.
type Egress struct {
	Allow []string `toml:"allow"`
	Only  bool     `toml:"only"`
}

// Lambda is functions that run on this machine.
type Lambda struct {
	Enabled        bool     `toml:"enabled"`
	Unsafe         bool     `toml:"unsafe"`  // where nothing isolates them, too
	Network        bool     `toml:"network"` // they reach what Egress allows
	Directories    []string `toml:"directories"`
	MaxConcurrency int      `toml:"max_concurrency"`
	MaxMemory      Size     `toml:"max_memory"`
	MaxTimeout     Duration `toml:"max_timeout"`
	MaxFunctions   int      `toml:"max_functions"`
	MaxCode        Size     `toml:"max_code"`
	Idle           Duration `toml:"idle"`
}

// Secrets are what get_secret of rules reads.
type Secrets struct {
	Dir string `toml:"dir"` // "" for DataDir/secrets
}

// Predict is the service that machinelearning_predict of rules asks.
type Predict struct {
	URL       string `toml:"url"`        // {model} in it stands for the model's id; "": none
	TokenFile string `toml:"token_file"` // sent as a bearer token
}

// Web is the http action's.
type Web struct {
	Tries int `toml:"tries"` // answered by 429 or 5xx, before it is given up; 0: as every action
}

// Metric bounds the metrics that cloudwatchMetric actions make.
type Metric struct {
	Max  int      `toml:"max"`  // more are refused
	Keep Duration `toml:"keep"` // after its last value a metric is dropped; 0: never
}

// Alertmanager is where the alarms of cloudwatchAlarm actions are raised.
type Alertmanager struct {
	URL          string `toml:"url"` // "": nowhere; states are kept
	Username     string `toml:"username"`
	PasswordFile string `toml:"password_file"`
	MaxAlarms    int    `toml:"max_alarms"`
}

// Postgres is the database of the postgres and timestream actions.
type Postgres struct {
	URL          string `toml:"url"` // without a password; "": none
	PasswordFile string `toml:"password_file"`
	Connections  int    `toml:"connections"` // at most
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
