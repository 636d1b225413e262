package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// metrics translates the parts' own counters into Prometheus's terms when
// they are asked for, so that no hot path knows of Prometheus.
type metrics struct{ s *Server }

// Describe announces nothing: which series there are depends on what is
// declared.
func (metrics) Describe(chan<- *prometheus.Desc) {}

const latencyHelp = "Time from a message's arrival until what a rule made of it was in the log, or an outbox had " +
	"delivered it."

// Collect implements prometheus.Collector.
func (m metrics) Collect(out chan<- prometheus.Metric) {
	x := series(out)
	x.clock(m.s)
	x.disk(m.s)
	x.gateway(m.s)
	x.log(m.s)
	x.rules(m.s)
	x.sinks(m.s)
	x.objects(m.s)
	x.connectors(m.s)
	x.kinesis(m.s)
	x.https(m.s)
	x.broker(m.s)
	x.fleet(m.s)
	x.functions(m.s)
	x.certificates(m.s)
	x.ofRules(m.s.ruleMetrics)
	x.alarms(m.s.alarms)
	x.backups(m.s)
	x.held(m.s)
	for o, c := range m.s.aws.Stats() {
		x.counter("aws_requests", "AWS requests answered, by operation (empty: none) and error code.",
			float64(c.Requests), "operation", o.Operation, "code", o.Code)
		x.counter("aws_request_seconds", "Time spent on AWS requests.", c.Time.Seconds(), "operation", o.Operation,
			"code", o.Code)
	}
}

// series are where values go to; labels are names and values in turns.
type series chan<- prometheus.Metric

func (x series) send(kind prometheus.ValueType, name, help string, v float64, labels []string) {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	x <- prometheus.MustNewConstMetric(prometheus.NewDesc("tidemill_"+name, help, names, nil), kind, v, values...)
}

func (x series) counter(name, help string, v float64, labels ...string) {
	x.send(prometheus.CounterValue, name+"_total", help, v, labels)
}

func (x series) gauge(name, help string, v float64, labels ...string) {
	x.send(prometheus.GaugeValue, name, help, v, labels)
}

func (x series) clock(s *Server) {
	st := s.clock.Status()
	held := 0.0
	if st.Held {
		held = 1
	}
	x.gauge("clock_held", "1 while the clock is not trusted after a jump: nothing is deleted for its age by the "+
		"new time.",
		held)
	x.gauge("clock_ahead_seconds", "The clock before the time that is expected, while it is not trusted.",
		st.Ahead.Seconds())
}

func (x series) https(s *Server) {
	var st listen.HTTPSStats
	if s.https != nil {
		st = s.https.Stats()
		x.counter("https_failed_handshakes", "TLS handshakes that failed on the HTTPS listener.",
			float64(st.FailedHandshakes))
		c := st.Connections
		x.gauge("https_connections", "Open connections of the HTTPS listener, those that carry MQTT not counted.",
			float64(c.Open))
		x.gauge("https_unauthenticated_connections", "Those of which nobody is authenticated yet.",
			float64(c.Unauthenticated))
		x.counter("https_refused_connections",
			"Connections closed since there were too many, of all or of their address.", float64(c.Refused))
		x.counter("https_evicted_connections", "Unauthenticated connections closed to make room for new ones.",
			float64(c.Evicted))
	}
	const help = "MQTT connections of the HTTPS listener, as WebSockets or chosen in the TLS handshake."
	x.gauge("https_mqtt_connections", help, float64(st.WebSockets), "by", "websocket")
	x.gauge("https_mqtt_connections", help, float64(st.ALPN), "by", "alpn")
	for status, n := range st.Refused {
		x.counter("websockets_refused", "WebSockets refused, by HTTP status.", float64(n), "status",
			strconv.Itoa(status))
	}
	for o, c := range s.custom.Stats() {
		x.counter("authorizer_answers", "Clients that custom authorizers were to judge, by outcome: allowed, "+
			"refused (also "+
			"without asking), failed, or busy: all its calls were under way.",
			float64(c.Clients), "authorizer", o.Authorizer, "outcome", o.Verdict)
		x.counter("authorizer_seconds", "Time spent on that.", c.Time.Seconds(), "authorizer", o.Authorizer, "outcome",
			o.Verdict)
	}
	for o, n := range s.provision.HookStats() {
		x.counter("hook_calls", "Calls of pre-provisioning hooks, by outcome: answered, failed, or busy: all its "+
			"calls were under way.",
			float64(n), "hook", o.ARN, "outcome", o.Outcome)
	}
	for o, c := range s.provision.Stats() {
		x.counter("provisioning_requests",
			"Requests of devices to be provisioned, to get or to retire a certificate, by the code of the answer.",
			float64(c.Requests), "operation", o.Operation, "code", o.Code)
		x.counter("provisioning_seconds", "Time spent on that.", c.Time.Seconds(), "operation", o.Operation, "code",
			o.Code)
	}
}

