package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/deploy/rig"
)

// A row is a target of a rule or of a delivery stream.
type row struct {
	name     string
	once     bool              // no record may be there twice
	forgets  bool              // it is in memory: a kill takes what it has
	action   string            // of a rule, in JSON; "": it is a delivery stream
	stream   string            // members of the delivery stream beside its name
	meter    *meter            // of its gate
	got      func() []int      // the records that the target has, each as often as it has it
	skip     map[string]string // what cannot be done to it, and why
	settings string            // of the bridge
	declared map[string]string // files of bridge.d beside its own
}

// A world is a bridge and its targets.
type world struct {
	t      *testing.T
	ctx    context.Context
	bridge *rig.Bridge
	cloud  *cloud
	rows   []*row
	own    aws.Config // leads to the bridge
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// built is the folder of the programs that the tests build. TestMain removes it.
var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// program is the bridge, built once, or the one in the folder TIDEMILL_BIN.
var program = sync.OnceValues(func() (_ rig.Bin, err error) {
	if dir := os.Getenv("TIDEMILL_BIN"); dir != "" {
		return rig.In(dir), nil
	}
	if built, err = os.MkdirTemp("", "tidemill-bin-"); err != nil {
		return rig.Bin{}, err
	}
	return rig.Build(context.Background(), "../..", built)
})

// start runs a bridge with a rule or a delivery stream for each row. brief has it
// give up soon what it cannot deliver.
func start(t *testing.T, ctx context.Context, c *cloud, rows []*row, brief bool) *world {
	t.Helper()
	w := &world{t: t, ctx: ctx, cloud: c, rows: rows}
	bin, err := program()
	w.must(err)
	settings, seconds := "plaintext = \"loopback\"\n[egress]\nallow = [\"127.0.0.1\"]\n", "600"
	if brief {
		settings, seconds = settings+"[rules]\ngive_up = \"2s\"\n", "2"
	}
	for _, r := range rows {
		settings += r.settings
	}
	dir := t.TempDir()
	w.bridge, err = rig.NewBridge(bin, dir, settings)
	w.must(err)
	for _, r := range rows {
		name, doc := "rules/"+r.name+".json", fmt.Sprintf(`{"sql":"SELECT * FROM 'faults/+'","awsIotSqlVersion":"2016-03-23",`+
			`"actions":[%s],"errorAction":{"s3":{"bucketName":"kept","key":"%s/${newuuid()}"}}}`, r.action, r.name)
		if r.action == "" {
			name, doc = "delivery-streams/"+r.name+".json", fmt.Sprintf(`{"DeliveryStreamName":%q,%s}`, r.name,
				strings.ReplaceAll(r.stream, "WINDOW", seconds))
		}
		w.must(w.bridge.Declare(name, doc))
		for name, doc := range r.declared {
			w.must(w.bridge.Declare(name, doc))
		}
	}
	t.Cleanup(func() {
		w.bridge.Kill()
		if text, _ := os.ReadFile(w.bridge.Log); t.Failed() {
			t.Logf("%s", text[max(0, len(text)-8000):])
		}
	})
	w.must(w.bridge.Start())
	w.must(w.bridge.Ready(ctx))
	w.own, err = config.LoadDefaultConfig(ctx, config.WithRegion("eu-local-1"),
		config.WithBaseEndpoint("http://"+w.bridge.HTTPS),
		config.WithSharedCredentialsFiles([]string{filepath.Join(w.bridge.Dir, "pki", "access-keys")}),
		config.WithSharedConfigFiles(nil), config.WithSharedConfigProfile("default"))
	w.must(err)
	return w
}

// put hands the bridge records of these numbers, until it has acknowledged each.
func (w *world) put(from, n int) {
	w.t.Helper()
	client := firehose.NewFromConfig(w.own)
	for _, r := range w.rows {
		for part := 0; r.action == "" && part < 2; part++ { // two calls, and so perhaps two deliveries
			in := &firehose.PutRecordBatchInput{DeliveryStreamName: &r.name}
			for i := part * n / 2; i < (part+1)*n/2; i++ {
				in.Records = append(in.Records, types.Record{Data: fmt.Appendf(nil, `{"id":%d}`+"\n", from+i)})
			}
			out, err := client.PutRecordBatch(w.ctx, in)
			w.must(err)
			if *out.FailedPutCount != 0 {
				w.t.Fatal("records were not taken")
			}
		}
	}
	for i := range n {
		w.must(w.publish(from + i))
	}
}

// publish publishes the record of a number, to one of three topics.
func (w *world) publish(n int) error {
	payload := fmt.Sprintf(`{"id":%d}`, n)
	r, err := http.NewRequestWithContext(w.ctx, "POST",
		fmt.Sprintf("http://%s/topics/faults/%d?qos=1", w.bridge.HTTPS, n%3), strings.NewReader(payload))
	if err != nil {
		return err
	}
	if err := awsapi.Sign(w.ctx, w.own, "iotdata", r, []byte(payload)); err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return nil
}

// kill ends the bridge as kill -9 does, and starts it again.
func (w *world) kill() {
	w.t.Helper()
	w.bridge.Kill()
	w.lift()
	w.must(w.bridge.Start())
	w.must(w.bridge.Ready(w.ctx))
}

// lift ends all faults.
func (w *world) lift() {
	for _, r := range w.rows {
		r.meter.set(pass, 0)
	}
}

var number = regexp.MustCompile(`"id":\s?(\d+)`)

// numbers are those of the records in a text.
func numbers(text string) (all []int) {
	for _, m := range number.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		all = append(all, n)
	}
	return all
}

// stored is what is in the bridge's own objects of a folder of a bucket.
func (w *world) stored(bucket, folder string) (text string) {
	_ = filepath.WalkDir(filepath.Join(w.bridge.Dir, "objects", bucket, folder),
		func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				object, _ := os.ReadFile(path)
				text += string(object) + "\n"
			}
			return nil // a folder may not be there yet
		})
	return text
}

// kept are the records of a row that its error action or its delivery stream kept: the
// first in a bucket of the cloud, if there is one, the second in one of the bridge.
func (w *world) kept(r *row) (all []int) {
	text := w.stored("kept", r.name)
	if w.cloud != nil {
		text += w.cloud.text("kept", r.name+"/")
	}
	for line := range strings.Lines(text) {
		var d struct {
			Payload []byte `json:"base64OriginalPayload"`
			Raw     []byte `json:"rawData"`
		}
		if json.Unmarshal([]byte(line), &d) == nil {
			all = append(all, numbers(string(d.Payload)+string(d.Raw))...)
		}
	}
	return all
}

// redrive has delivery streams deliver what they could not.
func (w *world) redrive() {
	for _, r := range w.rows {
		if r.action == "" {
			_, err := w.bridge.Command(w.ctx, "firehose", "redrive", r.name)
			w.must(err)
		}
	}
}
