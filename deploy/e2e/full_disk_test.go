package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/rig"
)

// The disk of the test, in bytes: what new data leaves free, and what is more than
// enough for all that is put into it.
const (
	fullSize    = 512 << 20
	fullReserve = 128 << 20
)

// fullConfig has a target that is never there, for whose outbox a rule works.
const fullConfig = `
[disk]
reserve = "128 MiB"
[ingest]
max_bytes = 0
[[actions]]
kind = "sns"
endpoint_url = "http://127.0.0.1:1"
region = "eu-local-1"
`

const absentRule = `{
  "sql": "SELECT * FROM 'full/out'",
  "awsIotSqlVersion": "2016-03-23",
  "actions": [{"sns": {"targetArn": "arn:aws:sns:eu-local-1:000000000000:absent", "messageFormat": "RAW",
    "roleArn": "arn:aws:iam::000000000000:role/rules"}}]
}`

// A fullDisk is a bridge on a small file system, and the model of what it must hold.
type fullDisk struct {
	*fleet
	at      string // the file system, and the bridge's data directory
	op      identity
	client  *client
	kinesis *kinesis.Client
	rnd     *rand.Rand
	next    int          // number of the next message
	acked   map[int]bool // those that were acknowledged on MQTT
	put     map[int]bool // and as records of the stream
	slowest time.Duration
}

// TestFullDisk fills the disk of a bridge, by what devices send, by what waits for a
// target that is away, by objects, and by another process, kills the bridge while it is
// full, and looks that all that was acknowledged is there, that nothing is acknowledged
// while it is refused, and that the bridge goes on by itself when there is room.
func TestFullDisk(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	seed := rand.Uint64()
	d := &fullDisk{rnd: rand.New(rand.NewPCG(seed, 0)), acked: map[int]bool{}, put: map[int]bool{}}
	t.Logf("seed %d", seed)
	d.fleet = newBridgeOn(t, func(dir string) {
		d.at = filepath.Join(dir, "bridge")
		smallDisk(t, d.at, fullSize)
	}, fullConfig, map[string]string{"rules/absent.json": absentRule,
		"streams/full.json": `{"StreamName": "full", "ShardCount": 1}`})
	d.op = d.newOperator()
	d.kinesis = d.aws().client(t, "http/1.1", func(o *kinesis.Options) { o.RetryMaxAttempts = 1 })
	fills := []func(){d.byForeigner, d.byIngest, d.byOutbox, d.byObjects}
	for round := range nightly.Or(len(fills), 30) {
		fills[round%len(fills)]()
		d.look()
		if d.rnd.IntN(2) == 0 {
			d.kill()
		}
		d.recover()
	}
	d.larger()
	d.account()
	t.Logf("%d messages and %d records were acknowledged; taken again after %v at most", len(d.acked), len(d.put),
		d.slowest)
	d.must(d.bridge.Stop(patience))
}

// smallDisk mounts a file system of so many bytes. Only root can.
func smallDisk(t *testing.T, at string, size int) {
	t.Helper()
	root := os.Getuid() == 0
	if !root {
		t.Skip("a small file system is mounted by root only")
	}
	err := errors.Join(os.MkdirAll(at, 0o700),
		unix.Mount("tidemill-test", at, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)))
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func (d *fullDisk) until(what string, cond func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	return rig.Until(ctx, what, cond)
}

func (d *fullDisk) free() int64 {
	d.t.Helper()
	free, _, err := disk.Free(d.at)
	d.must(err)
	return free
}

// foreign is a file of another process.
func (d *fullDisk) foreign() string { return filepath.Join(d.at, "of-another") }

