package sensor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/deploy/counterpart"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// serveBroker runs a broker until stop or the test's end.
func serveBroker(t testing.TB, b *sim.Broker, address string, conf *tls.Config) (endpoint string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	endpoint = l.Addr().String()
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	done := make(chan struct{})
	go func() { defer close(done); b.Serve(l) }()
	stop = sync.OnceFunc(func() { l.Close(); <-done })
	t.Cleanup(stop)
	return endpoint, stop
}

// What devices say, from their makers' documentation, and the readings of it.
func TestMQTTDevices(t *testing.T) {
	for _, c := range []struct {
		name     string
		topics   []any
		channels []any
		topic    string
		payload  string
		want     string
	}{
		{"Zigbee2MQTT, Sonoff SNZB-02", []any{"zigbee2mqtt/kitchen"}, nil, "zigbee2mqtt/kitchen",
			`{"battery":100,"humidity":51.25,"linkquality":110,"temperature":22.75,"voltage":3000}`,
			"battery=100 humidity=51.25 linkquality=110 temperature=22.75 voltage=3000"},
		{"Zigbee2MQTT, Aqara WSDCGQ11LM, with units", []any{"zigbee2mqtt/+"}, []any{
			map[string]any{"name": "temperature", "unit": "°C"},
			map[string]any{"name": "pressure", "unit": "Pa", "scale": 100},
			map[string]any{"name": "battery", "unit": "%", "kind": "int"},
		}, "zigbee2mqtt/0x00158d0001a2b3c4",
			`{"battery":91,"voltage":2985,"temperature":21.34,"humidity":58.31,"pressure":1005.3,"linkquality":63}`,
			`device="0x00158d0001a2b3c4" temperature=21.34 °C pressure=100530 Pa battery=91 %`},
		{"Zigbee2MQTT, a contact and a lamp", []any{"zigbee2mqtt/#"}, nil, "zigbee2mqtt/hall/lamp",
			`{"state":"ON","brightness":254,"color":{"x":0.4,"y":0.38},"contact":false,"update":{"state":"idle"},"action":""}`,
			`device="hall/lamp" brightness=254 color_x=0.4 color_y=0.38 contact=false state=true`},
		{"Tasmota, an energy meter", []any{"tele/plug1/SENSOR"}, []any{
			map[string]any{"name": "power", "from": "ENERGY.Power", "unit": "W"},
			map[string]any{"name": "energy", "from": "ENERGY.Total", "unit": "kWh"},
		}, "tele/plug1/SENSOR", `{"Time":"2023-02-13T19:33:56","ENERGY":{"TotalStartTime":"2023-01-01T10:00:00",` +
			`"Total":12.345,"Yesterday":0.5,"Today":0.123,"Period":1,"Power":42,"ApparentPower":50,"ReactivePower":27,` +
			`"Factor":0.84,"Voltage":231,"Current":0.217}}`, "power=42 W energy=12.345 kWh"},
		{"Tasmota, AM2301", []any{"tele/+/SENSOR"}, nil, "tele/shed/SENSOR",
			`{"Time":"2023-02-13T19:33:56","AM2301":{"Temperature":21.5,"Humidity":47.2,"DewPoint":9.8},"TempUnit":"C"}`,
			`device="shed" am2301_dewpoint=9.8 am2301_humidity=47.2 am2301_temperature=21.5`},
		{"Tasmota, state", []any{"tele/+/STATE"}, []any{
			map[string]any{"name": "on", "from": "POWER", "kind": "bool"},
			map[string]any{"name": "rssi", "from": "Wifi.RSSI", "unit": "%", "kind": "int"},
		}, "tele/plug1/STATE", `{"Time":"2023-02-13T19:33:56","Uptime":"1T02:03:04","UptimeSec":93784,"Heap":26,` +
			`"POWER":"ON","Wifi":{"AP":1,"SSId":"x","RSSI":78,"Signal":-61}}`, `device="plug1" on=true rssi=78 %`},
		{"Tasmota, last will", []any{"tele/plug1/LWT"}, []any{
			map[string]any{"name": "online", "from": "LWT", "kind": "bool", "true_if": "Online"},
		}, "tele/plug1/LWT", "Offline", "online=false"},
		{"Shelly Gen1, power", []any{"shellies/+/relay/0/power"}, nil, "shellies/shellyplug-s-1A2B3C/relay/0/power", "23.45",
			`device="shellyplug-s-1A2B3C" power=23.45`},
		{"Shelly Gen1, relay", []any{"shellies/shelly1-AABBCC/relay/0"}, nil, "shellies/shelly1-AABBCC/relay/0", "on",
			"relay_0=true"},
		{"Shelly Gen2, status of a switch", []any{"shellyplus1pm-a8032ab12345/status/switch:0"}, []any{
			map[string]any{"name": "on", "from": "output", "kind": "bool"},
			map[string]any{"name": "power", "from": "apower", "unit": "W"},
			map[string]any{"name": "energy", "from": "aenergy.total", "unit": "Wh"},
			map[string]any{"name": "inside", "from": "temperature.tC", "unit": "°C"},
		}, "shellyplus1pm-a8032ab12345/status/switch:0", `{"id":0,"source":"timer","output":true,"apower":8.9,` +
			`"voltage":237.5,"current":0.067,"aenergy":{"total":6.532,"by_minute":[45.199,47.141,88.397],` +
			`"minute_ts":1654511972},"temperature":{"tC":23.5,"tF":74.4}}`,
			"on=true power=8.9 W energy=6.532 Wh inside=23.5 °C"},
		{"Shelly Gen2, event", []any{"+/events/rpc"}, []any{
			map[string]any{"name": "power", "from": "params.switch:0.apower", "unit": "W"},
		}, "shellyplus1pm-a8032ab12345/events/rpc", `{"src":"shellyplus1pm-a8032ab12345","dst":"x/events","method":` +
			`"NotifyStatus","params":{"ts":1631186545.04,"switch:0":{"id":0,"apower":9.1}}}`,
			`device="shellyplus1pm-a8032ab12345" power=9.1 W`},
	} {
		b := sim.NewBroker()
		endpoint, _ := serveBroker(t, b, "127.0.0.1:0", nil)
		opts := map[string]any{"endpoint": endpoint, "topics": c.topics}
		if c.channels != nil {
			opts["channels"] = c.channels
		}
		s := keep(t, "mqtt", nil, opts)
		b.Publish(c.topic, []byte(`[1,2]`), false)
		b.Publish(c.topic, []byte(`{"damaged`), false)
		b.Publish("not/asked/for", []byte("1"), false)
		b.Publish(c.topic, []byte(c.payload), false)
		if got := next(t, s); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestMQTTSuite(t *testing.T) {
	for _, channels := range [][]any{nil, {map[string]any{"name": "t"}}} {
		haltest.Sensor(t, func(t testing.TB) hal.Sensor {
			b := sim.NewBroker()
			endpoint, _ := serveBroker(t, b, "127.0.0.1:0", nil)
			opts := map[string]any{"endpoint": endpoint, "topics": []any{"a/b"}}
			if channels != nil {
				opts["channels"] = channels
			}
			s := open(t, "mqtt", nil, opts)
			for i := range 20 {
				b.Publish("a/b", fmt.Appendf(nil, `{"t":%d}`, i), false)
			}
			return s
		})
	}
}

// What the broker kept from before is no reading, unless it is asked for.
func TestMQTTRetained(t *testing.T) {
	b := sim.NewBroker()
	endpoint, _ := serveBroker(t, b, "127.0.0.1:0", nil)
	b.Publish("t", []byte("1"), true)
	s := keep(t, "mqtt", nil, map[string]any{"endpoint": endpoint, "topics": []any{"t"}})
	old := keep(t, "mqtt", nil, map[string]any{"endpoint": endpoint, "topics": []any{"t"}, "retained": true})
	if got := next(t, old); got != "t=1" {
		t.Error(got)
	}
	b.Publish("t", []byte("2"), true)
	for _, s := range []hal.Sensor{s, old} {
		if got := next(t, s); got != "t=2" {
			t.Error(got)
		}
	}
}

// A broker that goes away is told, and comes back by itself. One that refuses says
// why.
func TestMQTTBrokerAway(t *testing.T) {
	b := sim.NewBroker()
	endpoint, stop := serveBroker(t, b, "127.0.0.1:0", nil)
	opts := map[string]any{"endpoint": endpoint, "topics": []any{"t"}}
	s := keep(t, "mqtt", nil, opts)
	b.Publish("t", []byte("1"), false)
	if got := next(t, s); got != "t=1" {
		t.Error(got)
	}
	stop()
	if _, err := s.(hal.Pusher).Next(within(t, 20*time.Second)); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("%v, want no device", err)
	}
	if _, err := sensor.Open(within(t, 20*time.Second), "mqtt", nil, opts); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("%v, want no device", err)
	}
	serveBroker(t, b, endpoint, nil)
	await.True(t, "it is connected again", func() bool { return b.Clients() == 1 })
	b.Publish("t", []byte("2"), false)
	await.True(t, "it reads again", func() bool {
		p, err := s.(hal.Pusher).Next(within(t, 20*time.Second))
		return err == nil && shown(p.Channels, p.Values) == "t=2"
	})
	_, err := sensor.Open(t.Context(), "mqtt", nil, map[string]any{"endpoint": endpoint, "topics": []any{"$forbidden/x"}})
	if sensor.KindOf(err) != "exception" || !strings.Contains(err.Error(), "$forbidden/x") {
		t.Errorf("%v", err)
	}
}

