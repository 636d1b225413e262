package server

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/shadow"
)

// Shadows answer what GetThingShadow answers, and nothing for what is none.
func TestStoredShadows(t *testing.T) {
	b := start(t, configure(t))
	d := b.connect(b.thing("dev", all("", "")), "dev")
	d.publish("$aws/things/dev/shadow/update", `{"state":{"desired":{"on":true,"n":2},"reported":{"n":1}}}`)
	d.publish("$aws/things/dev/shadow/name/pump/update", `{"state":{"reported":{"v":7}}}`)
	d.publish("$aws/things/dev/shadow/name/gone/update", `{"state":{"reported":{"v":7}}}`)
	d.publish("$aws/things/dev/shadow/name/gone/delete", ``)
	x := storedShadows{b.shadows, b.now}
	for _, name := range []string{"", "pump"} {
		got, err := x.Shadow(t.Context(), "dev", name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := b.shadow.Do(t.Context(), "dev", name, shadow.OpGet, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := untimed(t, got), untimed(t, want); !reflect.DeepEqual(a, b) || a["version"] != 1.0 ||
			a["state"] == nil || a["metadata"] == nil {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for _, none := range [][2]string{{"dev", "gone"}, {"dev", "none"}, {"nobody", ""}, {"no/body", ""},
		{"dev", "a b"}} {
		if got, err := x.Shadow(t.Context(), none[0], none[1]); got != nil || err != nil {
			t.Errorf("%q: %s, %v", none, got, err)
		}
	}
}

// untimed decodes a document without its timestamp.
func untimed(t *testing.T, doc []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(doc, &m); err != nil || m["timestamp"] == nil {
		t.Fatalf("%s: %v", doc, err)
	}
	delete(m, "timestamp")
	return m
}

func TestRegisteredThings(t *testing.T) {
	b := idle(t, configure(t))
	b.update(func(tx *registry.Tx) error {
		return errors.Join(
			tx.CreateThingType(registry.ThingType{Name: "pump"}),
			tx.CreateThing(registry.Thing{Name: "pump-1", Type: "pump", Attributes: map[string]string{"maxval": "9"}}),
			tx.CreateThing(registry.Thing{Name: "bare"}),
			tx.CreateGroup(registry.Group{Name: "north"}), tx.CreateGroup(registry.Group{Name: "south"}),
			tx.AddToGroup("pump-1", "south"), tx.AddToGroup("pump-1", "north"))
	})
	x := (&assembly{Server: b.Server}).services(nil).Things
	for _, c := range []struct {
		thing, describe, groups string
	}{
		{"pump-1", `{"defaultClientId":"pump-1","thingName":"pump-1","thingArn":"arn:aws:iot:eu-local-1:000000000000:thing/pump-1","thingTypeName":"pump","attributes":{"maxval":"9"},"version":1}`,
			`{"thingGroups":[{"groupName":"north","groupArn":"arn:aws:iot:eu-local-1:000000000000:thinggroup/north"},{"groupName":"south","groupArn":"arn:aws:iot:eu-local-1:000000000000:thinggroup/south"}]}`},
		{"bare", `{"defaultClientId":"bare","thingName":"bare","thingArn":"arn:aws:iot:eu-local-1:000000000000:thing/bare","attributes":{},"version":1}`,
			`{"thingGroups":[]}`},
		{"nobody", "", ""},
	} {
		got, err := x.Describe(t.Context(), c.thing)
		if string(got) != c.describe || err != nil {
			t.Errorf("%s, %v\nwant %s", got, err, c.describe)
		}
		if got, err = x.Groups(t.Context(), c.thing); string(got) != c.groups || err != nil {
			t.Errorf("%s, %v\nwant %s", got, err, c.groups)
		}
	}
}

func TestStoredDescriptors(t *testing.T) {
	b := idle(t, configure(t))
	put := func(text string) {
		t.Helper()
		err := b.objects.Put(t.Context(), "schemas", "a.desc", func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	x := (&assembly{Server: b.Server}).services(nil).Protobuf
	put("one")
	set, tag, err := x.DescriptorSet(t.Context(), "schemas", "a.desc", "")
	if string(set) != "one" || tag == "" || err != nil {
		t.Errorf("%q, %q, %v", set, tag, err)
	}
	put("two")
	if set, other, err := x.DescriptorSet(t.Context(), "schemas", "a.desc", tag); string(set) != "two" ||
		other == tag || err != nil {
		t.Errorf("%q, %q after %q, %v", set, other, tag, err)
	}
	for _, none := range [][2]string{{"schemas", "b.desc"}, {"none", "a.desc"}, {"schemas", "../a.desc"}, {"S", "a"}} {
		if set, _, err := x.DescriptorSet(t.Context(), none[0], none[1], ""); set != nil || err != nil {
			t.Errorf("%q: %q, %v", none, set, err)
		}
	}
	put(strings.Repeat("x", maxDescriptors+1))
	if _, _, err := x.DescriptorSet(t.Context(), "schemas", "a.desc", ""); err == nil {
		t.Error("read without bound")
	}
}

// A rule asks this bridge's shadows and registry.
func TestRuleAsks(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/s.json": `{"StreamName":"out"}`, "rules/ask.json": payload(
		"SELECT get_thing_shadow(topic(2), 'r').state.reported.n AS n, get_registry_data('DescribeThing', topic(2), 'r').version AS v FROM 'dt/#'",
		"out")})
	b := start(t, cfg)
	d := b.connect(b.thing("dev", ""), "dev")
	d.publish("$aws/things/dev/shadow/update", `{"state":{"reported":{"n":41}}}`)
	d.publish("dt/dev/x", `{}`)
	b.eventually("fired", func() bool { return len(b.documents("out")) == 1 })
	if got := b.documents("out")[0]; got != `{"n":41,"v":1}` {
		t.Error(got)
	}
}

// Calls that fail are all counted and now and then told of.
func TestFailedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		c := failedCalls{log: slog.New(slog.NewJSONHandler(log, nil))}
		for range 90 {
			c.fail("get_thing_shadow", errSick)
			time.Sleep(time.Second)
		}
		c.fail("decode", errSick)
		if got := c.Counts(); got["get_thing_shadow"] != 90 || got["decode"] != 1 {
			t.Errorf("counted %v", got)
		}
		if shadows, all := strings.Count(log.String(), "get_thing_shadow"), strings.Count(log.String(),
			"\n"); shadows != 2 || all != 3 || !strings.Contains(log.String(), `"failed_so_far":61`) {
			t.Errorf("told:\n%s", log)
		}
	})
}
