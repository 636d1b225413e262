package action

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Limits of BatchPutMessage (IoT Analytics quotas).
const (
	maxMessages     = 100
	maxMessageBytes = 128 << 10
)

var (
	channelName = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)
	channelARN  = regexp.MustCompile(`^arn:[^:]+:iotanalytics:[^:]*:[^:]*:channel/(.+)$`)
)

// channelPrefix begins the streams that are channels.
const channelPrefix = "$channel/"

// ChannelStream names the stream that a channel's messages are in: of each
// record the key is the message's id.
func ChannelStream(channel string) string { return channelPrefix + channel }

// IsChannel says whether a stream is a channel.
func IsChannel(stream string) bool { return strings.HasPrefix(stream, channelPrefix) }

// toChannel is the iotAnalytics action: the document becomes a message of a
// channel; in batch mode, each element of the array does.
var toChannel = sentKind{
	name: "iotAnalytics",
	members: []member{
		{name: "channelName"},
		{name: "channelArn"},
		{name: "batchMode", form: boolean, standard: "false"},
	},
	resource: "channelName",
	check: func(p *parser) {
		if p.params["channelName"] == nil && p.params["channelArn"] == nil {
			p.bad("channelName: missing")
		}
	},
	judge: func(d *Delivery) error {
		if err := d.judge("channelName", isChannel); err != nil || d.Parameter("channelName") != "" {
			return err
		}
		return d.judge("channelArn", func(text string) error { return isChannel(nameOfChannel(text)) })
	},
	stage: func(d *Delivery) error {
		if d.Name = d.Parameter("channelName"); d.Name == "" {
			d.Name = nameOfChannel(d.Parameter("channelArn"))
		}
		all, err := d.Messages()
		if err == nil && len(all) == 0 {
			return errNothing
		}
		return err
	},
}

var isChannel = matches(channelName, "1 to 128 of a-z A-Z 0-9 _")

// nameOfChannel is the name in a channel's ARN, "" if it is none.
func nameOfChannel(arn string) string {
	if m := channelARN.FindStringSubmatch(arn); m != nil {
		return m[1]
	}
	return ""
}

// A ChannelMessage is one message of a channel. Two of the same id are duplicates.
type ChannelMessage struct {
	ID   string
	Data []byte
}

// Messages are what a delivery of the iotAnalytics action puts into its channel,
// which is d.Name.
func (d *Delivery) Messages() (all []ChannelMessage, err error) {
	if d.Parameter("batchMode") != "true" {
		all = []ChannelMessage{{d.ID, d.Data}}
	} else {
		elements, err := d.elements(maxMessages)
		if err != nil {
			return nil, err
		}
		for i, e := range elements {
			all = append(all, ChannelMessage{d.ID + "-" + strconv.Itoa(i), e})
		}
	}
	for i := range all {
		if n := len(all[i].Data); n > maxMessageBytes {
			return nil, fmt.Errorf("message of %d bytes, want at most %d", n, maxMessageBytes)
		}
	}
	return all, nil
}

// toMessages is the iotAnalytics action to a channel of the bridge's own.
type toMessages struct{ *toSender }

func compileChannel(p *parser) Target {
	t := p.sent(&toChannel)
	if p.catalog != nil && p.catalog.Remote("iotAnalytics") {
		return t
	}
	return toMessages{t}
}

func (t toMessages) Outbox() string { return "" }

func (t toMessages) resolve(ctx context.Context, in *Input, create bool) (d *Delivery, err error) {
	if d, err = t.toSender.resolve(ctx, in); err == nil {
		err = t.catalog.Channel(d.Name, create)
	}
	return d, err
}

func (t toMessages) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	d, err := t.resolve(ctx, in, true)
	if err != nil {
		return onResource(d.Name, something(err))
	}
	all, err := d.Messages()
	for _, m := range all {
		b.Append(ChannelStream(d.Name), 0, streams.Record{Key: m.ID, Data: m.Data})
	}
	return onResource(d.Name, err)
}

func (t toMessages) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	d, err := t.resolve(ctx, in, false)
	return given(d), something(err)
}