func (x series) gateway(s *Server) {
	g := s.gateway.Stats()
	x.gauge("gateway_connections", "Connected MQTT clients.", float64(g.Clients))
	x.gauge("gateway_subscriptions", "Subscriptions now.", float64(g.Subscriptions))
	x.gauge("gateway_queue_bytes", "Bytes waiting to be sent to clients or acknowledged by them.",
		float64(g.QueueBytes))
	x.gauge("gateway_unacknowledged_bytes", "Bytes of publishes that are not durable yet.", float64(g.UnackedBytes))
	x.counter("gateway_accepted", "Connections accepted.", float64(g.Accepted))
	x.gauge("gateway_unauthenticated_connections", "Open connections that policy has not let in yet.",
		float64(g.Unauthenticated))
	x.counter("gateway_over_limit", "Connections closed since there were too many, of all or of their address.",
		float64(g.OverLimit))
	x.counter("gateway_evicted", "Connections that policy had not let in, closed to make room for new ones.",
		float64(g.Evicted))
	for code, n := range g.Refused {
		why := "none" // no CONNACK was sent
		if code != 255 {
			why = strconv.Itoa(int(code))
		}
		x.counter("gateway_refused", "Connections that did not become clients, by CONNACK return code.", float64(n),
			"code", why)
	}
	x.gauge("gateway_sessions", "Sessions of clients, connected or away.", float64(g.Sessions))
	x.counter("gateway_takeovers", "Connections replaced by a newer one of the same client.", float64(g.Takeovers))
	for reason, n := range g.Disconnects {
		x.counter("gateway_disconnects", "Clients that ended, by reason.", float64(n), "reason", reason)
	}
	x.counter("gateway_received_bytes", "MQTT bytes from clients.", float64(g.BytesIn))
	x.counter("gateway_sent_bytes", "MQTT bytes to clients.", float64(g.BytesOut))
	for _, d := range []struct {
		why string
		n   uint64
	}{
		{"slow_qos0", g.DroppedQoS0}, {"queue_full", g.DroppedQueue}, {"policy", g.DroppedPolicy},
		{"expired", g.DroppedExpired}, {"too_large", g.DroppedTooLarge}, {"no_group_member", g.DroppedShared},
	} {
		x.counter("gateway_dropped_messages", "Messages not delivered to a subscriber.", float64(d.n), "why", d.why)
	}
	x.gatewayRefusals(&g)
	n, bytes := s.gateway.Retained().Count()
	x.gauge("gateway_retained_messages", "Retained messages.", float64(n))
	x.gauge("gateway_retained_bytes", "Bytes of retained messages.", float64(bytes))
	x.counter("gateway_dropped_events", "Lifecycle events that were not published since too many waited.",
		float64(s.lifecycle.Dropped()))
	x.counter("gateway_panics", "Connections ended by a fault of ours.", float64(g.Panics))
}