// leave has the other process take all but so many bytes.
func (d *fullDisk) leave(n int64) {
	d.t.Helper()
	f, err := os.OpenFile(d.foreign(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	d.must(err)
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for d.free() > n {
		if _, err := f.Write(chunk[:min(int64(len(chunk)), max(d.free()-n, 1))]); errors.Is(err, syscall.ENOSPC) {
			return
		} else {
			d.must(err)
		}
	}
}

// connected connects if the client is not.
func (d *fullDisk) connected() error {
	if d.client != nil && d.client.IsConnectionOpen() {
		return nil
	}
	o := d.settings(d.op)(d.op.id).SetCleanSession(true)
	d.client = &client{Client: mqtt.NewClient(o), t: d.t}
	tok := d.client.Connect()
	if !tok.WaitTimeout(10 * time.Second) {
		return errors.New("no CONNACK")
	}
	return tok.Error()
}

// send publishes a message of 48 KiB that does not compress, and says whether it was
// acknowledged within a second.
func (d *fullDisk) send(topic string) bool {
	if d.connected() != nil {
		return false
	}
	n := d.next
	d.next++
	tok := d.client.Client.Publish(topic, 1, false, d.document(n))
	gone := time.After(time.Second)
	for {
		select {
		case <-tok.Done():
			if tok.Error() == nil && d.client.IsConnectionOpen() {
				d.acked[n] = true
				return true
			}
			return false
		case <-gone:
			d.client.Disconnect(0) // an answer that comes later counts for nothing
			return false
		case <-time.After(10 * time.Millisecond):
			if !d.client.IsConnectionOpen() {
				return false
			}
		}
	}
}

func (d *fullDisk) document(n int) []byte {
	pad := make([]byte, 36<<10)
	for i := range pad {
		pad[i] = byte(d.rnd.Uint32())
	}
	return fmt.Appendf(nil, `{"n":%d,"pad":%q}`, n, base64.StdEncoding.EncodeToString(pad))
}

// record puts a record into the stream.
func (d *fullDisk) record() error {
	n := d.next
	d.next++
	name, key := "full", "k"
	_, err := d.kinesis.PutRecord(d.ctx, &kinesis.PutRecordInput{StreamName: &name, PartitionKey: &key,
		Data: d.document(n)})
	if err == nil {
		d.put[n] = true
	}
	return err
}

// byForeigner leaves nothing at all.
func (d *fullDisk) byForeigner() { d.leave(0) }

func (d *fullDisk) byIngest() { d.fillBy("full/in") }
func (d *fullDisk) byOutbox() { d.fillBy("full/out") }

// fillBy publishes until it is refused for what is free. Before that it may be refused
// for a moment, for what the log has stored since the bridge last looked.
func (d *fullDisk) fillBy(topic string) {
	d.t.Helper()
	d.leave(fullReserve + 12<<20)
	for i := range 2000 {
		taken := d.send(topic)
		if i%8 == 0 && d.record() != nil {
			taken = false
		}
		if !taken && d.free() < fullReserve {
			return
		}
	}
	d.t.Fatal("nothing was refused")
}

// byObjects puts objects until one is refused.
func (d *fullDisk) byObjects() {
	d.t.Helper()
	d.leave(fullReserve + 12<<20)
	path := filepath.Join(d.dir, "object")
	d.must(os.WriteFile(path, make([]byte, 4<<20), 0o600))
	for i := range 100 {
		if _, err := d.bridge.Command(d.ctx, "object", "put", fmt.Sprintf("photos/%d", i), path); err != nil {
			if !strings.Contains(err.Error(), "room") {
				d.t.Fatal(err)
			}
			break
		}
	}
	d.leave(fullReserve - 1<<20) // the last may have been too large for what was left
}

// get asks the admin listener.
func (d *fullDisk) get(path string) (status int, text string) {
	resp, err := http.Get("http://" + d.bridge.Admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// look waits until the bridge says that it refuses data, and that it is alive; then
// nothing is acknowledged.
func (d *fullDisk) look() {
	d.t.Helper()
	d.must(d.until("a refusal", func() (bool, error) {
		status, _ := d.get("/readyz")
		return status == http.StatusServiceUnavailable, nil
	}))
	if status, text := d.get("/healthz"); status != http.StatusOK {
		d.t.Fatalf("it is not alive: %d %s", status, text)
	}
	var s disk.Status
	d.must(d.bridge.Get(d.ctx, "/v1/disk", nil, &s))
	if free := d.free(); s.Refused == "" || free > fullReserve+fullReserve/16 {
		d.t.Errorf("refused: %q, %d bytes free", s.Refused, free)
	}
	for range 3 {
		if d.send("full/in") {
			d.t.Errorf("a message was acknowledged while data is refused; %d bytes are free", d.free())
		}
		var api smithy.APIError
		if err := d.record(); !errors.As(err, &api) || api.ErrorCode() != "ServiceUnavailableException" {
			d.t.Errorf("a record: %v", err)
		}
	}
	if gone, err := d.bridge.Exited(); gone {
		d.t.Fatalf("the bridge ended: %v", err)
	}
}

// kill kills the bridge, which starts again on the full disk: it takes nothing, and is
// alive.
func (d *fullDisk) kill() {
	d.t.Helper()
	d.bridge.Kill()
	d.leave(fullReserve * 3 / 4)
	d.must(d.bridge.Start())
	d.must(d.until("a start on a full disk", func() (bool, error) {
		status, text := d.get("/readyz")
		if status == http.StatusOK { // a start gives back old files of the log
			d.leave(fullReserve / 2)
		}
		return status == http.StatusServiceUnavailable &&
			(strings.Contains(text, "MiB free, want") || strings.Contains(text, "new data is refused")), nil
	}))
	if status, text := d.get("/healthz"); status != http.StatusOK {
		d.t.Fatalf("it is not alive: %d %s", status, text)
	}
}

// recover gives room back, and the same process takes data again within seconds.
func (d *fullDisk) recover() {
	d.t.Helper()
	pid := d.bridge.PID()
	d.must(os.Remove(d.foreign()))
	began := time.Now()
	d.must(d.until("that data is taken again", func() (bool, error) { return d.send("full/in"), nil }))
	d.slowest = max(d.slowest, time.Since(began))
	if d.bridge.PID() != pid {
		d.t.Error("it is another process")
	}
	if err := d.record(); err != nil {
		d.t.Errorf("a record: %v", err)
	}
}

// larger gives the file system more room while data is refused.
func (d *fullDisk) larger() {
	d.t.Helper()
	d.leave(fullReserve / 2)
	d.look()
	d.must(unix.Mount("tidemill-test", d.at, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", 2*fullSize)))
	d.must(d.until("that data is taken again", func() (bool, error) { return d.send("full/in"), nil }))
}

var numberedMessage = regexp.MustCompile(`\{"n":(\d+),"pad"`)

// stored are the numbers in a stream, each with how often it is there.
func (d *fullDisk) stored(stream string) map[int]int {
	d.t.Helper()
	body, err := d.bridge.Open(d.ctx, "/v1/streams/records",
		url.Values{"name": {stream}, "from": {"oldest"}, "follow": {"false"}})
	d.must(err)
	defer body.Close()
	all := map[int]int{}
	dec := json.NewDecoder(bufio.NewReader(body))
	for {
		var line admin.StreamRecord
		if err := dec.Decode(&line); err == io.EOF {
			return all
		} else if err != nil {
			d.t.Fatal(err)
		}
		if m := numberedMessage.FindSubmatch(append(line.Data, line.JSON...)); m != nil {
			n, err := strconv.Atoi(string(m[1]))
			d.must(err)
			all[n]++
		}
	}
}

// account compares the model with what is there.
func (d *fullDisk) account() {
	d.t.Helper()
	for stream, want := range map[string]map[int]bool{"$ingest": d.acked, "full": d.put} {
		got := d.stored(stream)
		for n := range want {
			if got[n] != 1 {
				d.t.Errorf("%s: message %d was acknowledged, and is there %d times", stream, n, got[n])
			}
		}
		d.t.Logf("%s: %d messages, %d of them acknowledged", stream, len(got), len(want))
	}
}
