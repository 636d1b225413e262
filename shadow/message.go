package shadow

import (
	"time"
	"unicode/utf8"
)

// A Section is what an update says of desired or reported.
type Section struct {
	Set   bool           // the section is in the request
	Patch map[string]any // nil removes the section
}

// An Update is the request on the update topic.
type Update struct {
	Clear             bool // state is null
	Desired, Reported Section
	Version           *uint64 // that the stored document must have; nil: no check
	ClientToken       string
}

// ParseUpdate reads a request. The error is always an *Error, the first that
// applies in the order encoding, JSON, token, state, types, unknown members,
// version, depth, null in arrays. With an error the Update is not nil and has
// the token to answer with, if that was good.
func ParseUpdate(payload []byte, l Limits) (*Update, error) {
	u := new(Update)
	if !utf8.Valid(payload) {
		return u, ErrEncoding
	}
	m, err := ParseObject(payload)
	if err != nil {
		return u, ErrInvalidJSON
	}
	if u.ClientToken, err = tokenOf(m); err != nil {
		return u, err
	}
	state, ok := m["state"]
	if !ok {
		return u, ErrNoState
	}
	if state == nil {
		u.Clear = true
	} else if err := u.setState(state); err != nil {
		return u, err
	}
	if v := m["version"]; v != nil {
		n, ok := uintOf(v)
		if !ok {
			return u, ErrVersion
		}
		u.Version = &n
	}
	return u, u.Check(l)
}

func (u *Update) setState(v any) error {
	state, ok := v.(map[string]any)
	if !ok {
		return ErrStateType
	}
	for _, p := range []struct {
		section *Section
		name    string
		err     error
	}{{&u.Desired, "desired", ErrDesiredType}, {&u.Reported, "reported", ErrReportedType}} {
		v, ok := state[p.name]
		if !ok {
			continue
		}
		p.section.Set = true
		if p.section.Patch, ok = v.(map[string]any); !ok && v != nil {
			return p.err
		}
	}
	for _, k := range names(state) {
		if k != "desired" && k != "reported" {
			return errNode(k)
		}
	}
	return nil
}

// Check finds what ParseUpdate refuses in the sections: too many levels and
// null in arrays.
func (u *Update) Check(l Limits) error {
	for _, s := range []map[string]any{u.Desired.Patch, u.Reported.Patch} {
		if depth(s) > l.maxDepth() {
			return errDepth(l.maxDepth())
		}
	}
	if nullInArray(u.Desired.Patch, false) || nullInArray(u.Reported.Patch, false) {
		return ErrNullInArray
	}
	return nil
}

// Append writes the request after dst.
func (u *Update) Append(dst []byte) []byte {
	m := map[string]any{"state": u.state()}
	if u.Version != nil {
		m["version"] = numberOf(*u.Version)
	}
	return appendMessage(dst, m, u.ClientToken)
}

func (u *Update) state() any {
	if u.Clear {
		return nil
	}
	m := make(map[string]any, 2)
	u.Desired.put(m, "desired")
	u.Reported.put(m, "reported")
	return m
}

func (s Section) put(m map[string]any, name string) {
	if s.Set && s.Patch == nil {
		m[name] = nil
	} else if s.Set {
		m[name] = s.Patch
	}
}

// ParseToken reads the token of a get or delete request. A payload that is
// not a JSON object counts as empty; the error is nil or ErrToken.
func ParseToken(payload []byte) (string, error) {
	if len(payload) == 0 {
		return "", nil
	}
	m, err := ParseObject(payload)
	if err != nil {
		return "", nil
	}
	return tokenOf(m)
}

func tokenOf(m map[string]any) (string, error) {
	v := m["clientToken"]
	if v == nil {
		return "", nil
	}
	s, ok := v.(string)
	if !ok || len(s) > maxToken {
		return "", ErrToken
	}
	return s, nil
}

// AppendTokenRequest writes the body of a get or delete request.
func AppendTokenRequest(dst []byte, token string) []byte {
	return appendMessage(dst, map[string]any{}, token)
}