// certificate is one for localhost that signs itself.
func certificate(t *testing.T) (path string, conf *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// secret writes a password as the agent wants it.
func secret(t *testing.T, text string, mode os.FileMode) string {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(text+"\n"), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// A broker that does not answer a CONNECT is left, not kept connected for ever.
func TestMQTTSilentBroker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left := make(chan error, 1)
	connected := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			left <- err
			return
		}
		defer c.Close()
		close(connected)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err = io.Copy(io.Discard, c)
		left <- err
	}()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-connected
		cancel()
	}()
	if _, err := sensor.Open(ctx, "mqtt", nil, map[string]any{"endpoint": l.Addr().String(),
		"topics": []any{"t"}}); err == nil {
		t.Error("open without an answer")
	}
	if err := <-left; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("still connected")
	}
}

func TestMQTTSecurity(t *testing.T) {
	ca, conf := certificate(t)
	other, _ := certificate(t)
	b := sim.NewBroker()
	b.User, b.Password = "pi", "tide mill"
	endpoint, _ := serveBroker(t, b, "127.0.0.1:0", conf)
	_, port, _ := net.SplitHostPort(endpoint)
	good := secret(t, "tide mill", 0o600)
	for _, c := range []struct {
		endpoint, password, ca string
		kind, says             string
	}{
		{"localhost:" + port, good, ca, "", ""},
		{"localhost:" + port, secret(t, "wrong", 0o600), ca, "exception", "not Authorized"},
		{"localhost:" + port, secret(t, "tide mill", 0o644), ca, "", "chmod"},
		{"localhost:" + port, good, other, "no_device", ""},
		{"localhost:" + port, good, "system", "no_device", ""},
		{endpoint, good, ca, "no_device", "127.0.0.1"},
	} {
		s, err := sensor.Open(within(t, 20*time.Second), "mqtt", nil, map[string]any{"endpoint": c.endpoint, "user": "pi",
			"password_file": c.password, "ca": c.ca, "topics": []any{"t"}})
		if err == nil {
			s.Close()
		}
		if (err == nil) != (c.kind == "" && c.says == "") || sensor.KindOf(err) != c.kind || err != nil &&
			!strings.Contains(err.Error(), c.says) || strings.Contains(fmt.Sprint(err), "tide mill") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// By the time that is handed down, not by the system's.
	for at, ok := range map[time.Time]bool{time.Now(): true, time.Unix(0, 0): false} {
		s, err := sensor.OpenBy(within(t, 20*time.Second), "mqtt", nil, map[string]any{"endpoint": "localhost:" + port,
			"user": "pi", "password_file": good, "ca": ca, "topics": []any{"t"}}, func() time.Time { return at })
		if err == nil {
			s.Close()
		}
		if (err == nil) != ok {
			t.Errorf("at %v: %v", at, err)
		}
	}
	for toml, want := range map[string]string{
		`endpoint = "a"
		topics = ["a/#/b"]
		password_file = "p"`: "endpoint: \"a\", want host:port\npassword_file: \"p\", want an absolute path\n" +
			"topics: \"a/#/b\", want a topic, + for one of its levels, # for all at its end\n" +
			"user: want a name beside password_file",
		`topics = ["+"]
		channels = [{name = "device"}]`: "channels[0].name: \"device\", want a name that no other channel has\n" +
			"endpoint: missing",
	} {
		if got := errors.Join(sensor.Check("mqtt", fromTOML(t, toml))...); fmt.Sprint(got) != want {
			t.Errorf("%s:\n got %v\nwant %s", toml, got, want)
		}
	}
}

// A real Mosquitto, its client and its passwords.
func TestMQTTMosquitto(t *testing.T) {
	passwords := filepath.Join(t.TempDir(), "passwords")
	counterpart.Debian(t, "mosquitto", func() bool {
		return exec.Command("mosquitto_passwd", "-b", "-c", passwords, "pi", "tide mill").Run() == nil
	})
	counterpart.Debian(t, "mosquitto-clients", func() bool {
		_, err := exec.LookPath("mosquitto_pub")
		return err == nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(endpoint)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous false\npassword_file %s\n"+
		"user root\n", port, passwords), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mosquitto", "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	await.True(t, "Mosquitto listens", func() bool {
		c, err := net.Dial("tcp", endpoint)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	say := func(args ...string) {
		out, err := exec.Command("mosquitto_pub", append([]string{"-h", "127.0.0.1", "-p", port, "-u", "pi", "-P", "tide mill"},
			args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	say("-t", "tele/plug1/STATE", "-r", "-m", `{"POWER":"OFF"}`)
	s := keep(t, "mqtt", nil, map[string]any{"endpoint": endpoint, "user": "pi",
		"password_file": secret(t, "tide mill", 0o600), "topics": []any{"tele/+/STATE", "zigbee2mqtt/+"}, "qos": 1})
	say("-t", "tele/plug1/STATE", "-r", "-q", "1", "-m", `{"POWER":"ON"}`)
	say("-t", "zigbee2mqtt/bath", "-m", `{"temperature":23.5}`)
	for _, want := range []string{`device="plug1" power=true`, `device="bath" temperature=23.5`} {
		if got := next(t, s); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	_, err = sensor.Open(within(t, 20*time.Second), "mqtt", nil, map[string]any{"endpoint": endpoint, "topics": []any{"#"}})
	if sensor.KindOf(err) != "exception" {
		t.Errorf("without a password: %v", err)
	}
}

// Whatever a device publishes, what comes of it is a reading.
func FuzzMQTT(f *testing.F) {
	f.Add("a/b/c", []byte(`{"a":{"device":1},"ts":2,"x":"on"}`))
	f.Add("a//0", []byte("23"))
	f.Add("a", []byte("\xff"))
	b := sim.NewBroker()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); b.Serve(l) }()
	f.Cleanup(func() { l.Close(); <-done })
	s, err := sensor.Open(f.Context(), "mqtt", nil, map[string]any{"endpoint": l.Addr().String(),
		"topics": []any{"fuzz/#", "end"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, topic string, in []byte) {
		if len(topic) > 1000 || strings.ContainsAny(topic, "+#\x00") || strings.ToValidUTF8(topic, "") != topic {
			return
		}
		b.Publish("fuzz/"+topic, in, false)
		b.Publish("end", []byte("1"), false)
		for last := false; !last; {
			p, err := s.(hal.Pusher).Next(within(t, 20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{"ts": true}
			for i, c := range p.Channels {
				if seen[c.Name] || p.Values[i].Kind() != c.Kind {
					t.Errorf("%v: %v", c, p.Values[i])
				}
				seen[c.Name] = true
				last = last || c.Name == "end"
			}
		}
	})
}
