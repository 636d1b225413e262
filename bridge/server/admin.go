package server

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// maxAdminBody bounds requests on the admin socket.
const maxAdminBody = 1 << 20

// Handler returns the administration API, JSON over HTTP, that the command
// line speaks through a Unix socket which only its owner may open. It also
// works before Run, for what only the stores are needed for.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, mostBody int64, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, mostBody)
			a := &answer{ResponseWriter: w}
			if err := h(a, r); err != nil {
				s.writeError(a, r, err)
			}
		})
	}
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/info":                                     s.getInfo,
		"POST /v1/reload":                                  s.postReload,
		"GET /v1/clock":                                    s.getClock,
		"POST /v1/clock/accept":                            s.acceptClock,
		"GET /v1/refused":                                  s.listRefused,
		"GET /v1/streams":                                  s.listStreams,
		"POST /v1/streams":                                 s.postStream,
		"GET /v1/streams/records":                          s.tailStream,
		"GET /v1/delivery-streams":                         s.listDeliveries,
		"GET /v1/connectors":                               s.listConnectors,
		"GET /v1/rules":                                    s.listRules,
		"GET /v1/rules/{name}/recent":                      s.recentMessages,
		"GET /v1/rules/{name}/why":                         s.why,
		"POST /v1/rules/{name}/why":                        s.tryRule,
		"POST /v1/replays":                                 s.postReplay,
		"DELETE /v1/replays/{id}":                          s.deleteReplay,
		"GET /v1/things":                                   s.listThings,
		"POST /v1/things":                                  s.postThing,
		"DELETE /v1/things/{name}":                         s.deleteThing,
		"GET /v1/certificates":                             s.listCertificates,
		"POST /v1/certificates/{id}":                       s.postCertificate,
		"POST /v1/certificates":                            s.createCertificate,
		"PUT /v1/certificates":                             s.registerCertificate,
		"GET /v1/certificates/{id}":                        s.getCertificate,
		"DELETE /v1/certificates/{id}":                     s.deleteCertificate,
		"GET /v1/registration-code":                        s.getRegistrationCode,
		"GET /v1/cas":                                      s.listCAs,
		"POST /v1/cas":                                     s.postCA,
		"GET /v1/cas/{id}":                                 s.getCA,
		"POST /v1/cas/{id}":                                s.changeCA,
		"DELETE /v1/cas/{id}":                              s.deleteCA,
		"GET /v1/effective-policies":                       s.effectivePolicies,
		"POST /v1/policy-tests":                            s.testPolicies,
		"GET /v1/who-can":                                  s.whoCan,
		"DELETE /v1/policies/{name}":                       s.deletePolicy,
		"GET /v1/policies/{name}/versions":                 s.listPolicyVersions,
		"DELETE /v1/policies/{name}/versions/{version}":    s.deletePolicyVersion,
		"POST /v1/policies/{name}/default":                 s.postPolicyDefault,
		"GET /v1/policies":                                 s.listPolicies,
		"GET /v1/policies/{name}":                          s.getPolicy,
		"PUT /v1/policies/{name}":                          s.putPolicy,
		"POST /v1/policies/{name}/targets":                 s.attachPolicy,
		"DELETE /v1/policies/{name}/targets/{certificate}": s.detachPolicy,
	} {
		handle(pattern, maxAdminBody, h)
	}
	handle("PUT /v1/objects", maxObject, s.putObject)
	handle("POST /v1/crls", registry.MaxCRL, s.postCRL)
	mux.Handle("GET /metrics", s.metricsHandler())
	mux.Handle("GET /v1/watch", &s.onlookers)
	return mux
}

