package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

// A sample stands in for a bridge in rule test: the message with what a bridge
// knows of it, and the answers of the functions that ask one.
type sample struct {
	message iotsql.Message
	answers map[string][]byte // "-FLAG KEY" to the value
	missing []string          // flags that would have answered
}

var errNoBridge = errors.New("there is no bridge to ask here")

// newSample defines the flags that fill a sample.
func newSample(flags *flag.FlagSet) *sample {
	x := &sample{answers: map[string][]byte{}}
	m := &x.message
	m.Time = time.Now().UnixMilli()
	flags.StringVar(&m.Topic, "topic", "", "topic the message is published on")
	flags.StringVar(&m.RuleName, "rule", "", "`name` of the rule, for Basic Ingest; without it the one of the topic")
	flags.StringVar(&m.ClientID, "client", "test", "client id of the publisher")
	flags.StringVar(&m.Principal, "principal", strings.Repeat("0", 64), "principal(), a certificate's id")
	flags.StringVar(&m.TraceID, "trace", "00000000-0000-4000-8000-000000000000", "traceid()")
	flags.StringVar(&m.SourceIP, "source-ip", "127.0.0.1", "sourceip()")
	flags.StringVar(&m.AccountID, "account", "000000000000", "accountid()")
	flags.StringVar(&m.Protocol, "protocol", "mqtt", "mqtt, or http for a message that was not published over MQTT")
	flags.Func("property", "`NAME=VALUE` of MQTT 5, NAME as get_mqtt_property has it; correlation_data in base64 (repeat)", x.property)
	flags.Func("user-property", "`NAME=VALUE` of MQTT 5 (repeat)", func(s string) error {
		name, value, _ := strings.Cut(s, "=")
		p := x.properties()
		p.User = append(p.User, iotsql.UserProperty{Key: name, Value: value})
		return nil
	})
	for _, f := range []struct{ name, usage string }{
		{"shadow", "`THING[/NAME]=JSON`, or =@FILE: what GetThingShadow answers (repeat)"},
		{"thing", "`THING=JSON`, or =@FILE: what DescribeThing answers (repeat)"},
		{"groups", "`THING=JSON`, or =@FILE: what ListThingGroupsForThing answers (repeat)"},
		{"descriptors", "`BUCKET/KEY=@FILE`: a protobuf descriptor set (repeat)"},
	} {
		flags.Func(f.name, f.usage, func(s string) (err error) {
			key, value, ok := strings.Cut(s, "=")
			if !ok {
				return fmt.Errorf("want %s", strings.ReplaceAll(f.usage, "`", ""))
			}
			x.answers["-"+f.name+" "+key], err = argument(value)
			return err
		})
	}
	return x
}

func (x *sample) properties() *iotsql.Properties {
	if x.message.Properties == nil {
		x.message.Properties = &iotsql.Properties{}
	}
	return x.message.Properties
}

func (x *sample) property(s string) (err error) {
	name, value, _ := strings.Cut(s, "=")
	p := x.properties()
	switch name {
	case "content_type":
		p.ContentType = value
	case "response_topic":
		p.ResponseTopic = value
	case "format_indicator":
		p.FormatIndicator = value
	case "correlation_data":
		p.CorrelationData, err = base64.StdEncoding.DecodeString(value)
	default:
		err = fmt.Errorf("want content_type, response_topic, format_indicator or correlation_data before the =")
	}
	return err
}

// answer finds what a flag gave, and notes which flag is missing.
func (x *sample) answer(flag, key string) ([]byte, error) {
	if b, ok := x.answers["-"+flag+" "+key]; ok {
		return b, nil
	}
	x.missing = append(x.missing, fmt.Sprintf("-%s %s=@FILE", flag, key))
	return nil, errNoBridge
}

// Shadow implements iotsql.Shadows.
func (x *sample) Shadow(_ context.Context, thing, name string) ([]byte, error) {
	if name != "" {
		thing += "/" + name
	}
	return x.answer("shadow", thing)
}

// Describe implements iotsql.Things.
func (x *sample) Describe(_ context.Context, thing string) ([]byte, error) {
	return x.answer("thing", thing)
}

// Groups implements iotsql.Things.
func (x *sample) Groups(_ context.Context, thing string) ([]byte, error) {
	return x.answer("groups", thing)
}

// DescriptorSet implements iotsql.Descriptors.
func (x *sample) DescriptorSet(_ context.Context, bucket, key, _ string) ([]byte, string, error) {
	set, err := x.answer("descriptors", bucket+"/"+key)
	return set, "flag", err
}