// gatewayRefusals are what the gateway did not do, for want of room, rate or rights.
func (x series) gatewayRefusals(g *gateway.Stats) {
	x.counter("gateway_refused_publishes", "Publishes that were refused, by policy or for a reserved topic.",
		float64(g.RefusedPublish))
	x.counter("gateway_refused_reserved",
		"Publishes of them on reserved topics that are not for devices, or of which this bridge has no service.",
		float64(g.RefusedReserved))
	x.counter("gateway_refused_wills", "Wills that were not published since their clients might not any more.",
		float64(g.RefusedWills))
	x.counter("gateway_dropped_retained", "Retained messages that were delivered and not kept, as there was no room.",
		float64(g.DroppedRetained))
	x.counter("gateway_refused_retained", "Retained messages that were refused, as there was no room.",
		float64(g.RefusedRetained))
	x.counter("mqtt_refused_no_room", "Publishes refused since the disk has too little room.",
		float64(g.RefusedNoRoom))
	x.counter("gateway_refused_sessions", "Connections refused since their principal has too many sessions.",
		float64(g.RefusedSessions))
	x.counter("gateway_throttled", "Times that a client was not read because of its publish rate.",
		float64(g.Throttled))
	x.counter("gateway_held", "Times that a client was not read because of what is not durable yet.", float64(g.Held))
	x.counter("gateway_expired_sessions", "Sessions that ended since their clients stayed away.",
		float64(g.ExpiredSessions))
	x.counter("gateway_corrupt_records", "Records of sessions that could not be read at the start.",
		float64(g.CorruptRecords))
}

// log tells of what goes into the log, and of the streams in it.
func (x series) log(s *Server) {
	in := s.ingest.Stats()
	x.counter("ingest_messages", "Messages taken: publishes, and readings of batches.", float64(in.Messages))
	x.counter("ingest_readings", "Readings taken from batches.", float64(in.Readings))
	x.counter("ingest_batches", "Batches taken.", float64(in.Batches))
	x.counter("ingest_batch_bytes", "Bytes of batches taken, as sent.", float64(in.BatchBytes))
	x.counter("ingest_duplicates", "Batches that were sent again and dropped.", float64(in.Duplicates))
	x.counter("ingest_refused_readings", "Readings that policy refused.", float64(in.Refused))
	x.counter("ingest_quarantined", "Batches that could not be read, kept aside.", float64(in.Quarantined))

	c := s.store.Counters()
	x.counter("log_syncs", "Syncs of the log.", float64(c.Groups))
	x.counter("log_batches", "Commits that shared them.", float64(c.Batches))
	x.counter("log_bytes", "Bytes appended to the log.", float64(c.Bytes))
	x.counter("log_sync_seconds", "Time spent in writes and syncs of the log.", c.Waited.Seconds())
	for _, d := range s.store.List() {
		info, err := admin.DescribeStream(s.store, d.Name)
		if err != nil {
			continue // deleted since
		}
		x.counter("stream_records", "Records ever appended.", float64(info.Records), "stream", d.Name)
		x.gauge("stream_kept_records", "Records not yet trimmed.", float64(info.Kept), "stream", d.Name)
		x.gauge("stream_kept_bytes", "Bytes not yet trimmed.", float64(info.Bytes), "stream", d.Name)
	}
}

func (x series) rules(s *Server) {
	// A rule with one action has 10 series, 13 if the action has an outbox: so
	// 10,000 rules stay within what a Prometheus server reads at once. Their
	// latencies are a sum and a count each; the histogram is one for all.
	latency := func(r rules.Metrics, until string, l rules.Latency) {
		desc := prometheus.NewDesc("tidemill_rule_latency_seconds", latencyHelp, []string{"rule", "until"}, nil)
		x <- prometheus.MustNewConstSummary(desc, uint64(l.Count), l.Sum.Seconds(), nil, r.Rule, until)
	}
	for _, r := range s.rules.Metrics() {
		x.counter("rule_matched", "Messages that FROM matched, or that Basic Ingest brought.", float64(r.Matched),
			"rule", r.Rule)
		x.counter("rule_unmet", "Messages that WHERE held back.", float64(r.Unmet), "rule", r.Rule)
		x.counter("rule_fired", "Messages that WHERE let through.", float64(r.Fired), "rule", r.Rule)
		x.counter("rule_unmerged", "Messages that fired without what * or path.* stands for, as it is no JSON "+
			"object to merge.",
			float64(r.Unmerged), "rule", r.Rule)
		x.counter("rule_errors", "Messages whose evaluation failed.", float64(r.Errors), "rule", r.Rule)
		x.counter("rule_error_actions", "Runs of the error action.", float64(r.ErrorActions), "rule", r.Rule)
		latency(r, "durable", r.Durable)
		outbox := false
		for _, a := range r.Slots {
			labels := []string{"rule", r.Rule, "action", a.Slot, "kind", a.Kind}
			x.counter("rule_actions", "Actions done: committed to a stream, or delivered.", float64(a.Success),
				labels...)
			x.counter("rule_action_errors", "Actions that could not be had or were given up.", float64(a.Failure),
				labels...)
			if a.Outbox {
				outbox = true
				x.counter("rule_action_retries", "Attempts of actions that failed and are repeated.",
					float64(a.Retries), labels...)
			}
		}
		if outbox {
			latency(r, "delivered", r.Delivered)
		}
	}
	x.actions(s)
	durable, delivered := s.rules.Latencies()
	for what, h := range map[string]rules.Histogram{"durable": durable, "delivered": delivered} {
		desc := prometheus.NewDesc("tidemill_rules_latency_seconds", latencyHelp, nil, prometheus.Labels{"until": what})
		x <- prometheus.MustNewConstHistogram(desc, h.Count, h.Sum.Seconds(), h.Buckets)
	}
	x.counter("rules_not_found", "Messages by Basic Ingest for no rule in force.", float64(s.rules.NotFound()))
	for function, n := range s.failures.Counts() {
		x.counter("rule_calls_failed", "Calls of rules' functions that failed or took too long.", float64(n),
			"function", function)
	}
	x.gauge("declarations_refused", "Files of bridge.d that are wrong now.", float64(s.declared.NumRefused()))
	x.counter("rules_skipped_messages", "Messages that left the ingest log before rules saw them.",
		float64(s.rules.Skipped()))
}

