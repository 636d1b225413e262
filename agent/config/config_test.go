package config

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/hal"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const least = `
thing = "t"
data_dir = "data"
uplink = {endpoint = "h:8883", ca = "ca", cert = "c", key = "k"}
`

// The sample shows the defaults, and has every key.
func TestSample(t *testing.T) {
	path := write(t, Sample)
	c, err := Load(Source{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Thing, want.DataDir, want.Socket = "press-7", "/var/lib/tidemill", "/var/lib/tidemill/agent.sock"
	dir := filepath.Dir(path)
	want.Uplink.Endpoint, want.Uplink.ClientID = "bridge.example.net:8883", "press-7"
	want.Uplink.CA, want.Uplink.Cert, want.Uplink.Key = dir+"/certs/ca.pem", dir+"/certs/press-7.pem", dir+
		"/certs/press-7.key"
	want.Uplink.Topic, want.Uplink.PresenceTopic = "dt/press-7/{sensor}", "presence/press-7"
	want.Provision.ClaimCert, want.Provision.ClaimKey = dir+"/claim/cert.pem", dir+"/claim/key.pem"
	want.Provision.Parameters = map[string]any{"SerialNumber": "{serial}"}
	sensors := c.Sensors
	c.Sensors = nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("sample is\n%+v, want\n%+v", c, want)
	}
	if len(sensors) != 3 || sensors[1].Options["address"] != int64(0x76) ||
		sensors[2].Timeout != Duration(10*time.Second) {
		t.Errorf("sensors %+v", sensors)
	}
	each(&c, func(key string, _ reflect.Value, tag reflect.StructTag) {
		if name := tag.Get("toml"); !strings.Contains(Sample, "\n"+name+" ") &&
			!strings.Contains(Sample, "\n# "+name+" ") && !strings.Contains(Sample, "[provision."+name+"]") {
			t.Errorf("the sample does not show %s", key)
		}
		if env := tag.Get("env"); env != "" && !strings.Contains(Sample, env) {
			t.Errorf("the sample does not show %s", env)
		}
	})
}

const sensorX = "[[sensor]]\nname = \"x\"\ndriver = \"host\"\n"

// A sensor with all there is comes out as the sampler wants it.
func TestSensorSpec(t *testing.T) {
	c, err := Load(Source{Path: write(t, least+sensorX+`every = "10s"
phase = "2s"
average = 8
heartbeat = "10m"
deadband = {temperature = 0.1, humidity = "2%", pressure = "never", count = 3}
bounds = {temperature = [-40, 85.5]}
limits = {duty = {max = 0.8, max_rate = 0.1, min_interval = "2s"}}
safe = {duty = 0.25, level = false, speed = 3, after = "10m"}
`)})
	if err != nil {
		t.Fatal(err)
	}
	want := sampler.Spec{Name: "x", Driver: "host", Timeout: 10 * time.Second,
		Sampling: sampler.Sampling{Every: 10 * time.Second, Phase: 2 * time.Second, Average: 8,
			Heartbeat: 10 * time.Minute,
			Deadband: map[string]sampler.Band{"temperature": {Absolute: 0.1}, "humidity": {Percent: 2},
				"pressure": {Never: true}, "count": {Absolute: 3}}},
		Bounds: map[string]sampler.Bounds{"temperature": {Min: -40, Max: 85.5}},
		Limits: map[string]sampler.Limit{"duty": {Min: math.Inf(-1), Max: 0.8, Rate: 0.1, Interval: 2 * time.Second}},
		Safe: sampler.Safe{Held: true, Values: map[string]hal.Value{"duty": hal.FloatValue(0.25),
			"level": hal.BoolValue(false), "speed": hal.IntValue(3)}}}
	if got := c.Sensors[0].Spec(); !reflect.DeepEqual(got, want) {
		t.Errorf("\n%+v, want\n%+v", got, want)
	}
}

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name, text string
		flags, env map[string]string
		errs       []string
	}{
		{name: "least", text: least},
		{name: "nothing", text: "", errs: []string{`data_dir: "", want a path`, `thing: ""`, `uplink.ca: `,
			`uplink.cert: `, `uplink.endpoint: "", want host:port`, `uplink.key: `}},
		{name: "all at once", text: least +
			"[spool]\nmax_bytes = 4096\nmax_writes = \"9 KiB/day\"\nflush_every = 5\nnonsense = 1\n[log]\nlevel = \"loud\"\n",
			errs: []string{`log.level: "loud", want debug or info or warn or error`,
				`spool.flush_every: 5, want a duration`, "spool.max_bytes: 4096, want at least 1 MiB",
				"spool.max_writes: 9216, want at least 256 KiB/day",
				"spool.nonsense: unknown key"}},
		{name: "unknown table", text: least + "[spol]\n", errs: []string{"spol: unknown key"}},
		{name: "wrong types", text: "thing = 5\ndata_dir = true\nuplink = 3\n[shadow]\nenabled = \"yes\"\n",
			errs: []string{"data_dir: true, want a string", `shadow.enabled: "yes", want true or false`,
				"thing: 5, want a string", "uplink.ca", "uplink.cert", "uplink.endpoint", "uplink.key",
				"uplink: 3, want a table"}},
		{name: "recovery", text: least + `[board]
