package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A ChannelInfo describes a channel, where iotAnalytics actions keep raw messages.
type ChannelInfo struct {
	Name      string        `json:"name"`
	Messages  uint64        `json:"messages"`     // that are kept
	Ever      uint64        `json:"ever"`         // added, what came twice counts twice
	Bytes     int64         `json:"bytes"`        // of what is kept
	Retention time.Duration `json:"retention_ns"` // 0: no limit
	MaxBytes  int64         `json:"max_bytes"`    // 0: no limit
	Oldest    time.Time     `json:"oldest,omitzero"`
	Newest    time.Time     `json:"newest,omitzero"`
}

// channels are those of the log.
type channels struct {
	store   Log
	streams *dataStreams
}

func (h *channels) list(w http.ResponseWriter, _ *http.Request) error {
	all := []ChannelInfo{}
	for _, d := range h.store.List() {
		if !action.IsChannel(d.Name) {
			continue
		}
		info, err := h.describe(strings.TrimPrefix(d.Name, action.ChannelStream("")))
		if errors.Is(err, registry.ErrNotFound) || errors.Is(err, streams.ErrNotFound) {
			continue // deleted just now
		}
		if err != nil {
			return err
		}
		all = append(all, info)
	}
	return writeJSON(w, all)
}

func (h *channels) show(w http.ResponseWriter, r *http.Request) error {
	info, err := h.describe(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, info)
}

func (h *channels) describe(name string) (info ChannelInfo, err error) {
	stream := action.ChannelStream(name)
	d, err := h.find(name)
	if err != nil {
		return info, err
	}
	of, err := DescribeStream(h.store, stream)
	if err != nil {
		return info, err
	}
	info = ChannelInfo{Name: name, Messages: of.Kept, Ever: of.Records, Bytes: of.Bytes,
		Retention: d.Config.Retention, MaxBytes: d.Config.MaxBytes}
	oldest, next, err := h.store.Bounds(stream, 0)
	if err != nil || oldest >= next {
		return info, err
	}
	newest, err := streams.Back(h.store, stream, 0, next, 1)
	if err != nil {
		return info, err
	}
	for from, at := range map[uint64]*time.Time{oldest: &info.Oldest, newest: &info.Newest} {
		recs, err := h.store.Read(stream, 0, from, 1, 1)
		if err != nil {
			return info, err
		}
		if len(recs) > 0 {
			*at = time.UnixMilli(recs[0].Time)
		}
	}
	if info.Newest.IsZero() { // it is the oldest
		info.Newest = info.Oldest
	}
	return info, nil
}

// messages is tail of a channel: of each message the key is its id.
func (h *channels) messages(w http.ResponseWriter, r *http.Request) error {
	d, err := h.find(r.PathValue("name"))
	if err != nil {
		return err
	}
	return h.streams.records(w, r, d.Name)
}

func (h *channels) find(name string) (streams.Info, error) {
	d, err := h.store.Describe(action.ChannelStream(name))
	if errors.Is(err, streams.ErrNotFound) {
		err = fmt.Errorf("channel %q: %w", name, registry.ErrNotFound)
	}
	return d, err
}