func appendMessage(dst []byte, m map[string]any, token string) []byte {
	if token != "" {
		m["clientToken"] = token
	}
	return Append(dst, m)
}

// stamped starts a message of the service.
func stamped(now time.Time) map[string]any {
	return map[string]any{"timestamp": numberOf(uint64(max(0, now.Unix())))}
}

// AppendUpdateAccepted writes the answer to u, which made d.
func AppendUpdateAccepted(dst []byte, u *Update, d *Document, now time.Time) []byte {
	stamp := Stamp(now.Unix())
	m := stamped(now)
	m["version"] = numberOf(d.Version)
	m["state"] = u.state()
	m["metadata"] = stamps(u.state(), stamp)
	return appendMessage(dst, m, u.ClientToken)
}

// AppendDelta writes the message on the delta topic; it returns dst unchanged
// when nothing differs.
func AppendDelta(dst []byte, d *Document, token string, now time.Time) []byte {
	state, times := d.Delta()
	if state == nil {
		return dst
	}
	m := stamped(now)
	m["version"] = numberOf(d.Version)
	m["state"] = state
	m["metadata"] = times
	return appendMessage(dst, m, token)
}

// AppendDocuments writes the message on the documents topic; before is nil
// or deleted if there was no shadow.
func AppendDocuments(dst []byte, before, after *Document, token string, now time.Time) []byte {
	m := stamped(now)
	m["previous"] = before.whole()
	m["current"] = after.whole()
	return appendMessage(dst, m, token)
}

func (d *Document) whole() any {
	if !d.Alive() {
		return nil
	}
	state, times := d.sections()
	return map[string]any{"state": state, "metadata": times, "version": numberOf(d.Version)}
}

func (d *Document) sections() (state, times map[string]any) {
	state, times = make(map[string]any, 3), make(map[string]any, 3)
	if d.Desired != nil {
		state["desired"], times["desired"] = d.Desired, d.DesiredTimes
	}
	if d.Reported != nil {
		state["reported"], times["reported"] = d.Reported, d.ReportedTimes
	}
	return state, times
}

// AppendGetAccepted writes the answer to a get.
func AppendGetAccepted(dst []byte, d *Document, token string, now time.Time) []byte {
	state, times := d.sections()
	if s, t := d.Delta(); s != nil {
		state["delta"], times["delta"] = s, t
	}
	m := stamped(now)
	m["version"] = numberOf(d.Version)
	m["state"] = state
	m["metadata"] = times
	return appendMessage(dst, m, token)
}

// AppendDeleteAccepted writes the answer to a delete of version.
func AppendDeleteAccepted(dst []byte, version uint64, token string, now time.Time) []byte {
	m := stamped(now)
	m["version"] = numberOf(version)
	return appendMessage(dst, m, token)
}

// AppendRejected writes a refusal. The service's 404 has no timestamp.
func AppendRejected(dst []byte, e *Error, token string, now time.Time) []byte {
	m := stamped(now)
	if e.Code == 404 {
		delete(m, "timestamp")
	}
	m["code"] = numberOf(uint64(e.Code))
	m["message"] = e.Message
	return appendMessage(dst, m, token)
}

// An Answer is any message of the service as a client reads it. Members that
// a kind of message does not have are zero.
type Answer struct {
	State       map[string]any // nil when absent, null or no object
	Version     uint64
	Timestamp   int64 // seconds since 1970
	ClientToken string
	Code        int
	Message     string
}

// ParseAnswer reads a message on an accepted, rejected or delta topic.
func ParseAnswer(payload []byte) (*Answer, error) {
	m, err := ParseObject(payload)
	if err != nil {
		return nil, err
	}
	a := &Answer{Timestamp: intOf(m["timestamp"]), Code: int(intOf(m["code"]))}
	a.State, _ = m["state"].(map[string]any)
	a.Version, _ = uintOf(m["version"])
	a.ClientToken, _ = m["clientToken"].(string)
	a.Message, _ = m["message"].(string)
	return a, nil
}
