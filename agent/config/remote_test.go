package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/hal/sensor"
)

// provisioned writes a file and the identity beside it that has a deviceConfiguration.
func provisioned(t testing.TB, file, given string) Source {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.toml")
	text := "data_dir = \"data\"\nuplink.endpoint = \"h:8883\"\nuplink.ca = \"ca\"\n" +
		"provision = {template = \"fleet\", claim_cert = \"c\", claim_key = \"k\", client_id = \"x\"}\n" + file
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "data", "identity"), 0o700); err != nil {
		t.Fatal(err)
	}
	identity, _ := json.Marshal(map[string]any{"thingName": "pump-7", "deviceConfiguration": json.RawMessage(given)})
	if err := os.WriteFile(filepath.Join(dir, "data", "identity", "identity.json"), identity, 0o600); err != nil {
		t.Fatal(err)
	}
	return Source{Path: path, CheckOptions: func(driver string, opts map[string]any) []error {
		if _, bad := opts["bad"]; bad {
			return []error{fmt.Errorf("bad: unknown option of %s", driver)}
		}
		return nil
	}}
}

const hallFile = "[[sensor]]\nname = \"hall\"\ndriver = \"bme280\"\nevery = \"10s\"\n[sensor.options]\naddress = 0x77\n"

// The defaults give way to the deviceConfiguration, that to the file, and that to the
// environment and flags.
func TestRemoteOrder(t *testing.T) {
	src := provisioned(t, "spool.max_age = \"2h\"\nlog.level = \"warn\"\n"+hallFile, `{"site":"north","agent":{
		"log":{"level":"debug"},"spool":{"flush_every":"10s","max_age":"1h","max_bytes":"8 MiB"},
		"uplink":{"keepalive":"5m","inflight":4,"backoff_max":"10m"},
		"sensor":[{"name":"yard","driver":"bme280","every":"1m","average":4,"deadband":{"temperature":0.1},
			"bounds":{"temperature":[-40,85.5]},"options":{"address":118,"bus":"/dev/i2c-1"}},
			{"name":"hall","driver":"count","every":"1h","phase":"2s","options":{"address":1,"other":true}}]}}`)
	src.Flags = map[string]string{"uplink.keepalive": "30s"}
	src.Lookup = func(name string) (string, bool) { return "error", name == "TIDEMILL_LOG_LEVEL" }
	c, err := Load(src)
	if err != nil || c.Remote.State != RemoteApplied {
		t.Fatalf("%+v, %v", c.Remote, err)
	}
	hour, sec := Duration(time.Hour), Duration(time.Second)
	if c.Thing != "pump-7" || c.Log.Level != "error" || c.Spool.FlushEvery != 10*sec || c.Spool.MaxAge != 2*hour ||
		c.Spool.MaxBytes != 8<<20 || c.Uplink.KeepAlive != 30*sec || c.Uplink.Inflight != 4 ||
		c.Uplink.BackoffMax != 600*sec {
		t.Errorf("%+v", c)
	}
	hall, yard := c.Sensors[0], c.Sensors[1]
	if hall.Name != "hall" || hall.Driver != "bme280" || hall.Every != 10*sec || hall.Phase != 2*sec ||
		!reflect.DeepEqual(hall.Options, map[string]any{"address": int64(0x77)}) {
		t.Errorf("%+v", hall)
	}
	if yard.Name != "yard" || yard.Every != 60*sec || yard.Average != 4 ||
		yard.Deadband["temperature"].Absolute != 0.1 ||
		yard.Bounds["temperature"].Max != 85.5 || yard.Options["address"] != int64(118) || yard.Timeout != 10*sec {
		t.Errorf("%+v", yard)
	}
}

