package device

import (
	"encoding/hex"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/agent/uplink"
)

// Status is the agent's state for the status command, as JSON on the socket.
// Times are RFC 3339; a time that never was is absent.
type Status struct {
	Version string         `json:"version"`
	Thing   string         `json:"thing"`
	Boot    string         `json:"boot"` // hex, random for each start
	Started time.Time      `json:"started"`
	Clock   string         `json:"clock"` // the system's: synced, unsynced
	Time    TimeStatus     `json:"time"`
	Link    LinkStatus     `json:"link"`
	Budget  *BudgetStatus  `json:"budget,omitempty"` // nil: there is none
	Spool   SpoolStatus    `json:"spool"`
	Loss    LossStatus     `json:"power_cut"`
	Writes  WriteStatus    `json:"writes"`
	Disk    DiskStatus     `json:"disk"`
	Losses  []Loss         `json:"losses,omitempty"` // of data_dir's files, the newest last
	Shadow  *ShadowStatus  `json:"shadow,omitempty"`
	Refused *RefusedStatus `json:"refused,omitempty"`              // since the start; nil: nothing
	Remote  *RemoteStatus  `json:"device_configuration,omitempty"` // nil: there is none for the agent
	Sensors []SensorStatus `json:"sensors"`
}

// LinkStatus is the uplink's part.
type LinkStatus struct {
	State     uplink.State `json:"state"`
	Since     time.Time    `json:"since"`
	Endpoint  string       `json:"endpoint"`
	ErrorKind uplink.Kind  `json:"error_kind,omitempty"`
	Error     string       `json:"error,omitempty"` // the last failure, also while online again
	ErrorAt   time.Time    `json:"error_at,omitzero"`
	LastAck   time.Time    `json:"last_ack,omitzero"`
	Attempts  uint64       `json:"attempts"`
	Connects  uint64       `json:"connects"`
	Sent      uint64       `json:"batches_sent"`
	Acked     uint64       `json:"batches_acked"`
	Damaged   uint64       `json:"batches_damaged"`
	Inflight  int          `json:"inflight"`
	KeepAlive float64      `json:"keepalive_seconds"` // of silence until a ping

	BytesSent     int64 `json:"bytes_sent"` // since the start, TLS included
	BytesReceived int64 `json:"bytes_received"`
}

// SpoolStatus is the spool's part.
type SpoolStatus struct {
	Batches   uint64    `json:"batches"`
	Readings  uint64    `json:"readings"`
	Bytes     uint64    `json:"bytes"`
	Oldest    time.Time `json:"oldest,omitzero"` // when the oldest batch was flushed
	Unflushed int       `json:"unflushed"`       // readings in memory
	Appended  uint64    `json:"appended"`        // durable readings since the file was made
	Acked     uint64    `json:"acked"`
	Dropped   uint64    `json:"dropped"`
	Thinned   uint64    `json:"thinned,omitempty"` // those of Dropped that spool.overflow "thin-out" took
	Refused   uint64    `json:"refused"`
	FileBytes int64     `json:"file_bytes"`

	Failing *SpoolFailure `json:"failing,omitempty"` // absent while the file can be written
}

// SpoolFailure says that readings can't be written: Unflushed are at risk.
type SpoolFailure struct {
	Since   time.Time `json:"since"`
	Error   string    `json:"error"`
	Refused uint64    `json:"refused"` // lost since then, for want of memory
}

// ShadowStatus is the shadow's part.
type ShadowStatus struct {
	Local uint64 `json:"local_version"` // changes made on the device
	Cloud uint64 `json:"cloud_version"` // last seen

	Refused string    `json:"refused,omitempty"`  // why the cloud does not take what is reported
	Error   string    `json:"error,omitempty"`    // why it is not on the disk
	LeftOut int       `json:"left_out,omitempty"` // sensors that a shadow has no room for
	Since   time.Time `json:"since,omitzero"`     // of Error or LeftOut
}

// RemoteStatus is what became of the deviceConfiguration of provisioning.
type RemoteStatus struct {
	State  string   `json:"state"`            // applied or refused
	Errors []string `json:"errors,omitempty"` // why it is refused as a whole
}

// RefusedStatus is what the bridge's policy refused of this device's readings.
// They were acknowledged and are lost.
type RefusedStatus struct {
	Readings uint64    `json:"readings"`
	Topics   []string  `json:"topics"` // of the last batch that had some
	Last     time.Time `json:"last"`
}

