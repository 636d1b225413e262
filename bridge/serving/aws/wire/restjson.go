package wire

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/restjson"
)

const (
	// maxUnknownBody and maxUnknown are the limits of requests for no service.
	maxUnknownBody = 256 << 10
	maxUnknown     = 64
)

// restJSON is the protocol of RESTJSON services.
type restJSON struct {
	routes   routes
	services []*service
	standard *service            // whose limits hold where there is no operation
	names    map[string][]string // of operations, by the service that is signed for
}

func newRESTJSON() *restJSON { return &restJSON{names: map[string][]string{}} }

func (p *restJSON) add(s *service, all []*operation) {
	p.services = append(p.services, s)
	p.standard = cmp.Or(p.standard, s)
	for _, op := range all {
		p.routes.add(op)
		for _, name := range s.Signing {
			if op.Absent == "" && !slices.Contains(p.names[name], op.Name) { // it may have several paths
				p.names[name] = append(p.names[name], op.Name)
			}
		}
	}
}

// claimed is the service that takes a path, still escaped, also without a
// signature; nil for none.
func (p *restJSON) claimed(path string) *service {
	for _, s := range p.services {
		if s.Unsigned != nil && s.Unsigned(path) {
			return s
		}
	}
	return nil
}

func (p *restJSON) takes(*http.Request) bool { return true }

func (p *restJSON) greet(*exchange) (bool, error) { return false, nil }

// find never fails: that there is no operation is told to those who are known.
func (p *restJSON) find(x *exchange) error {
	path := x.r.URL.EscapedPath()
	if x.route, x.values = p.routes.find(x.r.Method, path); x.route != nil {
		x.op = x.route.op
		x.service = x.op.service
		return nil
	}
	x.service = cmp.Or(p.claimed(path), p.standard)
	return nil
}

func (p *restJSON) scope(*exchange) error { return nil }

func (p *restJSON) read(x *exchange) (err error) {
	// A request that is not signed is for the service that takes it.
	name := x.who.Service
	if name == "" {
		name = x.service.Signing[0]
	}
	served, ok := p.names[name]
	switch {
	case !ok:
		x.op = nil
		return fmt.Errorf("%w: the service %s is not served here, want one of %s", errUnknownOperation,
			name, strings.Join(slices.Sorted(maps.Keys(p.names)), ", "))
	case x.op == nil || !slices.Contains(x.service.Signing, name):
		x.op = nil
		return fmt.Errorf("%w: %s %.200s is none that is served here; of %s there are %s", errUnknownOperation,
			x.r.Method, x.r.URL.EscapedPath(), name, strings.Join(served, ", "))
	case x.op.Absent != "":
		return fmt.Errorf("%w: %s is not served here: %s", errUnknownOperation, x.op.Name, x.op.Absent)
	}
	x.Query = x.r.URL.Query()
	for name, values := range x.Query {
		if len(values) > 1 { // the signature is the same whichever comes first
			return &Error{Code: invalidRequest, Status: http.StatusBadRequest,
				Message: fmt.Sprintf("%.60q is given twice in the query", name)}
		}
	}
	if x.op.Read != nil {
		x.Input, err = x.op.Read(&x.Request)
	}
	return err
}

func (p *restJSON) fail(x *exchange, e *Error) {
	restjson.SetError(x.w.Header(), e.Code)
	if e.RetryAfter > 0 {
		x.w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	p.write(x, e.Status, e)
}

func (p *restJSON) answer(x *exchange, out any) {
	a, ok := out.(*Answer)
	if !ok {
		p.write(x, http.StatusOK, out)
		return
	}
	for name, value := range a.Header {
		x.w.Header().Set(name, value)
	}
	p.write(x, a.Status, a.Body)
}

// write sends out as JSON; nil is an empty body. Who reads it slowly has no place
// meanwhile, and no memory of bodies.
func (p *restJSON) write(x *exchange, status int, out any) {
	body, err := restjson.Encode(out)
	if err != nil {
		x.h.log.Error("an answer cannot be written as JSON", "err", err)
		status = http.StatusInternalServerError
	}
	x.done()
	x.status = status
	restjson.Write(x.w, status, body)
}