// What is wrong is refused as a whole, with all that is wrong, and the device has what it
// had without.
func TestRemoteRefused(t *testing.T) {
	for _, c := range []struct {
		name, given string
		errs        []string
	}{
		{"nothing for the agent", `{"site":"north","url":{"a":[1,null]}}`, nil},
		{"identity and paths", `{"agent":{"thing":"x","data_dir":"/","socket":"/s","board":{"kind":"sim"},
			"provision":{"template":"y"},"health":{"metrics":"/m"},"log":{"level":"debug"},
			"uplink":{"endpoint":"evil:1","ca":"/ca","security":"plaintext","topic":"x","client_id":"y"}}}`,
			[]string{"board.kind: not to be set", "data_dir: not to be set", "health.metrics: not to be set",
				"provision.template: not to be set", "socket: not to be set", "thing: not to be set",
				"uplink.ca: not to be set", "uplink.client_id: not", "uplink.endpoint: not", "uplink.security: not",
				"uplink.topic: not"}},
		{"programs and files", `{"agent":{"sensor":[
			{"name":"a","driver":"command","every":"1s","options":{"command":["sh"]}},
			{"name":"b","driver":"mqtt","every":"1s","options":{"password_file":"/etc/shadow","root":"/"}},
			{"name":"c","driver":"serial","every":"1s","options":{"port":"/dev/watchdog"}},
			{"name":"d","driver":"serial","every":"1s","options":{"port":"/dev/tty/../watchdog"}},
			{"name":"e","driver":"serial","every":"1s","options":{"port":"/dev/serial/by-id/usb-x_1:0-port0"}},
			{"name":"f","driver":"max31855","every":"1s","options":{"bus":"/dev/i2c-1","device":"/dev/spidev0.0"}}]}}`,
			[]string{`sensor[0].driver: "command" runs a program`, "sensor[0].options.command: names something",
				`sensor[1].driver: "mqtt" connects to a broker`, "sensor[1].options.password_file: names",
				"sensor[1].options.root: names",
				`sensor[2].options.port: "/dev/watchdog" is no bus`, `sensor[3].options.port: "/dev/tty/../watchdog" is no`}},
		{"all at once", `{"agent":{"spool":{"flush_every":5,"max_bytes":"2 GiB"},"nonsense":{"x":1},
			"uplink":{"backoff_max":"2h","keepalive":"1s","drain":null},
			"sensor":[{"name":"hall","phase":"20s"},{"name":"new","every":"1ms","driver":"count","options":{"bad":1}}]}}`,
			[]string{`agent.uplink.drain: "null"`, "nonsense.x: not to be set",
				`sensor[0].phase: 20s, want less than every`, "sensor[1].every: 1ms, want 10ms",
				`sensor[1]: "new": bad: unknown option of count`,
				"spool.flush_every: 5, want a duration",
				"spool.max_bytes: 2147483648, want at most", "uplink.backoff_max: 2h0m0s, want at most 1h",
				"uplink.keepalive: 1s, want"}},
		{"relative paths", `{"agent":{"sensor":[
			{"name":"a","driver":"serial","every":"1s","options":{"port":"dev/watchdog"}},
			{"name":"b","driver":"modbus","every":"1s","options":{"port":"../dev/watchdog"}},
			{"name":"c","driver":"modbus","every":"1s","options":{"port":"watchdog"}},
			{"name":"d","driver":"iio","every":"1s","options":{"device":"../../x"}},
			{"name":"e","driver":"gpio-in","every":"1s","options":{"line":"pinctrl-rp1:17"}}]}}`,
			[]string{`sensor[0].options.port: "dev/watchdog" is no`, `sensor[1].options.port: "../dev/watchdog" is no`,
				`sensor[2].options.port: "watchdog" is no`, `sensor[3].options.device: "../../x" is no`}},
		{"networks", `{"agent":{"sensor":[
			{"name":"a","driver":"mqtt","every":"1s","options":{"endpoint":"10.0.0.5:22"}},
			{"name":"b","driver":"modbus","every":"1s","options":{"endpoint":"10.0.0.5:22"}}]}}`,
			[]string{`sensor[0].driver: "mqtt" connects`, "sensor[0].options.endpoint: says where it connects",
				"sensor[1].options.endpoint: says where it connects"}},
		{"outputs", `{"agent":{"sensor":[
			{"name":"fan2","driver":"pca9685","every":"1s"},{"name":"p","driver":"pwm","every":"1s"},
			{"name":"r","driver":"gpio-out","every":"1s"},{"name":"h","driver":"hx711","every":"1s"},
			{"name":"n","driver":"of-tomorrow","every":"1s"}]}}`,
			[]string{`sensor[0].driver: "pca9685" sets outputs`, `sensor[1].driver: "pwm" sets`,
				`sensor[2].driver: "gpio-out" sets`, `sensor[3].driver: "hx711" drives a line`,
				`sensor[4].driver: "of-tomorrow" is no driver that is known to read`}},
		{"no object", `{"agent":[1]}`, []string{"agent: [1], want an object"}},
		{"no object at all", `["agent"]`, []string{"deviceConfiguration: json"}},
		{"too long", `{"agent":{"log":{"level":"` + strings.Repeat("x", maxRemote) + `"}}}`,
			[]string{"deviceConfiguration: 65"}},
		{"too many sensors", `{"agent":{"sensor":[` + strings.Repeat(`{},`, 64) + `{}]}}`,
			[]string{"sensor: 65, want at most 64"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := provisioned(t, hallFile, c.given)
			file, err := src.read()
			without, errs := src.build(file)
			got, err2 := Load(src)
			if err != nil || len(errs) > 0 || err2 != nil {
				t.Fatal(err, errs, err2)
			}
			if state := map[bool]string{true: RemoteNone,
				false: RemoteRefused}[c.errs == nil]; got.Remote.State != state {
				t.Errorf("%q, want %q", got.Remote.State, state)
			}
			if c.name == "too many sensors" {
				got.Remote.Errors = slices.DeleteFunc(got.Remote.Errors, func(s string) bool {
					return strings.HasPrefix(s, "sensor[")
				})
			}
			if len(got.Remote.Errors) != len(c.errs) {
				t.Fatalf("%d errors, want %d:\n%s", len(got.Remote.Errors), len(c.errs),
					strings.Join(got.Remote.Errors, "\n"))
			}
			for i, want := range c.errs {
				if !strings.HasPrefix(got.Remote.Errors[i], want) {
					t.Errorf("%s, want %s", got.Remote.Errors[i], want)
				}
			}
			got.Remote = Remote{}
			if !reflect.DeepEqual(got, without) {
				t.Errorf("refused, and something holds:\n%+v\n%+v", got, without)
			}
		})
	}
	// The program can refuse one too, which its own file never is.
	src := provisioned(t, hallFile, `{"agent":{"log":{"level":"debug"}}}`)
	src.RefuseRemote = "the agent does not start"
	if c, err := Load(src); err != nil || c.Log.Level != "info" ||
		c.Remote.String() != "refused: the agent does not start" {
		t.Errorf("%+v, %v", c.Remote, err)
	}
	if c, err := Load(provisioned(t, "log.level = \"loud\"\n", `{"agent":{"log":{"level":"debug"}}}`)); err == nil ||
		c.Remote.State != RemoteNone {
		t.Errorf("a file that is wrong: %+v, %v", c.Remote, err)
	}
}