// sinks tells of what takes what rules made.
func (x series) sinks(s *Server) {
	o := s.drainer.Stats()
	x.counter("outbox_delivered", "Deliveries of actions done.", float64(o.Delivered))
	x.counter("outbox_retried", "Attempts that failed and were repeated.", float64(o.Retried))
	x.counter("outbox_failed", "Deliveries given up.", float64(o.Failed))
	x.outboxes(s)
	x.deliveryStreams(s)
}

// outboxes tells of what waits in each.
func (x series) outboxes(s *Server) {
	for _, o := range s.drainer.List() {
		if o.Unknown {
			continue
		}
		labels := []string{"rule", o.Rule, "action", o.Slot}
		x.gauge("outbox_waiting", "Deliveries that are neither done nor given up.", float64(o.Records), labels...)
		x.gauge("outbox_waiting_bytes", "Bytes that they take in the log.", float64(o.Bytes), labels...)
		x.gauge("outbox_age_seconds", "Age of the oldest of them; 0 without any.", age(o.Oldest), labels...)
	}
}

// age of what came at t, in seconds; 0 for never.
func age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, time.Since(t).Seconds())
}

// deliveryStreams tells of them in the terms of AWS's metrics: DeliveryToX.Records,
// .Bytes, .Success and .DataFreshness are series with a label for the destination.
func (x series) deliveryStreams(s *Server) {
	all, err := s.firehose.List()
	if err != nil {
		return // the log is closed
	}
	metrics := s.firehose.Metrics()
	for _, d := range all {
		labels := []string{"delivery_stream", d.Name}
		x.deliveryProcessing(metrics[d.Name], labels)
		x.counter("delivery_throttled_records", "Records that the API refused since too much waited.",
			float64(s.deliveries.Throttled(d.Name)), labels...)
		to := []string{"delivery_stream", d.Name, "destination", d.To}
		x.counter("delivery_incoming_records", "Records that were put, ever.", float64(d.Incoming), labels...)
		x.counter("delivery_objects", "Objects written.", float64(d.Objects), labels...)
		x.counter("delivery_records", "Records delivered.", float64(d.Stats.Records), labels...)
		x.counter("delivery_bytes", "Bytes in them, before compression.", float64(d.Stats.Bytes), labels...)
		x.counter("delivery_lost_records", "Records gone from the log before they were delivered.", float64(d.Lost),
			labels...)
		x.counter("delivery_failed_records",
			"Records that could not be processed or delivered, written under ErrorOutputPrefix.", float64(d.Failed),
			labels...)
		x.counter("delivery_attempts", "Attempts to deliver.", float64(d.Attempts), to...)
		x.counter("delivery_failures", "Attempts that failed and are repeated.", float64(d.Stats.Failures), labels...)
		x.gauge("delivery_freshness_seconds", "Age of the oldest record that is not delivered; 0 without any.",
			age(d.Oldest), to...)
		x.gauge("delivery_waiting_records", "Records that are not delivered.", float64(d.Backlog.Records), labels...)
		x.gauge("delivery_waiting_bytes", "Bytes that they take in the log.", float64(d.Backlog.Bytes), labels...)
		x.gauge("delivery_failed_objects", "Objects of what failed that wait to be driven again.",
			float64(d.FailedObjects), labels...)
	}
}