// publicHandler serves what the admin listener shows: nothing that changes
// anything or tells of data, and to no page that had its own name resolve to
// this machine.
func (s *Server) publicHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metricsHandler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "alive\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.store.Ready() {
			why := "it does not run"
			if err := s.store.Err(); err != nil {
				why = err.Error()
			}
			http.Error(w, "the log takes no data: "+why, http.StatusServiceUnavailable)
			return
		}
		if missing := s.declared.Missing(); len(missing) > 0 {
			http.Error(w, "declarations are wrong, and there are none of before; mend or remove: "+strings.Join(missing, ", "), http.StatusServiceUnavailable)
			return
		}
		if s.broker != nil {
			if err := s.broker.Ready(); err != nil {
				http.Error(w, "no connection to the broker: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	return listen.OnlyKnownHosts(s.cfg.MQTT.ServerNames, mux)
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func readJSON(r *http.Request, v any) error {
	if err := decodeStrict(r.Body, v); err != nil {
		return badRequest{err}
	}
	return nil
}

// decodeStrict reads one JSON value and nothing else, of members known to v.
func decodeStrict(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("want one JSON value and no more")
	}
	return nil
}

// badRequest marks errors of the caller.
type badRequest struct{ error }

func (b badRequest) Unwrap() error { return b.error }

func (s *Server) writeError(w *answer, r *http.Request, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		code = http.StatusRequestEntityTooLarge
	case errors.As(err, new(badRequest)), errors.Is(err, registry.ErrInvalid), errors.Is(err, authz.ErrMalformed):
		code = http.StatusBadRequest
	case errors.Is(err, registry.ErrNotFound), errors.Is(err, streams.ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, registry.ErrExists), errors.Is(err, registry.ErrConflict), errors.Is(err, streams.ErrExists):
		code = http.StatusConflict
	default:
		s.log.Error("admin request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if w.begun {
		w.broke(err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()})
}

// Info describes the bridge.
type Info struct {
	Version string `json:"version"`
	Data    string `json:"data"`
	MQTT    string `json:"mqtt"`  // address of the listener; "" if it does not listen
	HTTPS   string `json:"https"` // likewise
	Admin   string `json:"admin"` // likewise
}

func (s *Server) getInfo(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, Info{s.version, s.cfg.DataDir, address(s.mqtt), s.httpsAddr(), address(s.admin)})
}

func (s *Server) postReload(w http.ResponseWriter, _ *http.Request) error {
	n, err := s.Reload()
	if err != nil {
		return badRequest{err}
	}
	return writeJSON(w, map[string]int{"declarations": n})
}

// RefusedInfo is a file of bridge.d that is wrong as it is now. What it
// declared before, if anything, stays in force.
type RefusedInfo struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

func (s *Server) listRefused(w http.ResponseWriter, _ *http.Request) error {
	all, refused := []RefusedInfo{}, s.declared.Refused()
	for _, path := range slices.Sorted(maps.Keys(refused)) {
		all = append(all, RefusedInfo{path, refused[path].Error()})
	}
	return writeJSON(w, all)
}

func (s *Server) postStream(_ http.ResponseWriter, r *http.Request) error {
	var in StreamInfo
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return s.createStream(in.Name, in.Shards, in.Retention)
}

// DeliveryInfo describes one delivery stream.
type DeliveryInfo struct {
	Name    string `json:"name"`
	Waiting uint64 `json:"waiting"` // records put and not yet in an object
	Objects int64  `json:"objects"` // written since the start, as the two below
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
	Failed  int64  `json:"failed"` // records that could not be taken apart
	// Kept are members of the configuration that have no effect here.
	Kept map[string]json.RawMessage `json:"kept,omitempty"`
}

func (s *Server) listDeliveries(w http.ResponseWriter, _ *http.Request) error {
	all := []DeliveryInfo{}
	for name, st := range s.firehose.Stats() {
		waiting, err := s.firehose.Waiting(name)
		if err != nil {
			return err
		}
		all = append(all, DeliveryInfo{name, waiting, st.Objects, st.Records, st.Bytes, st.Failed, s.firehose.Kept(name)})
	}
	return writeJSON(w, all)
}

// RuleInfo describes one rule.
type RuleInfo struct {
	Name     string `json:"name"`
	SQL      string `json:"sql"`
	Disabled bool   `json:"disabled"`
	File     string `json:"file,omitempty"`    // that declares it; "" if it was made through the API
	Trouble  string `json:"trouble,omitempty"` // its file is wrong now, or it does not compile any more
	rules.Stats
	Durable rules.Latency `json:"durable"` // from messages' arrivals until what the rule made was in the log
}

func (s *Server) listRules(w http.ResponseWriter, _ *http.Request) error {
	all, counted := []RuleInfo{}, map[string]rules.Metrics{}
	for _, m := range s.rules.Metrics() {
		counted[m.Rule] = m
	}
	for _, r := range s.topicRules.Rules() {
		info := RuleInfo{Name: r.Name, SQL: r.Payload.SQL, Disabled: r.Disabled, File: r.File,
			Stats: counted[r.Name].Stats, Durable: counted[r.Name].Durable}
		if err := s.topicRules.Trouble(r.Name); err != nil {
			info.Trouble = err.Error()
		}
		all = append(all, info)
	}
	return writeJSON(w, all)
}

// createStream makes a user's stream; one that exists gets the shards and the
// retention.
func (s *Server) createStream(name string, shards int, retention time.Duration) error {
	n := int32(min(max(shards, 0), streams.MaxShards+1))
	return s.declareStream(kinesis.Declaration{StreamName: name, ShardCount: &n, Retention: &retention})
}

// declareStream tells a mistake of the caller from a failure.
func (s *Server) declareStream(d kinesis.Declaration) error {
	err := s.kinesis.Declare(d)
	if e := new(kinesis.Error); errors.As(err, &e) {
		return badRequest{errors.New(e.Message)}
	}
	return err
}

func (s *Server) listConnectors(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, s.connectors.List())
}