// Status may be called from any goroutine until Run returns.
func (a *Agent) Status() Status {
	cfg := a.config()
	u, sp, bytes := a.uplink.Status(), a.spool.Stats(), a.meter.Status()
	st := Status{
		Version: a.deps.Version, Thing: cfg.Thing, Boot: hex.EncodeToString(a.boot[:]), Started: a.started,
		Link: LinkStatus{State: u.State, Since: u.Since, Endpoint: u.Endpoint, ErrorKind: u.ErrorKind, Error: u.Error,
			ErrorAt: u.ErrorAt,
			LastAck: u.LastAck, Attempts: u.Attempts, Connects: u.Connects, Sent: u.Sent, Acked: u.Acked,
			Damaged: u.Damaged, Inflight: u.Inflight, KeepAlive: u.KeepAlive.Seconds(),
			BytesSent: bytes.Up, BytesReceived: bytes.Down},
		Budget: a.budgetStatus(&cfg, &bytes),
		Spool: SpoolStatus{Batches: sp.Batches, Readings: sp.Readings, Bytes: sp.Bytes, Oldest: sp.Oldest,
			Unflushed: sp.Unflushed,
			Appended:  sp.Appended, Acked: sp.Acked, Dropped: sp.Dropped, Thinned: sp.Thinned,
			Refused: sp.Refused, FileBytes: sp.FileBytes},
		Disk: disk(cfg.DataDir), Losses: a.inventory.losses(),
		Sensors: []SensorStatus{},
	}
	if f := sp.Failure; f != nil {
		st.Spool.Failing = &SpoolFailure{Since: f.Since, Error: f.Error, Refused: f.Refused}
	}
	now := time.Now()
	st.Loss = lossStatus(&sp, now)
	st.Writes = a.writes.status(now, sp.Stored, cfg.Card.Cycles, int64(cfg.Spool.MaxWrites))
	var kernel telemetry.Clock
	st.Time, kernel = a.timeStatus(sp.Batches)
	if st.Clock = "unsynced"; kernel == telemetry.ClockSynced {
		st.Clock = "synced"
	}
	if a.shadow != nil {
		s := a.shadow.Status()
		a.mu.Lock()
		u := a.unkept
		a.mu.Unlock()
		st.Shadow = &ShadowStatus{Local: s.LocalVersion, Cloud: s.CloudVersion,
			Refused: s.Parked, Error: u.err, LeftOut: u.leftOut, Since: u.since}
	}
	st.Refused = a.refusals.status()
	if r := &cfg.Remote; r.State != config.RemoteNone {
		st.Remote = &RemoteStatus{State: r.State, Errors: r.Errors}
	}
	for _, s := range a.sampler.Status() {
		st.Sensors = append(st.Sensors, sensorStatus(&s))
	}
	return st
}

// metrics fills the Prometheus page.
func (a *Agent) metrics(m *health.Metrics) {
	st := a.Status()
	m.Family("tidemill_agent_info", "gauge", "The agent's version; the value is 1.")
	m.Sample("tidemill_agent_info", 1, "version", st.Version, "thing", st.Thing)
	m.One("tidemill_agent_start_time_seconds", "gauge", "Unix time of the start.", float64(st.Started.UnixMilli())/1000)
	m.One("tidemill_agent_clock_synced", "gauge", "1 if the kernel says that the clock is synchronised.",
		flag(st.Clock == "synced"))
	a.timeMetrics(m, &st.Time)
	m.One("tidemill_agent_online", "gauge", "1 while connected to the broker.", flag(st.Link.State == uplink.Online))
	m.One("tidemill_agent_connect_attempts_total", "counter", "Connections tried.", float64(st.Link.Attempts))
	m.One("tidemill_agent_connects_total", "counter", "Connections accepted by the broker.", float64(st.Link.Connects))
	m.One("tidemill_agent_batches_sent_total", "counter", "Batches handed to a connection, repeats included.",
		float64(st.Link.Sent))
	m.One("tidemill_agent_batches_acked_total", "counter", "Batches acknowledged by the broker.",
		float64(st.Link.Acked))
	m.One("tidemill_agent_inflight_messages", "gauge", "Messages sent and not yet acknowledged.",
		float64(st.Link.Inflight))
	m.One("tidemill_agent_keepalive_seconds", "gauge", "How long the link may be silent until a ping.",
		st.Link.KeepAlive)
	budgetMetrics(m, &st)
	m.One("tidemill_agent_spool_batches", "gauge", "Batches waiting in the spool.", float64(st.Spool.Batches))
	m.One("tidemill_agent_spool_readings", "gauge", "Readings in the waiting batches.", float64(st.Spool.Readings))
	m.One("tidemill_agent_spool_bytes", "gauge", "Bytes of the waiting batches.", float64(st.Spool.Bytes))
	m.One("tidemill_agent_spool_file_bytes", "gauge", "Size of the spool's file.", float64(st.Spool.FileBytes))
	if !st.Spool.Oldest.IsZero() {
		m.One("tidemill_agent_spool_oldest_timestamp_seconds", "gauge",
			"Unix time when the oldest waiting batch was written.", float64(st.Spool.Oldest.UnixMilli())/1000)
	}
	m.One("tidemill_agent_spool_failing", "gauge", "1 while the spool's file cannot be written.",
		flag(st.Spool.Failing != nil))
	writeMetrics(m, &st.Writes, &st.Loss)
	m.One("tidemill_agent_disk_free_bytes", "gauge", "Room on the disk of data_dir.", float64(st.Disk.Free))
	m.One("tidemill_agent_readings_unflushed", "gauge", "Readings in memory only.", float64(st.Spool.Unflushed))
	m.One("tidemill_agent_readings_appended_total", "counter", "Readings made durable since the spool was made.",
		float64(st.Spool.Appended))
	m.One("tidemill_agent_readings_dropped_total", "counter", "Readings dropped unsent since the spool was made.",
		float64(st.Spool.Dropped))
	m.One("tidemill_agent_readings_thinned_total", "counter",
		"Those of the dropped that gave way to keep the whole time.", float64(st.Spool.Thinned))
	m.One("tidemill_agent_readings_refused_total", "counter", "Readings that the spool did not take.",
		float64(st.Spool.Refused))
	if st.Refused != nil {
		m.One("tidemill_agent_readings_refused_by_policy_total", "counter",
			"Readings that the bridge's policy refused since the start.", float64(st.Refused.Readings))
	}
	m.One("tidemill_agent_device_configuration_refused", "gauge",
		"1 if the deviceConfiguration of provisioning is refused.",
		flag(st.Remote != nil && st.Remote.State == config.RemoteRefused))
	sensorMetrics(m, st.Sensors)
}