// deliveryProcessing tells what was made of records, and of copies.
func (x series) deliveryProcessing(m firehose.Metrics, labels []string) {
	x.counter("delivery_incoming_bytes", "Bytes of records, as they are first read for delivery.",
		float64(m.IncomingBytes), labels...)
	x.counter("delivery_function_calls", "Calls of the function that transforms records.", float64(m.Calls), labels...)
	x.counter("delivery_function_failures", "Those that failed, or did not come about.", float64(m.CallsFailed),
		labels...)
	x.counter("delivery_function_seconds", "Time that they took.", m.CallTime.Seconds(), labels...)
	x.counter("delivery_backup_attempts", "Attempts to write copies and what a destination did not take.",
		float64(m.BackupAttempts), labels...)
	x.counter("delivery_backup_failures", "Those that failed.", float64(m.BackupFailures), labels...)
	for _, a := range []struct {
		name, help string
		firehose.Amount
	}{
		{"processed", "that the function made", m.Processed},
		{"converted", "that became rows of Parquet", m.Converted},
		{"not_converted", "that could not be rows", m.NotConverted},
		{"backup", "in copies, and in lines of what a destination did not take", m.Backup},
	} {
		x.counter("delivery_"+a.name+"_records", "Records "+a.help+".", float64(a.Records), labels...)
		x.counter("delivery_"+a.name+"_bytes", "Bytes of records "+a.help+".", float64(a.Bytes), labels...)
	}
	if m.Fed {
		x.gauge("delivery_source_behind_seconds", "How far the last record read of the source is behind its newest.",
			m.Behind.Seconds(), labels...)
	}
}

// objects tells of buckets, of which there are as many as an operator makes.
func (x series) objects(s *Server) {
	c := s.objects.Counters()
	x.counter("objects_written", "Objects written.", float64(c.Written))
	x.counter("objects_written_bytes", "Bytes of objects, and of parts of such, that were written.",
		float64(c.BytesWritten))
	x.counter("objects_read", "Objects read.", float64(c.Read))
	x.counter("objects_read_bytes", "Bytes read from them.", float64(c.BytesRead))
	x.counter("objects_deleted", "Objects deleted.", float64(c.Deleted))
	x.counter("objects_upload_parts", "Parts of uploads written.", float64(c.Parts))
	buckets, open := s.objects.Usage()
	x.gauge("objects_uploads", "Uploads in parts that are open.", float64(open.Open))
	x.gauge("objects_upload_bytes", "Bytes of their parts.", float64(open.Bytes))
	for name, u := range buckets {
		x.gauge("bucket_objects", "Objects of a bucket, once it was counted.", float64(u.Objects), "bucket", name)
		x.gauge("bucket_bytes", "Their bytes.", float64(u.Bytes), "bucket", name)
	}
}

func (x series) connectors(s *Server) {
	for _, c := range s.connectors.List() {
		for _, n := range []struct {
			name, help string
			value      int64
		}{
			{"records", "User records read.", c.Records},
			{"filtered", "Records that a filter passed over.", c.Filtered},
			{"emitted", "Items written.", c.Emitted},
			{"emitted_bytes", "Bytes in them.", c.Bytes},
			{"batches", "Batches done.", c.Batches},
			{"refused", "Items refused, each time they were.", c.Failed},
			{"retries", "Attempts after the first, for items that were refused.", c.Retries},
			{"outages", "Attempts that failed as a whole and are repeated.", c.Outages},
			{"dead_letters", "Items that went to the dead letters.", c.Dead},
			{"read_failures", "Reads that failed and are repeated.", c.ReadFails},
			{"lost_shards", "Shards that went before they were read to the end.", c.Lost},
		} {
			x.counter("connector_"+n.name, n.help, float64(n.value), "connector", c.Name)
		}
		for _, sh := range c.Shards {
			if sh.Checkpoint == connector.ShardEnd {
				continue
			}
			labels := []string{"connector", c.Name, "shard", sh.Shard}
			x.gauge("connector_behind_seconds", "How far the shard is behind its tip, when last read.",
				sh.Behind.Seconds(), labels...)
			x.gauge("connector_buffered", "Items that wait for a batch.", float64(sh.Buffered), labels...)
			held := 0.0
			if sh.Trouble != "" {
				held = 1
			}
			x.gauge("connector_held", "1 while the shard stands still since something fails.", held, labels...)
		}
	}
}

