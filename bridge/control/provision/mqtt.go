package provision

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// Topics of requests; behind each is the format, json or cbor, and behind that
// the answer's /accepted or /rejected (developer guide, "Device provisioning
// MQTT API"). The last is ours: the name of the certificate is between the two.
const (
	createTopic    = "$aws/certificates/create"
	requestTopic   = "$aws/certificates/create-from-csr"
	provisionTopic = "$aws/provisioning-templates/" // {template}/provision
	retireTopic    = "$tidemill/certificates/"      // {certificateId}/retire
)

// A Request is a message of a client on a topic that is private in topic's table
// of reserved topics.
type Request struct {
	Topic     string
	Payload   []byte
	ClientID  string
	Principal string // id of the client's certificate; "": it has none
	Who       string // the client for the audit log, if it has none
	Remote    string // the client's address, without a port
}

// actions are those of the audit log, by kind of call: AWS's names, but for ours.
var actions = map[string]string{"create": "CreateKeysAndCertificate", "create-from-csr": "CreateCertificateFromCsr",
	"provision": "RegisterThing", "retire": "RetireCertificate"}

// Record is what the audit log says of the request.
func (q *Request) Record() audit.Record {
	c, _ := parseTopic(q.Topic)
	r := audit.Record{Source: audit.SourceProvisioning, Action: actions[c.kind], Who: cmp.Or(q.Principal, q.Who),
		From: q.Remote, Client: q.ClientID}
	switch c.kind {
	case "provision":
		r.Target = "templates/" + c.name
	case "retire":
		r.Target = "certificates/" + c.name
	}
	return r
}

// A call is a topic in its parts.
type call struct {
	kind   string // create, create-from-csr, provision, retire
	name   string // of the template, or of the certificate to be retired
	format string
}

// parseTopic returns ok for the topics of requests.
func parseTopic(topic string) (c call, ok bool) {
	rest, c, ok := topic, call{}, true
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return c, false
	}
	if rest, c.format = rest[:i], rest[i+1:]; c.format != "json" && c.format != "cbor" {
		return c, false
	}
	switch rest {
	case createTopic:
		c.kind = "create"
		return c, true
	case requestTopic:
		c.kind = "create-from-csr"
		return c, true
	}
	for prefix, kind := range map[string]string{provisionTopic: "provision", retireTopic: "retire"} {
		if name, found := strings.CutPrefix(rest, prefix); found {
			c.kind = kind
			c.name, ok = strings.CutSuffix(name, "/"+kind)
			return c, ok && c.name != "" && !strings.Contains(c.name, "/")
		}
	}
	return c, false
}

// A refusal is the answer on /rejected.
type refusal struct {
	Status  int    `json:"statusCode"`
	Code    string `json:"errorCode"`
	Message string `json:"errorMessage"`
}

// Handle answers a request; the topic must be one. What fails is in the answer;
// what fails by the bridge's fault is in the log too. It may take as long as
// the hook, 5 s, and writes to disk.
func (s *Service) Handle(ctx context.Context, q *Request) (topic string, payload []byte) {
	c, _ := parseTopic(q.Topic)
	began := time.Now()
	out, err := s.handle(audit.With(ctx, &audit.Change{Record: q.Record()}), c, q)
	s.count(c.kind, began, err)
	topic = q.Topic + "/accepted"
	if err != nil {
		r := refuse(err)
		switch {
		case r.Status == 500:
			s.log.Error("a provisioning request failed", "topic", q.Topic, "client", q.ClientID, "err", err)
		case !errors.Is(err, errHook): // which a Report says
			s.o.Refused(q, r.Code, err)
		}
		topic, out = q.Topic+"/rejected", r
	}
	if payload, err = encode(c.format, out); err != nil { // a template's numbers are finite, so this is not seen
		s.log.Error("a provisioning answer cannot be written", "topic", q.Topic, "err", err)
		topic = q.Topic + "/rejected"
		payload, _ = encode(c.format, refuse(err))
	}
	return topic, payload
}

