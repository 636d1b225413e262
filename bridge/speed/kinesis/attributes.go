package kinesis

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// attributes are what a stream has beyond the log's own settings: a document
// that the log keeps with it. FORMAT.md describes it. One that is in use is
// never changed, but replaced.
type attributes struct {
	Mode      string            `json:"mode,omitempty"`           // "": provisioned
	MaxRecord int32             `json:"max_record_kib,omitempty"` // 0: 1024
	Tags      map[string]string `json:"tags,omitempty"`
	Consumers []consumer        `json:"consumers,omitempty"` // by name
	KeyID     string            `json:"key_id,omitempty"`    // "": not encrypted
	Metrics   []string          `json:"metrics,omitempty"`   // of shards, sorted
	Policy    string            `json:"policy,omitempty"`
	Warm      int32             `json:"warm_mibps,omitempty"` // throughput asked for, of an on-demand stream
	Auto      bool              `json:"auto,omitempty"`       // records go to any shard, whatever their keys
	Declared  int               `json:"declared,omitempty"`   // shards that a file asked for last
	Deleting  bool              `json:"deleting,omitempty"`
	Scaled    []int64           `json:"scaled_ms,omitempty"` // when the shard count was updated
	Moded     []int64           `json:"moded_ms,omitempty"`  // when the mode was changed
}

// A consumer is one that is registered for enhanced fan-out.
type consumer struct {
	Name    string            `json:"name"`
	Created int64             `json:"created_ms"`
	Tags    map[string]string `json:"tags,omitempty"`
	Policy  string            `json:"policy,omitempty"`
}

const (
	onDemand    = "ON_DEMAND"
	provisioned = "PROVISIONED"
)

// parseAttributes reads what the log keeps; streams without any are
// provisioned and have the defaults.
func parseAttributes(b []byte) (*attributes, error) {
	at := &attributes{}
	if len(b) == 0 {
		return at, nil
	}
	if err := json.Unmarshal(b, at); err != nil {
		return nil, fmt.Errorf("kinesis: attributes: %w", err)
	}
	return at, nil
}

func (at *attributes) encode() []byte {
	b, err := json.Marshal(at)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return b
}

// copy is one that may be changed.
func (at *attributes) copy() *attributes {
	c := *at
	c.Tags = maps.Clone(at.Tags)
	c.Consumers = slices.Clone(at.Consumers)
	for i := range c.Consumers {
		c.Consumers[i].Tags = maps.Clone(c.Consumers[i].Tags)
	}
	c.Metrics = slices.Clone(at.Metrics)
	c.Scaled = slices.Clone(at.Scaled)
	c.Moded = slices.Clone(at.Moded)
	return &c
}

func (at *attributes) mode() *StreamModeDetails {
	m := at.Mode
	if m == "" {
		m = provisioned
	}
	return &StreamModeDetails{&m}
}

// What a RecordDistributionStrategy may be.
const (
	distributeAuto   = "AUTO"
	distributeByUser = "USER_PARTITION_KEY"
)

// distribution is the strategy of an on-demand stream, nil for others.
func (at *attributes) distribution() *string {
	s := distributeByUser
	switch {
	case at.Mode != onDemand:
		return nil
	case at.Auto:
		s = distributeAuto
	}
	return &s
}

// maxRecord is the most bytes that data and key of a record may have.
func (at *attributes) maxRecord() int {
	if at.MaxRecord == 0 {
		return 1 << 20
	}
	return int(at.MaxRecord) << 10
}

// encryption is what answers say: nil for none.
func (at *attributes) encryption() *string {
	if at.KeyID == "" {
		return nil
	}
	kms := "KMS"
	return &kms
}

// encryptionType and key are what descriptions say.
func (at *attributes) encryptionType() *string {
	if kms := at.encryption(); kms != nil {
		return kms
	}
	none := "NONE"
	return &none
}

func (at *attributes) key() *string {
	if at.KeyID == "" {
		return nil
	}
	return &at.KeyID
}

// find returns the consumer of a name, or nil.
func (at *attributes) find(name string) *consumer {
	for i := range at.Consumers {
		if at.Consumers[i].Name == name {
			return &at.Consumers[i]
		}
	}
	return nil
}

// recent drops the times that are not of the day before now.
func recent(times []int64, now time.Time) []int64 {
	from := now.Add(-24 * time.Hour).UnixMilli()
	return slices.DeleteFunc(times, func(t int64) bool { return t <= from })
}