recover = {"/dev/i2c-1" = {scl = "GPIO3", sda = "GPIO2"}, "/dev/i2c-3" = {rebind = true}}`},
		{name: "recovery of nothing", text: least + `[board.recover."/dev/i2c-1"]
scl = "GPIO3"
[board.recover."/dev/i2c-2"]
spare = true
[board.recover."/dev/i2c-3"]
scl = 3
sda = "GPIO2"
nonsense = 1
[board.recover.spi0]
rebind = true
[board.recover."/dev/i2c-4"]
scl = "GPIO3"
sda = "GPIO3"
`, errs: []string{`board.recover./dev/i2c-1: GPIO3 and , want two lines`, "board.recover./dev/i2c-2: no lines",
			"board.recover./dev/i2c-3.nonsense: unknown key", "board.recover./dev/i2c-3.scl: 3, want a string",
			"board.recover./dev/i2c-3:", "board.recover./dev/i2c-4: GPIO3 and GPIO3", "board.recover: spi0, want a bus"}},
		{name: "simulated chips", text: least + `board = {kind = "sim", chips = ["sht4x", "tmp102@0x49"]}`},
		{name: "simulated chips that are none", text: least + `board = {kind = "sim", chips = ["sht5x", "tmp102@2"]}`,
			errs: []string{`board.chips: "sht5x", want one of`, `board.chips: "tmp102@2", want an address`}},
		{name: "simulated chips on a real board", text: least + `board = {chips = ["sht4x"]}`,
			errs: []string{`board.chips: [sht4x], want none`}},
		{name: "simulated chips by number", text: least + `board = {kind = "sim", chips = [0x44]}`,
			errs: []string{`board.chips: 68, want a list of strings`}},
		{name: "sensors", text: least + "[[sensor]]\nname = \"a/b\"\ndriver = \"host\"\nevery = \"0s\"\n" +
			"[[sensor]]\nname = \"x\"\nevery = \"1s\"\nfoo = 1\n" +
			"[[sensor]]\nname = \"x\"\nevery=\"1s\"\ndriver=\"host\"\n",
			errs: []string{`sensor[0].every: 0s, want 10ms to 24h0m0s`, `sensor[0].name: "a/b"`,
				`sensor[0].timeout: 0s`, `sensor[1].driver: ""`, "sensor[1].foo: unknown key",
				`sensor[2].name: "x", want a name no other sensor has`}},
		{name: "sampling", text: least + sensorX + `every = "1s"
