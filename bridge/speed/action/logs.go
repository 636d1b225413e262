package action

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// Limits of PutLogEvents (CloudWatch Logs quotas).
const (
	maxLogEvents  = 10_000
	maxLogBytes   = 1 << 20
	logOverhead   = 26 // bytes that each event counts more
	logSpanMillis = 24 * 60 * 60 * 1000
)

var logGroup = regexp.MustCompile(`^[.\-_/#A-Za-z0-9]{1,512}$`)

// toLogs is the cloudwatchLogs action: the document becomes an event of a log
// stream that has the rule's name; in batch mode, each element of the array does.
var toLogs = sentKind{
	name: "cloudwatchLogs",
	members: []member{
		{name: "logGroupName", required: true},
		{name: "batchMode", form: boolean, standard: "false"},
	},
	resource: "logGroupName",
	judge: func(d *Delivery) error {
		return d.judge("logGroupName", matches(logGroup, "1 to 512 of a-z A-Z 0-9 . - _ / #"))
	},
	stage: func(d *Delivery) error {
		d.set("timestamp", strconv.FormatInt(d.At().UnixMilli(), 10))
		if d.Parameter("batchMode") == "true" {
			events, err := LogEvents(d.Data)
			if err == nil && len(events) == 0 {
				return errNothing
			}
			return err
		}
		if len(d.Data) == 0 {
			return errors.New("a log event of no bytes")
		}
		return d.textData(maxLogBytes - logOverhead)
	},
}

// A LogEvent is one element of the document in batch mode.
type LogEvent struct {
	Timestamp *int64  `json:"timestamp"` // epoch ms
	Message   *string `json:"message"`
}

// LogEvents reads the document of cloudwatchLogs's batch mode: an array of
// {timestamp, message} that one request takes.
func LogEvents(doc []byte) ([]LogEvent, error) {
	if !utf8.Valid(doc) || !bytes.HasPrefix(bytes.TrimSpace(doc), []byte("[")) {
		return nil, errNoArray
	}
	var events []LogEvent
	if err := json.Unmarshal(doc, &events); err != nil {
		return nil, fmt.Errorf("want an array of {\"timestamp\": epoch ms, \"message\": text}: %w", err)
	}
	if len(events) > maxLogEvents {
		return nil, fmt.Errorf("an array of %d elements, want at most %d", len(events), maxLogEvents)
	}
	size := 0
	for i, e := range events {
		if e.Timestamp == nil || e.Message == nil || *e.Message == "" || *e.Timestamp < 0 {
			return nil, fmt.Errorf("element %d: want {\"timestamp\": epoch ms, \"message\": text}", i)
		}
		if span := *e.Timestamp - *events[0].Timestamp; span > logSpanMillis || span < -logSpanMillis {
			return nil, fmt.Errorf("element %d: its time is more than 24 hours from the first's", i)
		}
		size += len(*e.Message) + logOverhead
	}
	if size > maxLogBytes {
		return nil, fmt.Errorf("events of %d bytes, %d for each beside its message; want at most %d", size, logOverhead,
			maxLogBytes)
	}
	return events, nil
}
