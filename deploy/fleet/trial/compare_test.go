package trial

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// compare compares the stream with the model.
func (w *world) compare() (out outcome, err error) {
	type got struct {
		text  string
		ts    int64         // 0: in doubt
		bound time.Duration // that it is off at most, beyond a second
	}
	stream := map[string][]got{}
	err = w.bridge.delivered(func(m *message.Message) {
		if rest, ok := strings.CutPrefix(m.Topic, "dt/"); ok {
			text, ts, bound := parse(m.Payload)
			stream[rest] = append(stream[rest], got{text, ts, bound})
		}
	})
	if err != nil {
		return out, err
	}
	out.faults = w.faults
	sum := sha256.New()
	for _, d := range w.all {
		out.lost += d.lost
		want := map[string][]taken{}
		for _, r := range d.model {
			want[r.sensor] = append(want[r.sensor], r)
		}
		for _, sensor := range slices.Sorted(maps.Keys(want)) {
			key := d.name + "/" + sensor
			have := stream[key]
			for i, r := range want[sensor] {
				if i >= len(have) || have[i].text != r.text {
					return out, fmt.Errorf("%s: reading %d of %d, taken at %s, is not in its place: want %s, it has %v",
						key, i+1, len(want[sensor]), r.at.Format(time.TimeOnly), r.text,
						have[max(0, min(i-1, len(have))):min(i+3, len(have))])
				}
				if off := time.UnixMilli(have[i].ts).Sub(r.at); have[i].ts != 0 &&
					off.Abs() > time.Second+have[i].bound {
					return out, fmt.Errorf("%s: reading %d was taken at %v, and its time is %v off", key, i+1, r.at,
						off)
				}
				if sensor != "spare" { // its interval changes when the device hears of it
					fmt.Fprintln(sum, key, have[i].text, r.at.UnixMilli())
				}
			}
			if len(have) > len(want[sensor]) {
				return out, fmt.Errorf("%s: %d readings, want %d: some are twice", key, len(have), len(want[sensor]))
			}
			out.readings += len(have)
		}
	}
	out.digest = fmt.Sprintf("%x", sum.Sum(nil))
	return out, nil
}

// parse returns what textOf does, the time of a reading, 0 if nobody knows it, and how far
// it says that it is off.
func parse(payload []byte) (text string, ts int64, bound time.Duration) {
	var all map[string]any
	if err := json.Unmarshal(payload, &all); err != nil {
		return err.Error(), 0, 0
	}
	if x, ok := all["ts"].(float64); ok && all["clock"] == nil {
		ts = int64(x)
	}
	if x, ok := all["ts_error_ms"].(float64); ok {
		bound = time.Duration(x) * time.Millisecond
	}
	var parts []string
	for k, v := range all {
		if x, ok := v.(float64); ok && k != "ts" && k != "life" && k != "ts_error_ms" {
			parts = append(parts, k+"="+strconv.FormatFloat(x, 'g', 8, 64))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " "), ts, bound
}
