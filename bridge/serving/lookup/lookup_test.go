package lookup

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
	"github.com/tidemill/tidemill/shadow/service"
)

// Shadows answer what GetThingShadow answers, and nothing for what is none.
func TestStoredShadows(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "shadow.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	shadows := service.New(store, nobody{}, service.Options{})
	t.Cleanup(func() {
		shadows.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		name string
		op   shadow.Op
		doc  string
	}{
		{"", shadow.OpUpdate, `{"state":{"desired":{"on":true,"n":2},"reported":{"n":1}}}`},
		{"pump", shadow.OpUpdate, `{"state":{"reported":{"v":7}}}`},
		{"gone", shadow.OpUpdate, `{"state":{"reported":{"v":7}}}`},
		{"gone", shadow.OpDelete, ``},
	} {
		if _, err := shadows.Do(t.Context(), "dev", c.name, c.op, []byte(c.doc)); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
	}
	x := NewShadows(store, nil)
	for _, name := range []string{"", "pump"} {
		got, err := x.Shadow(t.Context(), "dev", name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := shadows.Do(t.Context(), "dev", name, shadow.OpGet, nil)
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
	r, err := registrytest.Open(filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Update(func(tx *registry.Tx) error {
		return errors.Join(
			tx.CreateThingType(registry.ThingType{Name: "pump"}),
			tx.CreateThing(registry.Thing{Name: "pump-1", Type: "pump", Attributes: map[string]string{"maxval": "9"}}),
			tx.CreateThing(registry.Thing{Name: "bare"}),
			tx.CreateGroup(registry.Group{Name: "north"}), tx.CreateGroup(registry.Group{Name: "south"}),
			tx.AddToGroup("pump-1", "south"), tx.AddToGroup("pump-1", "north"))
	}); err != nil {
		t.Fatal(err)
	}
	x := Things{Registry: r, Account: "000000000000", Region: "eu-local-1"}
	for _, c := range []struct {
		thing, describe, groups string
	}{
		{"pump-1", `{"defaultClientId":"pump-1","thingName":"pump-1",` +
			`"thingArn":"arn:aws:iot:eu-local-1:000000000000:thing/pump-1","thingTypeName":"pump","attributes":{"maxval":"9"},"version":1}`,
			`{"thingGroups":[{"groupName":"north",` +
				`"groupArn":"arn:aws:iot:eu-local-1:000000000000:thinggroup/north"},{"groupName":"south",` +
				`"groupArn":"arn:aws:iot:eu-local-1:000000000000:thinggroup/south"}]}`},
		{"bare", `{"defaultClientId":"bare","thingName":"bare",` +
			`"thingArn":"arn:aws:iot:eu-local-1:000000000000:thing/bare","attributes":{},"version":1}`,
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
	store, err := objects.Open(t.TempDir(), objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	put := func(text string) {
		t.Helper()
		err := store.Put(t.Context(), "schemas", "a.desc", func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	x := Descriptors{store}
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

// Calls that fail are all counted, and logged now and then.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var n notice.Log
		c := NewFailures(&n, slog.New(slog.NewJSONHandler(&log, nil)))
		for range 90 {
			c.Failed("get_thing_shadow", errors.New("sick"))
			time.Sleep(time.Second)
		}
		c.Failed("decode", errors.New("sick"))
		if got := c.Counts(); got["get_thing_shadow"] != 90 || got["decode"] != 1 {
			t.Errorf("counted %v", got)
		}
		text := log.String()
		shadows, all := strings.Count(text, "get_thing_shadow"), strings.Count(text, "\n")
		if shadows != 2 || all != 3 || !strings.Contains(text, `"count":60`) {
			t.Errorf("logged:\n%s", text)
		}
	})
}

// nobody hears of shadows.
type nobody struct{}

func (nobody) Publish(string, []byte) {}
