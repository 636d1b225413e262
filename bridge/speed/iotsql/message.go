package iotsql

// A Message is one published message as a rule sees it.
//
// The evaluator only reads it and keeps no reference after a call returns, so
// a caller may reuse both the struct and Payload. One Message may be
// evaluated by several statements at the same time.
type Message struct {
	Topic   string // as published; a Basic Ingest prefix included
	Payload []byte // JSON or anything else
	Time    int64  // the engine's clock when it took the message, epoch ms: timestamp()

	ClientID  string // clientid(), which is "n/a" when this is empty or Protocol isn't MQTT
	Principal string // principal(): certificate fingerprint, or the caller's id
	SourceIP  string // sourceip()
	TraceID   string // traceid(), Undefined when empty or Protocol isn't MQTT
	AccountID string // accountid()
	Protocol  string // "mqtt" (also meant by ""), or "http" for a publish that did not come over MQTT
	RuleName  string // the rule being evaluated; names the Basic Ingest prefix $aws/rules/<RuleName>/

	// Seed makes rand() and newuuid() repeat: evaluated again with the same
	// seed they yield the same. Zero: they are random.
	Seed [16]byte

	Properties *Properties // MQTT 5 properties; nil when there are none
}

// Properties are the MQTT 5 publish properties that statements can read.
type Properties struct {
	ContentType     string // empty: absent
	ResponseTopic   string // empty: absent
	CorrelationData []byte // nil: absent
	FormatIndicator string // "UNSPECIFIED_BYTES", "UTF8_DATA", or empty: absent
	User            []UserProperty
}

// A UserProperty is one MQTT 5 user property. Names may repeat; order is kept.
type UserProperty struct{ Key, Value string }