// Answer is Handle for a message of a client with that certificate, "" for none.
func (s *Service) Answer(ctx context.Context, m *message.Message, certificate string) *message.Message {
	topic, payload := s.Handle(ctx, &Request{Topic: m.Topic, Payload: m.Payload, ClientID: m.ClientID,
		Principal: certificate, Who: m.Principal, Remote: m.SourceIP})
	return &message.Message{Topic: topic, Payload: payload}
}

func (s *Service) handle(ctx context.Context, c call, q *Request) (any, error) {
	switch c.kind {
	case "create", "create-from-csr":
		if wait := s.creates.Take(q.Principal, time.Now(), 0, 0); wait > 0 {
			return nil, fmt.Errorf("%w: more than %d a second by one claim, try again in %v", errBusy, s.o.CreateRate,
				wait.Round(time.Millisecond))
		}
		s.creates.Take(q.Principal, time.Now(), 1, 0)
		var in struct {
			Request string `json:"certificateSigningRequest"`
		}
		if c.kind == "create-from-csr" {
			if err := decode(c.format, q.Payload, &in); err != nil {
				return nil, err
			}
			if in.Request == "" {
				return nil, fmt.Errorf("%w: no certificateSigningRequest", errFormat)
			}
		}
		made, err := s.CreateCertificate(ctx, q.Principal, []byte(in.Request))
		if err != nil {
			return nil, err
		}
		return struct {
			ID    string `json:"certificateId"`
			PEM   string `json:"certificatePem"`
			Key   string `json:"privateKey,omitempty"`
			Token string `json:"certificateOwnershipToken"`
		}{made.ID, made.PEM, made.Key, made.Token}, nil
	case "provision":
		var in struct {
			Token      string            `json:"certificateOwnershipToken"`
			Parameters map[string]string `json:"parameters"`
		}
		if err := decode(c.format, q.Payload, &in); err != nil {
			return nil, err
		}
		return s.Provision(ctx, &Claim{Template: c.name, Token: in.Token, Parameters: in.Parameters,
			ClientID: q.ClientID, Principal: q.Principal})
	}
	return struct{}{}, s.Retire(ctx, q.Principal, c.name)
}

// strict is how CBOR is read: no key twice, and no deeper than a request is.
var strict, _ = cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 8}.DecMode()

func decode(format string, payload []byte, v any) (err error) {
	if format == "cbor" {
		err = strict.Unmarshal(payload, v)
	} else {
		err = json.Unmarshal(payload, v)
	}
	if err != nil {
		return fmt.Errorf("%w: not the %s that is wanted here: %w", errFormat, strings.ToUpper(format), err)
	}
	return nil
}

func encode(format string, v any) ([]byte, error) {
	if format == "cbor" {
		return cbor.Marshal(v)
	}
	return json.Marshal(v)
}

// refuse says err as AWS does. Its texts name what the device has sent and not
// what else there is.
func refuse(err error) refusal {
	if errors.Is(err, errHook) { // its text names the operator's own machines
		return refusal{503, "ServiceUnavailable", "the pre-provisioning hook cannot be asked, try again later"}
	}
	for _, row := range []struct {
		is     error
		status int
		code   string
	}{
		{errDenied, 403, "AccessDenied"},
		{errToken, 400, "InvalidCertificateOwnershipToken"},
		{ErrTemplate, 400, "InvalidParameters"},
		{ErrResource, 409, "ResourceConflict"},
		{pki.ErrRequest, 400, "InvalidCertificateSigningRequest"},
		{errFormat, 400, "InvalidPayload"},
		{registry.ErrNotFound, 404, "ResourceNotFound"},
		{errBusy, 429, "TooManyRequests"},
		{registry.ErrConflict, 409, "ResourceConflict"},
		{registry.ErrExists, 409, "ResourceConflict"},
		{registry.ErrInvalid, 400, "InvalidParameters"},
		{authz.ErrMalformed, 400, "InvalidParameters"}, // by what a parameter made of a policy
	} {
		if errors.Is(err, row.is) {
			return refusal{row.status, row.code, err.Error()}
		}
	}
	return refusal{500, "InternalFailure", "an unexpected error has occurred"}
}
