package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/rig"
)

const hotRule = `{
  "sql": "SELECT temp, topic(2) AS thing FROM 'dt/#' WHERE temp > 30",
  "awsIotSqlVersion": "2016-03-23",
  "actions": [
    {"kinesis": {"streamName": "hot", "partitionKey": "${topic(2)}"}},
    {"republish": {"topic": "cmd/viewer/hot/${topic(2)}", "qos": 1}},
    {"s3": {"bucketName": "hot-events", "key": "${topic(2)}/${n}.json"}}
  ]
}`

// TestMosquittoClients connects Debian's mosquitto clients by mutual TLS.
func TestMosquittoClients(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto-clients")
	f := newFleet(t, 0, "", map[string]string{"rules/hot.json": hotRule, "streams/hot.json": `{"StreamName": "hot"}`})
	shop, viewer, thief := f.thing("shop"), f.thing("viewer"), f.thing("thief")

	ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
	defer cancel()
	sub := f.mosquitto(ctx, "mosquitto_sub", viewer, "-t", "cmd/viewer/#", "-q", "1", "-v", "-d")
	lines := follow(t, sub)
	await(t, lines, "SUBACK")

	for n, temp := range []float64{31.5, 12, 40} {
		f.publish(shop, "dt/shop/climate", fmt.Sprintf(`{"temp":%g,"n":%d}`, temp, n))
	}
	await(t, lines, `cmd/viewer/hot/shop {"temp":31.5,"thing":"shop"}`)
	await(t, lines, `cmd/viewer/hot/shop {"temp":40,"thing":"shop"}`)
	f.streamHas("hot", `{"temp":31.5,"thing":"shop"}`, `{"temp":40,"thing":"shop"}`)
	for name, want := range map[string]string{"0": `{"temp":31.5,"thing":"shop"}`, "2": `{"temp":40,"thing":"shop"}`} {
		path := filepath.Join(f.bridge.Dir, "objects", "hot-events", "shop", name+".json")
		f.must(rig.Until(ctx, path, func() (bool, error) { _, err := os.Stat(path); return err == nil, err }))
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s holds %s, %v", path, got, err)
		}
	}

	t.Run("topic outside the policy", func(t *testing.T) {
		f.refused(t, thief, "dt/shop/climate", `{"temp":99}`)
		f.refused(t, thief, "$aws/things/shop/shadow/update", `{"state":{"desired":{"x":1}}}`)
	})
	t.Run("client id of another thing", func(t *testing.T) {
		as := thief
		as.id = "shop"
		f.refused(t, as, "dt/shop/climate", `{"temp":99}`)
	})
	t.Run("certificate of another CA", func(t *testing.T) {
		stranger := thief
		stranger.dir = t.TempDir()
		f.must(selfSigned(stranger.dir, "thief"))
		f.must(copyFile(filepath.Join(thief.dir, "ca.pem"), filepath.Join(stranger.dir, "ca.pem")))
		f.refused(t, stranger, "dt/thief/climate", `{"temp":99}`)
	})
	t.Run("no certificate", func(t *testing.T) {
		cmd := exec.CommandContext(ctx, "mosquitto_pub", append(f.endpoint(), "-i", "thief",
			"--cafile", filepath.Join(thief.dir, "ca.pem"), "-q", "1", "-t", "dt/thief/climate", "-m",
			`{"temp":99}`)...)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("accepted: %s", out)
		}
	})
	t.Run("revoked certificate", func(t *testing.T) {
		f.publish(thief, "dt/thief/climate", `{"temp":1,"n":7}`) // good until now
		if _, err := f.bridge.Command(ctx, "cert", "status", f.certificate(viewer), "REVOKED"); err != nil {
			t.Fatal(err)
		}
		// The live session ends, and a new one is refused.
		await(t, lines, "") // end of output
		if err := sub.Wait(); err == nil {
			t.Log("mosquitto_sub ended without an error status")
		}
		f.refused(t, viewer, "dt/viewer/climate", `{"temp":99}`)
	})
	// Nothing of what was refused went through.
	f.streamHas("hot", `{"temp":31.5,"thing":"shop"}`, `{"temp":40,"thing":"shop"}`)
}