// kinesis tells of the data streams: what came and went through the API.
func (x series) functions(s *Server) {
	if s.functions == nil {
		return
	}
	for name, st := range s.functions.manager.Stats() {
		x.counter("function_invocations", "Calls of functions that a process was found for.", float64(st.Invocations),
			"function", name)
		x.counter("function_errors", "Calls that a function failed: it told an error, ended or took too long.",
			float64(st.Errors), "function", name)
		x.counter("function_throttles", "Calls that were refused since there were too many at once.",
			float64(st.Throttles), "function", name)
		x.counter("function_loops", "Calls that were not made, as they would go on with a loop of functions.",
			float64(st.Loops), "function", name)
		x.counter("function_seconds", "Time that calls took, starts of processes included.", st.Duration.Seconds(),
			"function", name)
		x.counter("function_cold_starts", "Processes that were started.", float64(st.ColdStarts), "function", name)
		x.gauge("function_concurrent", "Calls under way.", float64(st.Concurrent), "function", name)
		x.gauge("function_processes", "Processes, busy and idle.", float64(st.Processes), "function", name)
	}
}

func (x series) kinesis(s *Server) {
	for _, st := range s.kinesis.Stats() {
		var all kinesis.Counts
		var behind time.Duration
		for _, sh := range st.Shards {
			all.InRecords, all.InBytes = all.InRecords+sh.InRecords, all.InBytes+sh.InBytes
			all.OutRecords, all.OutBytes = all.OutRecords+sh.OutRecords, all.OutBytes+sh.OutBytes
			all.PutThrottled, all.GetThrottled = all.PutThrottled+sh.PutThrottled, all.GetThrottled+sh.GetThrottled
			behind = max(behind, sh.Behind)
		}
		x.counter("kinesis_in_records", "Records put into a data stream.", float64(all.InRecords), "stream", st.Name)
		x.counter("kinesis_in_bytes", "Bytes of their data and partition keys.", float64(all.InBytes), "stream",
			st.Name)
		x.counter("kinesis_out_records", "Records read from a data stream or pushed to consumers.",
			float64(all.OutRecords), "stream", st.Name)
		x.counter("kinesis_out_bytes", "Bytes of their data and partition keys.", float64(all.OutBytes), "stream",
			st.Name)
		x.counter("kinesis_throttled_records", "Records refused by the limits of a shard.", float64(all.PutThrottled),
			"stream", st.Name)
		x.counter("kinesis_throttled_reads", "Reads refused by the limits of a shard.", float64(all.GetThrottled),
			"stream", st.Name)
		x.gauge("kinesis_iterator_age_seconds",
			"Age of the record that was read last, of the shard that is furthest behind; 0 at the tip.",
			behind.Seconds(), "stream", st.Name)
	}
	x.gauge("kinesis_subscriptions", "SubscribeToShard calls under way.", float64(s.aws.Subscriptions()))
}

// metricsHandler serves /metrics.
func (s *Server) metricsHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(metrics{s}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// actions tells of kinds of actions that have called their service.
func (x series) actions(s *Server) {
	for kind, st := range s.senders.Stats() {
		if st.Sends == 0 {
			continue
		}
		x.counter("action_delivered", "Deliveries of rule actions that their service took.", float64(st.Delivered),
			"kind", kind)
		x.counter("action_retried", "Tries of deliveries that failed and are repeated.", float64(st.Retried),
			"kind", kind)
		x.counter("action_failed", "Deliveries that their service, or the bridge, refused for good.",
			float64(st.Failed), "kind", kind)
		desc := prometheus.NewDesc("tidemill_action_batch_deliveries", "How many deliveries went together.", nil,
			prometheus.Labels{"kind": kind})
		x <- prometheus.MustNewConstHistogram(desc, st.Sends, float64(st.Delivered+st.Retried+st.Failed), st.Sizes)
	}
}