phase = "1s"
average = 65
window = "1ms"
heartbeat = "25h"
deadband = {temperature = -1, humidity = "101%", pressure = "often", "Bad Name" = 1}
bounds = {temperature = [85, -40], humidity = [1], pressure = 5}
`, errs: []string{`sensor[0].average: 65, want 1 to 64`, `sensor[0].bounds.humidity: [1], want two numbers`,
			`sensor[0].bounds.pressure: 5, want two numbers`, `sensor[0].bounds.temperature: [85 -40], want the smaller`,
			`sensor[0].deadband.Bad Name: "Bad Name", want a channel's name`,
			`sensor[0].deadband.humidity: 101%, want 0 to 100%`, `sensor[0].deadband.pressure: "often", want a number, a perc`,
			`sensor[0].deadband.temperature: -1, want 0 or more`, `sensor[0].heartbeat: 25h0m0s`,
			`sensor[0].phase: 1s, want less than every`, `sensor[0].window: 1ms, want 1s to 24h`,
			`sensor[0].window: 1ms, want none beside`}},
		{name: "a window and a deadband", text: least + sensorX +
			"every = \"1s\"\nwindow = \"1m\"\nheartbeat = \"1m\"\n",
			errs: []string{`sensor[0].window: 1m0s, want none beside deadband or heartbeat`}},
		{name: "a window shorter than every", text: least + sensorX + "every = \"2m\"\nwindow = \"1m\"\n",
			errs: []string{`sensor[0].window: 1m0s, want at least every`}},
		{name: "outputs", text: least + sensorX + `every = "1s"
limits = {duty = {min = 1, max = 0, max_rate = -1, min_interval = "25h", x = 1}, speed = {max = 5}, level = 3}
safe = {after = "1s", speed = 6, level = "off"}
`, errs: []string{`sensor[0].limits.duty.max_rate: -1`, `sensor[0].limits.duty.min: 1, want less than max, 0`,
			`sensor[0].limits.duty.min_interval: 25h0m0s`, `sensor[0].limits.duty.x: unknown key`,
			`sensor[0].limits.level: 3, want a table`, `sensor[0].safe.after: 1s, want 10s to`,
			`sensor[0].safe.level: "off", want true, false or a number`, `sensor[0].safe.speed: 6, want a value within`}},
		{name: "nothing to be safe", text: least + sensorX + "every = \"1s\"\nsafe = {after = \"1m\"}\n",
			errs: []string{`sensor[0].safe.after: 1m0s, want a channel with a value`}},
		{name: "noticed too late", text: strings.Replace(least, "}", `, keepalive_max = "20m"}`, 1) + sensorX +
			"every = \"1s\"\nsafe = {after = \"10m\", level = false}\n",
			errs: []string{`uplink.keepalive_max: 20m0s, want at most sensor[0].safe.after, 10m0s`}},
		{name: "budget", text: strings.Replace(least, "}", `, keepalive_max = "21m"}`, 1) +
			"[budget]\nmonthly = \"1 KB\"\nday = 29\nflush_every = \"2h\"\nused = \"stop\"\n",
			errs: []string{`budget.day: 29, want 1 to 28`, `budget.flush_every: 2h0m0s, want 1s to 1h`,
				`budget.monthly: 1000, want 0 for none, or at least 1 MB`, `budget.used: "stop", want send or wait`,
				`uplink.keepalive_max: 21m0s, want 0s to 20m0s`}},
		{name: "no port", text: strings.Replace(least, "h:8883", "h", 1),
			errs: []string{`uplink.endpoint: "h", want host:port`}},
		{name: "bad port", text: strings.Replace(least, "h:8883", "h:0", 1), errs: []string{"a port"}},
		{name: "syntax", text: "thing = \n", errs: []string{"agent.toml:1: "}},
		{name: "json without sensor", text: strings.Replace(least, "}", `, format = "json", topic = "dt/x"}`, 1),
			errs: []string{`uplink.topic: "dt/x"`}},
		{name: "bad flag value", text: least, flags: map[string]string{"log.level": "x"}, errs: []string{"log.level"}},
		{name: "plaintext", text: strings.Replace(least, `ca = "ca", cert = "c", key = "k"`,
			`security = "plaintext", format = "json", user = "u", password_file = "p"`, 1)},
		{name: "batches to no bridge", text: strings.Replace(least, `ca = "ca", cert = "c", key = "k"`,
			`security = "plaintext", user = "u", password_file = "p"`, 1),
			errs: []string{`uplink.format: "batch", want "json" with security = "plaintext"`}},
		{name: "plaintext with a certificate",
			text: strings.Replace(least, `ca = "ca"`, `ca = "ca", format = "json", security = "plaintext"`, 1),
			errs: []string{`uplink.ca: "`, `uplink.cert: "`, `uplink.key: "`}},
		{name: "tls without a CA", text: strings.Replace(least, `ca = "ca", cert = "c", key = "k"`, `security = "tls"`,
			1), errs: []string{`uplink.ca: "", want a path, or "system"`}},
		{name: "system roots", text: strings.Replace(least, `ca = "ca", cert = "c", key = "k"`,
			`ca = "system", security = "tls"`, 1)},
		{name: "a user without a password", text: strings.Replace(least, `ca = "ca"`, `ca = "ca", user = "u"`, 1),
			errs: []string{`uplink.password_file: ""`}},
		{name: "a password without a user", text: strings.Replace(least, `ca = "ca"`, `ca = "ca", password_file = "u"`,
			1), errs: []string{`uplink.user: ""`}},
		{name: "unknown security", text: strings.Replace(least, `ca = "ca"`, `ca = "ca", security = "none"`, 1),
			errs: []string{`uplink.security: "none", want mutual-tls or tls or plaintext`}},
		{name: "provisioning without certificates", text: strings.Replace(least, `ca = "ca", cert = "c", key = "k"`,
			`format = "json", security = "plaintext"`, 1) +
			"[provision]\ntemplate = \"t\"\nclaim_cert = \"c\"\nclaim_key = \"k\"\n",
			errs: []string{`uplink.security: "plaintext", want "mutual-tls" beside provision.template`}},
		{name: "environment completes", text: "", env: map[string]string{"TIDEMILL_THING": "t",
			"TIDEMILL_DATA_DIR": "d", "TIDEMILL_ENDPOINT": "h:1", "TIDEMILL_CA": "a", "TIDEMILL_CERT": "b",
			"TIDEMILL_KEY": "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lookup := func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }
			_, err := Load(Source{Path: write(t, c.text), Flags: c.flags, Lookup: lookup})
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(c.errs) {
				t.Fatalf("%d errors, want %d:\n%v", len(got), len(c.errs), err)
			}
			for i, want := range c.errs {
				if !strings.Contains(got[i], want) {
					t.Errorf("error %d: %s, want %s", i, got[i], want)
				}
			}
		})
	}
}