// Options of drivers that name files or programs are told apart by their names; this
// finds one that came later.
func TestLocalOptions(t *testing.T) {
	telling := regexp.MustCompile(`\bfolder\b|\bfile|\babsolute path|\bthe program`)
	known := map[string]bool{}
	for _, d := range sensor.Drivers() {
		for _, o := range d.Options {
			known[o.Name] = true
			if telling.MatchString(o.Help) && o.Name != "user" && localOption(o.Name) == "" {
				t.Errorf("%s.%s may be set from afar: %s", d.Name, o.Name, o.Help)
			}
		}
	}
	for _, name := range []string{"command", "dir", "root", "path", "ca", "password_file"} {
		if !known[name] {
			t.Errorf("no driver has the option %s any more", name)
		}
	}
}

// Each driver is one that a deviceConfiguration may name, or one that it may not.
func TestRemoteDrivers(t *testing.T) {
	for _, d := range sensor.Drivers() {
		if remoteDrivers[d.Name] == (localDrivers[d.Name] != "") {
			t.Errorf("%s: from afar %v, and the file's alone since it %q", d.Name, remoteDrivers[d.Name],
				localDrivers[d.Name])
		}
	}
}

// What the file says of its outputs holds: from afar they can be read at other times, and
// no other driver is where they are.
func TestRemoteBesideOutputs(t *testing.T) {
	const fan = "[[sensor]]\nname = \"fan\"\ndriver = \"pca9685\"\nevery = \"10s\"\n" +
		"[sensor.limits.ch0]\nmax = 0.5\n" +
		"[[sensor]]\nname = \"relay\"\ndriver = \"gpio-out\"\nevery = \"10s\"\n[sensor.options]\nline = \"GPIO17\"\n"
	const where = "sensor[0].options: where the file has "
	for given, want := range map[string]string{
		`{"name":"fan","average":2,"window":"1m"}`:                                   "",
		`{"name":"fan","options":{"invert":true}}`:                                   "sensor[0].options: of a sensor",
		`{"name":"fan","limits":{"ch1":{"max":1}}}`:                                  "sensor[0].limits: of a sensor",
		`{"name":"fan","safe":{"ch0":0.4}}`:                                          "sensor[0].safe: of a sensor",
		`{"name":"i","driver":"ina219","every":"1s"}`:                                where + `"fan"`,
		`{"name":"i","driver":"ina219","every":"1s","options":{"bus":"/dev/i2c-1"}}`: where + `"fan"`,
		`{"name":"i","driver":"ina219","every":"1s","options":{"address":65}}`:       "",
		`{"name":"in","driver":"gpio-in","every":"1s","options":{"line":"GPIO17"}}`:  where + `"relay"`,
		`{"name":"in","driver":"gpio-in","every":"1s","options":{"line":"GPIO18"}}`:  "",
	} {
		src := provisioned(t, fan, `{"agent":{"sensor":[`+given+`]}}`)
		src.CheckOptions, src.Place = sensor.Check, sensor.Place
		c, err := Load(src)
		got := strings.Join(c.Remote.Errors, "\n")
		if err != nil || (want == "") != (c.Remote.State == RemoteApplied) || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s %q, %v; want %q", given, c.Remote.State, got, err, want)
		}
	}
}

