package send

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
)

// postsTogether is how many deliveries one Send of the http action has: several
// batches, for messages of other topics stand between those of one.
const postsTogether = 40

func addHTTP(o *Options, add adding) (gather func(deliveries) time.Duration) {
	w := &web{o: o, signing: newClients(o, "http", func(c aws.Config) aws.Config { return c }),
		sizes: newKept[int](partsKept), tries: newKept[int](partsKept)}
	add("http", postsTogether, 1<<20, w.send)
	return w.gather
}

// A web posts documents.
type web struct {
	o       *Options
	signing *clients[aws.Config]

	mu    sync.Mutex // guards what follows
	sizes *kept[int] // of batches that are to be sent again, by the id of their first delivery
	tries *kept[int] // answered, of those, if they are limited
}

// send posts deliveries, those that go together in one request. What is to be sent
// again holds back only what goes the same way.
func (w *web) send(ctx context.Context, ds deliveries) []error {
	errs := make([]error, len(ds))
	held := map[string]bool{}
	for _, b := range w.batches(ds) {
		if way := wayOf(ds[b[0]]); held[way] {
			set(errs, b, errBefore)
		} else if err := final(w.post(ctx, ds, b)); err != nil {
			set(errs, b, err)
			held[way] = !permanent(err)
		}
	}
	return errs
}

func set(errs []error, of []int, err error) {
	for _, i := range of {
		errs[i] = err
	}
}

// wayOf is the same of deliveries that may go together.
func wayOf(d *action.Delivery) string {
	way := d.Parameter("url")
	if d.Parameter("enableBatching") == "true" && d.Parameter("batchConfig/batchAcrossTopics") != "true" {
		way += "\n" + d.Topic
	}
	return way
}

// batches are the indexes of deliveries that go together, in the order of their
// first ones. A batch that is sent again is the same.
func (w *web) batches(ds deliveries) (all [][]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := map[string]int{} // by way: the batch that takes more
	bytes := map[int]int{}   // of batches
	for i, d := range ds {
		way := wayOf(d)
		at, ok := open[way]
		if d.Parameter("enableBatching") != "true" || !ok || !w.fits(ds, all[at], bytes[at], d) {
			at = len(all)
			all, open[way] = append(all, nil), at
		}
		all[at] = append(all[at], i)
		bytes[at] += len(d.Data) + 1
	}
	return all
}

// gather waits while a batch has room.
func (w *web) gather(ds deliveries) time.Duration {
	if ds[0].Parameter("enableBatching") != "true" {
		return 0
	}
	most, _ := strconv.Atoi(ds[0].Parameter("batchConfig/maxBatchSize"))
	open, _ := strconv.Atoi(ds[0].Parameter("batchConfig/maxBatchOpenMs"))
	for _, b := range w.batches(ds) {
		if len(b) < most {
			return time.Duration(open) * time.Millisecond
		}
	}
	return 0
}

// fits says whether a batch of so many bytes takes another delivery.
func (w *web) fits(ds deliveries, batch []int, bytes int, d *action.Delivery) bool {
	most, _ := strconv.Atoi(d.Parameter("batchConfig/maxBatchSize")) // the rule's, which were checked
	mostBytes, _ := strconv.Atoi(d.Parameter("batchConfig/maxBatchSizeBytes"))
	if n, again := w.sizes.of[ds[batch[0]].ID]; again {
		return len(batch) < n
	}
	return len(batch) < most && bytes+len(d.Data)+2 <= mostBytes
}

// post makes the request of a batch.
func (w *web) post(ctx context.Context, ds deliveries, batch []int) error {
	last := ds[batch[len(batch)-1]] // its headers count
	body, kind := last.Data, "application/octet-stream"
	if last.Parameter("enableBatching") == "true" {
		body = []byte{'['}
		for n, i := range batch {
			if n > 0 {
				body = append(body, ',')
			}
			body = append(body, ds[i].Data...)
		}
		body, kind = append(body, ']'), "application/json"
	} else if json.Valid(body) && (body[0] == '{' || body[0] == '[') { // a lone value is none (HTTP action)
		kind = "application/json"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, last.Parameter("url"), bytes.NewReader(body))
	if err != nil {
		return action.Permanent(post.WithoutURL(err))
	}
	r.Header.Set("Content-Type", kind)
	if key := keyOf(ds, batch); key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	for _, h := range last.Inner("headers") {
		if r.Header.Set(h.Name, h.Value); http.CanonicalHeaderKey(h.Name) == "Host" {
			r.Host = h.Value
		}
	}
	if service := last.Parameter("auth/sigv4/serviceName"); service != "" {
		c, err := w.signing.in(ctx, last.Parameter("auth/sigv4/signingRegion"))
		if err != nil {
			return err
		}
		if err := awsapi.Sign(ctx, c, service, r, body); err != nil {
			return err
		}
	}
	err = w.limit(ds[batch[0]].ID, post.Do(w.o.webOfRules(), r))
	w.note(ds[batch[0]].ID, len(batch), err)
	return err
}

// keyOf is by what a receiver knows a batch that it has: the id of a lone delivery, of
// more a hash of all. A batch that has grown since is another.
func keyOf(ds deliveries, batch []int) string {
	if len(batch) == 1 || ds[batch[0]].ID == "" {
		return ds[batch[0]].ID
	}
	h := sha256.New()
	for _, i := range batch {
		h.Write([]byte(ds[i].ID + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// note remembers how large a batch is that is to be sent again, so that it is the
// same then. After a restart it may be another.
func (w *web) note(id string, n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil || permanent(final(err)) {
		w.sizes.drop(id)
		return
	}
	w.sizes.put(id, n)
}

// limit counts the answers that ask for another try, if there is a limit to them.
func (w *web) limit(id string, err error) error {
	if w.o.HTTPTries <= 0 {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e, answered := errors.AsType[*post.StatusError](err)
	if answered && !awsapi.PermanentStatus(e.Status) {
		if w.tries.put(id, w.tries.of[id]+1); w.tries.of[id] >= w.o.HTTPTries {
			err = action.Permanent(err)
		}
	}
	if err == nil || permanent(final(err)) {
		w.tries.drop(id)
	}
	return err
}