// An identity is a thing's certificate folder and the client id to use.
type identity struct{ id, dir string }

func (f *fleet) thing(name string) identity {
	f.t.Helper()
	dir := filepath.Join(f.dir, "things", name)
	_, err := f.bridge.Command(f.ctx, "thing", "create", name, "-out", dir, "-endpoint", f.bridge.MQTT)
	f.must(err)
	return identity{name, dir}
}

func (f *fleet) certificate(i identity) string {
	f.t.Helper()
	var certs []admin.CertificateInfo
	f.must(f.bridge.Get(f.ctx, "/v1/certificates", url.Values{"thing": {i.id}}, &certs))
	if len(certs) != 1 {
		f.t.Fatalf("%s has %d certificates", i.id, len(certs))
	}
	return certs[0].ID
}

func (f *fleet) endpoint() []string {
	host, port, _ := net.SplitHostPort(f.bridge.MQTT)
	return []string{"-h", host, "-p", port}
}

func (f *fleet) mosquitto(ctx context.Context, program string, i identity, args ...string) *exec.Cmd {
	at := func(name string) string { return filepath.Join(i.dir, name) }
	// Unbuffered, so that lines can be followed.
	return exec.CommandContext(ctx, "stdbuf", append(append([]string{"-oL", program}, f.endpoint()...), append([]string{
		"-i", i.id, "--cafile", at("ca.pem"), "--cert", at("cert.pem"), "--key", at("key.pem")}, args...)...)...)
}

func (f *fleet) publish(i identity, topic, payload string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	if out, err := f.mosquitto(ctx, "mosquitto_pub", i, "-q", "1", "-t", topic, "-m",
		payload).CombinedOutput(); err != nil {
		f.t.Fatalf("publish on %s: %v\n%s", topic, err, out)
	}
}

// refused publishes and wants no acknowledgement: mosquitto_pub says so by its
// status, or tries again until it is ended.
func (f *fleet) refused(t *testing.T, i identity, topic, payload string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, 3*time.Second)
	defer cancel()
	out, err := f.mosquitto(ctx, "mosquitto_pub", i, "-d", "-q", "1", "-t", topic, "-m", payload).CombinedOutput()
	if err == nil || strings.Contains(string(out), "received PUBACK") {
		t.Errorf("publish of %s on %s was accepted:\n%s", i.id, topic, out)
	}
}

// streamHas waits until a stream holds exactly the documents, in order.
func (f *fleet) streamHas(name string, want ...string) {
	f.t.Helper()
	var got []string
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	err := rig.Until(ctx, "records of "+name, func() (bool, error) {
		body, err := f.bridge.Open(ctx, "/v1/streams/records", url.Values{"name": {name}, "from": {"oldest"}})
		if err != nil {
			return false, err
		}
		defer body.Close()
		got = nil
		sc := bufio.NewScanner(body)
		for sc.Scan() {
			var line admin.StreamRecord
			if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
				return false, err
			}
			got = append(got, string(line.JSON))
		}
		return len(got) >= len(want), sc.Err()
	})
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		f.t.Fatalf("%s holds %q, want %q (%v)", name, got, want, err)
	}
}

// follow starts cmd and returns its output line by line; the channel closes
// with it.
func follow(t *testing.T, cmd *exec.Cmd) <-chan string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			lines <- sc.Text()
		}
	}()
	return lines
}

// await reads lines until one holds want; an empty want waits for the end.
func await(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case l, ok := <-lines:
			switch {
			case !ok && want == "":
				return
			case !ok:
				t.Fatalf("the program ended without %q", want)
			case want != "" && strings.Contains(l, want):
				return
			}
		case <-limit:
			t.Fatalf("no %q in %v", want, patience)
		}
	}
}
