package kinesis

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func TestRestored(t *testing.T) {
	was := attributes{Mode: onDemand, Policy: "{}", Deleting: true, Consumers: []consumer{{Name: "c", Policy: "{}"}}}
	for _, renamed := range []bool{false, true} {
		c := streams.Config{Attributes: was.encode(), Retention: 24 * time.Hour}
		if err := Restored(&c, renamed, 90*time.Minute); err != nil {
			t.Fatal(err)
		}
		at, err := parseAttributes(c.Attributes)
		if err != nil || at.Mode != onDemand || at.Deleting || (at.Policy == "") != renamed ||
			len(at.Consumers) != 1 || (at.Consumers[0].Policy == "") != renamed || c.Retention != 26*time.Hour {
			t.Errorf("renamed %v: %+v, %v, %v", renamed, at, c.Retention, err)
		}
	}
	for have, want := range map[time.Duration]time.Duration{0: 0, time.Hour: mostRetention,
		2 * mostRetention: 2 * mostRetention} {
		c := streams.Config{Retention: have}
		if err := Restored(&c, false, mostRetention); err != nil || c.Retention != want || c.Attributes != nil {
			t.Errorf("%v became %v, want %v; %v", have, c.Retention, want, err)
		}
	}
	if err := Restored(&streams.Config{Attributes: []byte("{")}, false, 0); err == nil {
		t.Error("attributes that are none were taken")
	}
}
