package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// A sample stands in for a bridge in rule test: the message with what a bridge
// knows of it, and the answers of the functions that ask one.
type sample struct {
	message iotsql.Input
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
	flags.StringVar(&m.Rule, "rule", "", "`name` of the rule, for Basic Ingest; without it the one of the topic")
	flags.StringVar(&m.ClientID, "client", "test", "client id of the publisher")
	flags.StringVar(&m.Principal, "principal", strings.Repeat("0", 64), "principal(), a certificate's id")
	m.Trace = message.Trace{6: 0x40, 8: 0x80}
	flags.Func("trace", "traceid(), a UUID (default "+m.Trace.String()+")", func(s string) (err error) {
		var ok bool
		if m.Trace, ok = message.ParseTrace(s); !ok {
			err = errors.New("want a UUID, such as 7e146a2c-95b5-4caf-98b9-50e3969734c7")
		}
		return err
	})
	flags.StringVar(&m.SourceIP, "source-ip", "127.0.0.1", "sourceip()")
	flags.StringVar(&m.Account, "account", "000000000000", "accountid()")
	flags.StringVar(&m.Protocol, "protocol", "mqtt", "mqtt, or http for a message that was not published over MQTT")
	flags.Func("property", "`NAME=VALUE` of MQTT 5, NAME as get_mqtt_property has it; correlation_data in base64 (repeat)",
		x.property)
	flags.Func("user-property", "`NAME=VALUE` of MQTT 5 (repeat)", func(s string) error {
		name, value, _ := strings.Cut(s, "=")
		m.Properties = packet.AppendUser(m.Properties, name, value)
		return new(packet.Properties).Parse(packet.PUBLISH, m.Properties)
	})
	for _, f := range []struct{ name, usage string }{
		{"shadow", "`THING[/NAME]=JSON`, or =@FILE: what GetThingShadow answers (repeat)"},
		{"thing", "`THING=JSON`, or =@FILE: what DescribeThing answers (repeat)"},
		{"groups", "`THING=JSON`, or =@FILE: what ListThingGroupsForThing answers (repeat)"},
		{"descriptors", "`BUCKET/KEY=@FILE`: a protobuf descriptor set (repeat)"},
		{"secret", "`NAME=VALUE`, or =@FILE: what get_secret reads; it is shown (repeat)"},
		{"item", "`TABLE/KEY[/SORTKEY]=JSON`, or =@FILE: what get_dynamodb reads (repeat)"},
		{"function", "`ARN=JSON`, or =@FILE: what aws_lambda answers (repeat)"},
		{"prediction", "`MODEL=JSON`, or =@FILE: what machinelearning_predict answers (repeat)"},
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

// services are those that functions of a statement ask: the flags.
func (x *sample) services() *iotsql.Services {
	return &iotsql.Services{Shadows: x, Things: x, Protobuf: x, Secrets: x, Tables: x, Lambdas: x, Models: x}
}

// property adds one of those that get_mqtt_property reads.
func (x *sample) property(s string) error {
	name, value, _ := strings.Cut(s, "=")
	p := &x.message.Properties
	switch name {
	case "content_type":
		*p = packet.AppendText(*p, packet.ContentType, value)
	case "response_topic":
		*p = packet.AppendText(*p, packet.ResponseTopic, value)
	case "format_indicator":
		n := slices.Index([]string{"UNSPECIFIED_BYTES", "UTF8_DATA"}, value)
		if n < 0 {
			return errors.New("want UNSPECIFIED_BYTES or UTF8_DATA after format_indicator=")
		}
		*p = packet.AppendNumber(*p, packet.PayloadFormat, uint32(n))
	case "correlation_data":
		data, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return err
		}
		*p = packet.AppendText(*p, packet.CorrelationData, data)
	default:
		return errors.New("want content_type, response_topic, format_indicator or correlation_data before the =")
	}
	return new(packet.Properties).Parse(packet.PUBLISH, *p) // as a client's are
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

// Secret implements iotsql.Secrets.
func (x *sample) Secret(_ context.Context, id string, _ bool) ([]byte, error) {
	return x.answer("secret", id)
}

// Item implements iotsql.Tables.
func (x *sample) Item(_ context.Context, table, _ string, partition []byte, _ string, sorted []byte) ([]byte, error) {
	for _, value := range [][]byte{partition, sorted} {
		if len(value) > 0 {
			table += "/" + strings.Trim(string(value), `"`)
		}
	}
	return x.answer("item", table)
}

// Invoke implements iotsql.Lambdas.
func (x *sample) Invoke(_ context.Context, arn string, _ []byte) ([]byte, error) {
	return x.answer("function", arn)
}

// Predict implements iotsql.Models.
func (x *sample) Predict(_ context.Context, model string, _ []byte) ([]byte, error) {
	return x.answer("prediction", model)
}

// DescriptorSet implements iotsql.Descriptors.
func (x *sample) DescriptorSet(_ context.Context, bucket, key, _ string) ([]byte, string, error) {
	set, err := x.answer("descriptors", bucket+"/"+key)
	return set, "flag", err
}
