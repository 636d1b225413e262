// Package metric keeps the metrics that rules write, for a Prometheus server to
// scrape: of each the last value, when it was, how many there were and their sum. It
// is where the cloudwatchMetric action goes unless CloudWatch is configured.
//
// Caveats:
//   - All is in memory: after a restart a metric is there again with its next value,
//     and counts begin anew, which Prometheus's rate() expects.
//   - A value that is put again, such as by an outbox that could not note that it was
//     there, counts twice.
package metric

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// errRefused means that a sample is not taken, now and later: there are too many
// metrics, or its name belongs to others.
var errRefused = errors.New("metric refused")

// A Sample is one value of a metric, as CloudWatch's PutMetricData has it.
type Sample struct {
	Namespace, Name string
	Unit            string // one of CloudWatch's
	Value           float64
	Time            time.Time
}

// A Series is what is known of one metric: a namespace, a name and a unit.
type Series struct {
	Exposed string  // its name in Prometheus; those with one of suffixes are its, too
	Last    Sample  // the one of the latest Time; of several the one that came last
	Count   uint64  // of samples
	Sum     float64 // of their values
}

// What the names of a metric's other values end with.
const (
	SamplesSuffix = "_samples_total"
	SumSuffix     = "_sum"
	TimeSuffix    = "_timestamp_seconds"
)

// suffixes are what the names of a metric's values end with.
var suffixes = []string{"", SamplesSuffix, SumSuffix, TimeSuffix}

// reserved begin the names that the bridge's own metrics have.
var reserved = []string{"tidemill_", "go_", "process_", "promhttp_"}

// Options of a Registry.
type Options struct {
	Most int           // metrics; one more is refused
	Keep time.Duration // after its last value a metric is dropped; 0: never
}

// A Registry has the metrics of rules. Several goroutines may use it.
type Registry struct {
	opts Options

	mu     sync.Mutex // guards what follows
	all    map[key]*entry
	owners map[string]owner // of exposed names, with suffixes
	swept  time.Time        // last
}

type key struct{ namespace, name, unit string }

type entry struct {
	Series
	came time.Time // the last sample, by the process's clock
}

// An owner is the exposed name whose series have a name, and how many those are.
type owner struct {
	exposed string
	series  int
}

// New returns a Registry without metrics.
func New(o Options) *Registry {
	return &Registry{opts: o, all: map[key]*entry{}, owners: map[string]owner{}}
}

// Put takes a sample. A sample that is older than the last one counts, but is not
// shown. An error wraps errRefused.
func (r *Registry) Put(s Sample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{s.Namespace, s.Name, s.Unit}
	e := r.all[k]
	if e == nil {
		var err error
		if e, err = r.add(k); err != nil {
			return err
		}
	}
	if !s.Time.Before(e.Last.Time) {
		e.Last = s
	}
	e.Count++
	e.Sum += s.Value
	e.came = time.Now()
	return nil
}

// add makes a metric of that key.
func (r *Registry) add(k key) (*entry, error) {
	name := exposed(k.namespace, k.name, k.unit)
	if err := CheckName(k.namespace, k.name, k.unit); err != nil {
		return nil, err
	}
	for _, text := range []string{k.namespace, k.name, k.unit} {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("%w: %.100q is no UTF-8", errRefused, text)
		}
	}
	if time.Since(r.swept) >= sweepAgain {
		r.sweep()
	}
	if len(r.all) >= r.opts.Most {
		return nil, fmt.Errorf("%w: %s of %s would be one too many, metric_action.max is %d; "+
			"a metric is dropped %v after its last value", errRefused, k.name, k.namespace, r.opts.Most, r.opts.Keep)
	}
	for _, suffix := range suffixes {
		if o, taken := r.owners[name+suffix]; taken && o.exposed != name {
			return nil, fmt.Errorf("%w: %s is taken by the metric %s", errRefused, name+suffix, o.exposed)
		}
	}
	for _, suffix := range suffixes {
		r.owners[name+suffix] = owner{name, r.owners[name+suffix].series + 1}
	}
	e := &entry{Series: Series{Exposed: name, Last: Sample{Time: time.Unix(math.MinInt32, 0)}}}
	r.all[k] = e
	return e, nil
}

// CheckName refuses the names of the bridge's own metrics. Name and unit may be "": not
// known yet.
func CheckName(namespace, name, unit string) error {
	exposed := exposed(namespace, cmp.Or(name, "x"), cmp.Or(unit, "None"))
	for _, p := range reserved {
		if strings.HasPrefix(exposed, p) {
			return fmt.Errorf("%w: %s is a name for metrics of the bridge itself", errRefused, exposed)
		}
	}
	return nil
}

// sweepAgain is how often it is looked for metrics to drop when one is added: a look is
// at all of them, and names that are refused may come with each message. Our choice.
const sweepAgain = time.Second

// sweep drops metrics that had no value for too long.
func (r *Registry) sweep() {
	r.swept = time.Now()
	if r.opts.Keep <= 0 {
		return
	}
	for k, e := range r.all {
		if time.Since(e.came) <= r.opts.Keep {
			continue
		}
		delete(r.all, k)
		for _, suffix := range suffixes {
			o := r.owners[e.Exposed+suffix]
			if o.series--; o.series == 0 {
				delete(r.owners, e.Exposed+suffix)
			} else {
				r.owners[e.Exposed+suffix] = o
			}
		}
	}
}

// All returns the metrics that are not dropped, by exposed name, namespace, name and
// unit.
func (r *Registry) All() []Series {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep()
	all := make([]Series, 0, len(r.all))
	for _, e := range r.all {
		all = append(all, e.Series)
	}
	slices.SortFunc(all, func(a, b Series) int {
		return slices.Compare(a.order(), b.order())
	})
	return all
}

func (s *Series) order() []string {
	return []string{s.Exposed, s.Last.Namespace, s.Last.Name, s.Last.Unit}
}