func TestOrderOfSources(t *testing.T) {
	path := write(t, strings.Replace(least, "\nuplink", "\nlog.level = \"warn\"\nuplink", 1))
	env := map[string]string{"TIDEMILL_LOG_LEVEL": "error", "TIDEMILL_KEY": "secret.key"}
	src := Source{Path: path, Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	c, err := Load(src)
	if err != nil || c.Log.Level != "error" || c.Uplink.Key != "secret.key" ||
		c.Uplink.Cert != filepath.Join(filepath.Dir(path), "c") {
		t.Errorf("%+v, %v", c, err)
	}
	src.Flags = map[string]string{"log.level": "debug"}
	if c, err = Load(src); err != nil || c.Log.Level != "debug" {
		t.Errorf("%+v, %v", c.Log, err)
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[any]Size{int64(5): 5, "5": 5, "64 MiB": 64 << 20, "64MiB": 64 << 20, "1.5 KiB": 1536,
		"2 GB": 2e9, "7 B": 7, "x": -1, "-1 MiB": -1, "1e300 GiB": -1, "": -1, "NaN KiB": -1, true: -1} {
		if got, ok := size(in); ok != (want >= 0) || ok && got != want {
			t.Errorf("size(%v) = %d, %v, want %d", in, got, ok, want)
		}
	}
}

// Whatever the file holds, Load returns, and what it accepts is in bounds.
func FuzzLoad(f *testing.F) {
	f.Add(Sample)
	f.Add(least)
	f.Add("spool = [1]\nsensor = 3\n")
	f.Fuzz(func(t *testing.T, text string) {
		var file map[string]any
		if _, err := toml.Decode(text, &file); err != nil {
			return
		}
		c := Default()
		errs := decode(file, &c)
		resolve(&c, "/x")
		c.derive()
		errs = append(errs, c.check(errs, nil)...)
		if len(errs) == 0 && (c.Spool.MaxBytes < 1<<20 || (!thingName(c.Thing) &&
			(c.Thing != "" || c.Provision.Template == "")) || c.Uplink.Inflight < 1) {
			t.Fatalf("accepted %+v", c)
		}
	})
}

// With a template the identity is in data_dir; before there is one, the thing
// has no name.
func TestProvisioned(t *testing.T) {
	path := write(t, `
data_dir = "data"
uplink = {endpoint = "h:8883", ca = "ca"}
[provision]
template = "fleet"
claim_cert = "c"
claim_key = "k"
client_id = "x"
[provision.parameters]
Host = "at-{hostname}"
`)
	c, err := Load(Source{Path: path})
	if err != nil || c.Thing != "" {
		t.Fatalf("%q, %v", c.Thing, err)
	}
	dir := filepath.Join(filepath.Dir(path), "data")
	if host, _ := os.Hostname(); c.Uplink.Cert != dir+"/identity/cert.pem" || c.Uplink.Key != dir+"/identity/key.pem" ||
		c.Provision.Parameters["Host"] != "at-"+host || c.Provision.RotateTemplate != "fleet" {
		t.Errorf("%+v", c)
	}
	if err := os.MkdirAll(dir+"/identity", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/identity/identity.json", []byte(`{"thingName":"pump-7"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = Load(Source{Path: path}); err != nil || c.Thing != "pump-7" || c.Uplink.ClientID != "pump-7" {
		t.Errorf("%q, %v", c.Thing, err)
	}
	_, err = Load(Source{Path: path, Flags: map[string]string{"thing": "other", "uplink.cert": "x",
		"provision.claim_cert": ""}})
	for _, want := range []string{`thing: "other", want none, or "pump-7"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	bad := write(t, "data_dir = \"d\"\nuplink = {endpoint = \"h:1\", ca = \"ca\", cert = \"c\"}\n[provision]\n"+
		"template = \"a b\"\n[provision.parameters]\nx = 1\n")
	_, err = Load(Source{Path: bad})
	for _, want := range []string{"uplink.cert: ", `provision.template: "a b"`, "provision.claim_cert: ",
		"provision.claim_key: ", "provision.parameters.x: 1, want a string"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
