package faults

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// ownRows are the targets that the bridge has itself. w is theirs, once it has started.
func ownRows(t *testing.T, w **world) []*row {
	tail := func(args ...string) func() []int {
		return func() []int {
			text, err := (*w).bridge.Command((*w).ctx, append(args, "-from", "oldest", "-follow=false")...)
			if err != nil {
				t.Fatal(err)
			}
			return numbers(string(text))
		}
	}
	objects := func(folder string) func() []int {
		return func() []int { return numbers((*w).stored("lake", folder)) }
	}
	stream := func(name string) map[string]string {
		return map[string]string{"streams/" + name + ".json": fmt.Sprintf(`{"StreamName":%q,"ShardCount":1}`, name)}
	}
	again := stream("again")
	again["rules/again.json"] = `{"sql":"SELECT * FROM 'again/+'","awsIotSqlVersion":"2016-03-23",` +
		`"actions":[{"kinesis":{"streamName":"again","partitionKey":"k"}}]}`
	delivered := map[string]string{"delivery-streams/delivered.json": fmt.Sprintf(`{"DeliveryStreamName":"delivered",
		"ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake","Prefix":"delivered/",%s}}`, buffering)}
	rows := []*row{
		{name: "kinesis", got: tail("stream", "tail", "own"), declared: stream("own"),
			action: `{"kinesis":{"streamName":"own","partitionKey":"k"}}`},
		{name: "firehose", got: objects("delivered"), declared: delivered,
			action: `{"firehose":{"deliveryStreamName":"delivered","separator":"\n"}}`},
		{name: "s3", got: objects("objects"), // named anew each time that a rule meets a message
			action: `{"s3":{"bucketName":"lake","key":"objects/${id}-${newuuid()}"}}`},
		{name: "republish", got: tail("stream", "tail", "again"), declared: again,
			action: `{"republish":{"topic":"again/${topic(2)}","qos":1}}`},
		{name: "iotAnalytics", got: tail("channel", "tail", "raw"),
			action: `{"iotAnalytics":{"channelName":"raw"}}`},
	}
	for _, name := range []string{"sqs", "sqs.fifo"} {
		var all []int
		rows = append(rows, &row{name: strings.ReplaceAll(name, ".", "_"),
			action: fmt.Sprintf(`{"sqs":{"queueUrl":%q}}`, name),
			got: func() []int {
				all = append(all, receive(t, (*w).ctx, sqs.NewFromConfig((*w).own), name)...)
				return all
			}})
	}
	// A metric for each number: after a kill those that were shown are gone.
	rows = append(rows, &row{name: "cloudwatchMetric", forgets: true,
		action: `{"cloudwatchMetric":{"metricName":"n${id}","metricNamespace":"own","metricUnit":"None","metricValue":"1"}}`,
		got:    func() []int { return (*w).samples() }})
	for _, r := range rows {
		r.once = true
	}
	// A function is called again where the bridge does not know any more that it was.
	rows = append(rows, &row{name: "lambda", settings: "[lambda]\nenabled = true\nunsafe = true\n",
		action: `{"lambda":{"functionArn":"arn:aws:lambda:eu-local-1:000000000000:function:prints"}}`,
		got: func() []int {
			text, _ := os.ReadFile(filepath.Join((*w).bridge.Dir, "lambda", "logs", "prints.log")) // not there at first
			return numbers(string(text))
		}})
	for _, r := range rows {
		r.meter = &meter{}
	}
	return rows
}

// samples are the numbers that the bridge has metrics of, each as often as it was counted.
func (w *world) samples() (all []int) {
	w.t.Helper()
	series, err := w.bridge.Metrics(w.ctx)
	w.must(err)
	for name, times := range series {
		if number, ok := strings.CutPrefix(name, "own_n"); ok && strings.Contains(name, "_samples_total{") {
			number, _, _ = strings.Cut(number, "_")
			n, err := strconv.Atoi(number)
			w.must(err)
			all = append(all, slices.Repeat([]int{n}, int(times))...)
		}
	}
	return all
}

