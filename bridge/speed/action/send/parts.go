package send

import (
	"slices"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/action"
)

// partsKept bounds how many deliveries are remembered of which a target took
// parts: an outbox has one request's under way, and there may be many outboxes. The
// oldest is forgotten first; its parts may then be sent twice.
const partsKept = 4096

// mostParts is of one delivery: Firehose's batches have 500, channels' 100.
const mostParts = 500

// A remembered knows which parts of deliveries are done, so that only those that
// failed are sent again. After a restart it knows none.
type remembered struct {
	mu    sync.Mutex // guards what follows
	of    map[string]*progress
	order []string
}

// A progress is of one delivery that is to be sent again in part.
type progress struct {
	done []bool // by part: done, or refused for ever
	err  error  // of a part that was refused for ever
}

// A part is one record of a delivery.
type part struct {
	of, at int // the delivery's index, and the part's in it
	data   []byte
	id     string
}

// split lists the parts of deliveries that are to be sent. errs gets what is wrong
// with a delivery as a whole.
func (r *remembered) split(ds deliveries, errs []error,
	read func(*action.Delivery) ([]part, error)) (parts []part) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, d := range ds {
		all, err := read(d)
		errs[i] = action.Permanent(err)
		p := r.of[d.ID]
		for at := range all {
			if p != nil && p.done[at] {
				continue
			}
			all[at].of, all[at].at = i, at
			parts = append(parts, all[at])
		}
	}
	return parts
}

// join gives each delivery the first error of its parts, one that is to be tried
// again before one that is not, and remembers what is done of those that are.
func (r *remembered) join(ds deliveries, errs []error, parts []part, results []error) []error {
	for i, err := range results {
		of, err := parts[i].of, final(err)
		if err != nil && (errs[of] == nil || permanent(errs[of]) && !permanent(err)) {
			errs[of] = err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, err := range results {
		if e := errs[parts[i].of]; e != nil && !permanent(e) && (err == nil || permanent(final(err))) {
			r.note(ds[parts[i].of].ID, parts[i].at, final(err))
		}
	}
	for i, d := range ds {
		if p := r.of[d.ID]; p != nil && (errs[i] == nil || permanent(errs[i])) {
			if errs[i] == nil {
				errs[i] = p.err
			}
			delete(r.of, d.ID)
			r.order = slices.DeleteFunc(r.order, func(id string) bool { return id == d.ID })
		}
	}
	return errs
}

// note says that a part is done, or, with an error, can never be.
func (r *remembered) note(id string, at int, err error) {
	p := r.of[id]
	if p == nil {
		if len(r.order) >= partsKept {
			delete(r.of, r.order[0])
			r.order = r.order[1:]
		}
		if r.of == nil {
			r.of = map[string]*progress{}
		}
		p = &progress{done: make([]bool, mostParts)}
		r.of[id], r.order = p, append(r.order, id)
	}
	p.done[at] = true
	if p.err == nil {
		p.err = err
	}
}
