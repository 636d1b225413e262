package iotdata

import (
	"encoding/base64"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

func (p *plane) retained(r *wire.Request) (any, error) {
	m, at, ok := p.data.Retained.Get(r.Path("topic"))
	if !ok {
		return nil, wire.Errorf(http.StatusNotFound, "ResourceNotFoundException", "No retained message for the topic")
	}
	var properties [][2]string
	packet.Each(m.Properties, func(id packet.Property, name, value []byte) bool {
		if id == packet.UserProperty {
			properties = append(properties, [2]string{string(name), string(value)})
		}
		return true
	})
	return struct {
		Topic   string  `json:"topic"`
		Payload []byte  `json:"payload"`
		QoS     byte    `json:"qos"`
		At      int64   `json:"lastModifiedTime"`
		User    *string `json:"userProperties,omitempty"`
	}{m.Topic, append([]byte{}, m.Payload...), m.QoS, at.UnixMilli(), user(properties)}, nil
}

func (p *plane) listRetained(r *wire.Request) (any, error) {
	n, err := number(r, "maxResults", 200, 1, 200)
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(r.Query.Get("nextToken"))
	if err != nil {
		return nil, bad("nextToken: want that of the page before")
	}
	type summary struct {
		Topic string `json:"topic"`
		Size  int    `json:"payloadSize"`
		QoS   byte   `json:"qos"`
		At    int64  `json:"lastModifiedTime"`
	}
	out := struct {
		Topics []summary `json:"retainedTopics"`
		Next   string    `json:"nextToken,omitempty"`
	}{Topics: []summary{}}
	p.data.Retained.List(string(after), func(m *message.Message, at time.Time) bool {
		if len(out.Topics) == int(n) {
			out.Next = base64.RawURLEncoding.EncodeToString([]byte(out.Topics[n-1].Topic))
			return false
		}
		out.Topics = append(out.Topics, summary{m.Topic, len(m.Payload), m.QoS, at.UnixMilli()})
		return true
	})
	return out, nil
}