// prints makes a function of the bridge that prints its event.
func (w *world) prints() {
	w.t.Helper()
	var pack bytes.Buffer
	z := zip.NewWriter(&pack)
	app, err := z.Create("app.py")
	w.must(err)
	_, err = io.WriteString(app, "import json\ndef handler(event, context):\n    print(json.dumps(event), flush=True)\n")
	w.must(errors.Join(err, z.Close()))
	_, err = lambda.NewFromConfig(w.own).CreateFunction(w.ctx, &lambda.CreateFunctionInput{FunctionName: p("prints"),
		Runtime: "python3.11", Handler: p("app.handler"), Role: p("arn:aws:iam::000000000000:role/any"),
		Code: &types.FunctionCode{ZipFile: pack.Bytes()}})
	w.must(err)
}

// TestOwnTargets kills a bridge whose rules write to what it has itself, at once after
// records were acknowledged and after each target has some, while more come. What was
// acknowledged must be there once, all else once or not at all. Of a target in memory
// that is so of what comes after the kill.
func TestOwnTargets(t *testing.T) {
	if testing.Short() {
		t.Skip("whole programs are left out with -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	rounds := 4
	if os.Getenv("TIDEMILL_NIGHTLY") != "" {
		rounds = 20
	}
	var w *world
	w = start(t, ctx, nil, ownRows(t, &w), false)
	queues := sqs.NewFromConfig(w.own)
	for _, name := range []string{"sqs", "sqs.fifo"} {
		in := &sqs.CreateQueueInput{QueueName: &name}
		if strings.HasSuffix(name, ".fifo") {
			in.Attributes = map[string]string{"FifoQueue": "true"}
		}
		_, err := queues.CreateQueue(ctx, in)
		w.must(err)
	}
	w.prints()
	var lost, twice int
	for i := range 2 * rounds {
		l, d := w.killed(i*1000, i%2 == 1)
		lost, twice = lost+l, twice+d
	}
	t.Logf("%d kills, %d targets: %d lost, %d twice", 2*rounds, len(w.rows), lost, twice)
}

// killed kills the bridge while records come: after half of them were acknowledged,
// or, with met, after each target has one, too. It counts over all targets.
func (w *world) killed(from int, met bool) (lost, twice int) {
	w.t.Helper()
	for n := range each / 2 {
		w.must(w.publish(from + n))
	}
	if met {
		w.until("each target has a record", time.Minute, func() (bool, string) {
			for _, r := range w.rows {
				if !slices.ContainsFunc(r.got(), func(n int) bool { return n >= from }) {
					return false, r.name
				}
			}
			return true, ""
		})
	}
	more := make(chan int)
	go func() {
		n := each / 2
		for n < each && w.publish(from+n) == nil {
			n++
		}
		more <- n
	}()
	time.Sleep(rand.N(20 * time.Millisecond)) // some of them are under way
	w.bridge.Kill()
	acknowledged := <-more
	w.must(w.bridge.Start())
	w.must(w.bridge.Ready(w.ctx))
	const since = 500 // beside from: what comes after the kill
	for n := range 3 {
		w.must(w.publish(from + since + n))
	}
	w.drained("kill")
	for _, r := range w.rows {
		var l, d int
		first, n := from, acknowledged
		if r.forgets {
			first, n = from+since, 3
		}
		w.until(r.name+" has all that was acknowledged", 30*time.Second, func() (bool, string) {
			l, d = tally(r.got(), first, n)
			return l == 0, fmt.Sprint(l, " lost")
		})
		if d > 0 && r.once {
			w.t.Errorf("%s: %d records are there twice", r.name, d)
		}
		if refused := w.kept(r); len(refused) > 0 {
			w.t.Errorf("%s: the error action has %v", r.name, refused)
		}
		lost, twice = lost+l, twice+d
	}
	return lost, twice
}

// tally counts which of n numbers are missing in got, and what is there more than once.
func tally(got []int, from, n int) (missing, more int) {
	at := map[int]int{}
	for _, x := range got {
		if at[x]++; at[x] > 1 {
			more++
		}
	}
	for x := from; x < from+n; x++ {
		if at[x] == 0 {
			missing++
		}
	}
	return missing, more
}
