package iotdata

import (
	"encoding/base64"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// A Retained is a retained message.
type Retained struct {
	Topic   string
	Payload []byte
	Size    int // of the payload
	QoS     byte
	At      time.Time // when it was set
	User    [][2]string
}

func (p *plane) retained(r *wire.Request) (any, error) {
	name := r.Path("topic")
	m, err := p.Retained(name)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, wire.Errorf(http.StatusNotFound, "ResourceNotFoundException", "No retained message for the topic")
	}
	return struct {
		Topic   string  `json:"topic"`
		Payload []byte  `json:"payload"`
		QoS     byte    `json:"qos"`
		At      int64   `json:"lastModifiedTime"`
		User    *string `json:"userProperties,omitempty"`
	}{m.Topic, append([]byte{}, m.Payload...), m.QoS, m.At.UnixMilli(), user(m.User)}, nil
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
	page, next, err := p.ListRetained(string(after), n)
	if err != nil {
		return nil, err
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
	}{make([]summary, len(page)), base64.RawURLEncoding.EncodeToString([]byte(next))}
	for i, m := range page {
		out.Topics[i] = summary{m.Topic, m.Size, m.QoS, m.At.UnixMilli()}
	}
	return out, nil
}