// Whatever a deviceConfiguration holds, the device has a configuration: that without it,
// or one within bounds, with the same identity and places.
func FuzzRemote(f *testing.F) {
	f.Add(`{"agent":{"log":{"level":"debug"},"sensor":[{"name":"hall"},{"name":"x","driver":"d","every":"1s"}]}}`)
	f.Add(`{"agent":{"uplink":{"keepalive":"5m"},"sensor":[1,{"name":["x"]}],"spool":[]}}`)
	f.Add(`{"agent":{"sensor":[{"name":"hall","options":3,"safe":{"after":"1m","level":false},"limits":{"x":{}}}]}}`)
	f.Add(`{"agent":{"sensor":{"name":null}}}`)
	f.Add(`{"agent":{"sensor":[{"name":{}},{"name":[]},{"name":{}}]}}`) // names that cannot be compared
	base := provisioned(f, hallFile, `{}`)
	file, err := base.read()
	if err != nil {
		f.Fatal(err)
	}
	plain, errs := base.build(file)
	if len(errs) > 0 {
		f.Fatal(errs)
	}
	f.Fuzz(func(t *testing.T, given string) {
		c := base.below(file, plain, []byte(given))
		if (c.Remote.State == RemoteRefused) != (len(c.Remote.Errors) > 0) {
			t.Fatalf("%+v", c.Remote)
		}
		if c.Thing != plain.Thing || c.DataDir != plain.DataDir || c.Uplink.Endpoint != plain.Uplink.Endpoint ||
			c.Uplink.Key != plain.Uplink.Key || c.Sensors[0].Driver != "bme280" ||
			c.Uplink.BackoffMax > maxRemoteBackoff {
			t.Fatalf("%+v", c)
		}
		if errs := c.check(nil, base.CheckOptions); len(errs) > 0 {
			t.Fatal(errs)
		}
	})
}
