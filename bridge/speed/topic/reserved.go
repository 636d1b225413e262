package topic

import (
	"errors"
	"fmt"
	"strings"
)

// A Service owns topics below '$'.
type Service string

// The services. Those of the second group are AWS IoT's and not here yet: their
// topics are in the table, so that a service that comes has them, and are refused
// until then.
const (
	Shadows      Service = "device shadow"
	BasicIngest  Service = "basic ingest"
	Batches      Service = "batch"
	Provisioning Service = "provisioning"
	Events       Service = "event"

	Jobs     Service = "jobs"
	Streams  Service = "file stream"
	Defender Service = "device defender"
	Tunnels  Service = "secure tunneling"
)

// Here says whether the bridge has the service.
func (s Service) Here() bool {
	switch s {
	case Shadows, BasicIngest, Batches, Provisioning, Events:
		return true
	}
	return false
}

// A Reserved topic is one below '$' that belongs to a service.
type Reserved struct {
	Service Service
	// Takes: the service takes what devices publish there, as a request or as
	// data. Otherwise the service alone publishes there.
	Takes bool
	// Tells: devices may subscribe to it.
	Tells bool
	// Private: what is published there concerns one client and the bridge alone,
	// since it holds keys and tokens. No other client, log or rule sees it.
	Private bool
	// Unasked: policy is not asked whether a device may subscribe to it and
	// receive, since it is the answer to what the device was let send, as the
	// reason code of a PUBACK is in MQTT 5.
	Unasked bool
	// Probed: agents ask to subscribe to it, and know a bridge by the refusal. They
	// are at no fault, so the refusal is not logged.
	Probed bool
}

// ErrReserved is wrapped by the errors of CheckPublish and CheckSubscribe.
var ErrReserved = errors.New("reserved topic")

// Lookup returns the row of the table for a topic name; ok is false for a name
// that has none, such as one that does not begin with '$'. A level that stands
// for a name, of a thing or a rule, is not empty. It does not allocate.
func Lookup(name string) (r Reserved, ok bool) {
	if name == "" || name[0] != '$' {
		return r, false
	}
	return find(&reserved.root, name, true)
}

// CheckPublish says whether a device may publish to name, if policy lets it:
// below '$' only what a service here takes, and that not retained. It returns nil
// or an error that wraps ErrReserved and says why not.
func CheckPublish(name string, retain bool) error {
	if name == "" || name[0] != '$' {
		return nil
	}
	switch r, ok := Lookup(name); {
	case !ok:
		return fmt.Errorf("%w %s: no service takes it", ErrReserved, name)
	case !r.Service.Here():
		return fmt.Errorf("%w %s: this bridge has no %s service", ErrReserved, name, r.Service)
	case !r.Takes:
		return fmt.Errorf("%w %s: only the %s service publishes there", ErrReserved, name, r.Service)
	case retain:
		return fmt.Errorf("%w %s: the %s service takes nothing with RETAIN set", ErrReserved, name, r.Service)
	}
	return nil
}

// CheckSubscribe says whether a device may subscribe to filter, if policy lets
// it: below '$' to what may match a topic on which a service here tells something.
// It returns nil or an error that wraps ErrReserved and says why not.
func CheckSubscribe(filter string) error {
	if filter == "" || filter[0] != '$' {
		return nil
	}
	for _, row := range table {
		if row.Tells && row.Service.Here() && overlap(filter, row.pattern) {
			return nil
		}
	}
	for _, row := range table {
		if !overlap(filter, row.pattern) {
			continue
		}
		if !row.Service.Here() {
			return fmt.Errorf("%w %s: this bridge has no %s service", ErrReserved, filter, row.Service)
		}
		return fmt.Errorf("%w %s: the %s service only takes", ErrReserved, filter, row.Service)
	}
	return fmt.Errorf("%w %s: no service tells anything there", ErrReserved, filter)
}

// A row is a Reserved and the filter of its topics.
type row struct {
	pattern string
	Reserved
}

// table has every reserved topic (developer guide, "Reserved topics"; what begins
// with $tidemill is ours).
var table = rows()

// reserved is the table as a tree. It is never changed, so no lock is taken.
var reserved = func() *Tree[Reserved] {
	t := new(Tree[Reserved])
	for _, row := range table {
		t.Add(row.pattern, row.Reserved)
	}
	return t
}()

func rows() (all []row) {
	add := func(r Reserved, patterns ...string) {
		for _, p := range patterns {
			all = append(all, row{p, r})
		}
	}
	// told is what a service publishes of its own accord; asked are requests, to
	// which it answers on /accepted and /rejected.
	told := func(s Service, patterns ...string) { add(Reserved{Service: s, Tells: true}, patterns...) }
	asked := func(r Reserved, patterns ...string) {
		r.Takes, r.Tells = true, true
		add(r, patterns...)
		r.Takes = false
		for _, p := range patterns {
			add(r, p+"/accepted", p+"/rejected")
		}
	}

	for _, shadow := range []string{"$aws/things/+/shadow", "$aws/things/+/shadow/name/+"} {
		asked(Reserved{Service: Shadows}, shadow+"/get", shadow+"/update", shadow+"/delete")
		told(Shadows, shadow+"/update/delta", shadow+"/update/documents")
	}
	add(Reserved{Service: BasicIngest, Takes: true}, "$aws/rules/+", "$aws/rules/+/#")
	// Agents rely on the two rows as they are: the first is never told, the second
	// always. See meetBridge in agent/uplink.
	add(Reserved{Service: Batches, Takes: true, Probed: true}, "$tidemill/batch")
	add(Reserved{Service: Batches, Tells: true, Private: true, Unasked: true}, "$tidemill/batch/refused")
	for _, format := range []string{"/json", "/cbor"} {
		asked(Reserved{Service: Provisioning, Private: true}, "$aws/certificates/create"+format, "$aws/certificates/create-from-csr"+format,
			"$aws/provisioning-templates/+/provision"+format, "$tidemill/certificates/+/retire"+format)
		asked(Reserved{Service: Defender}, "$aws/things/+/defender/metrics"+format)
		const stream = "$aws/things/+/streams/+"
		add(Reserved{Service: Streams, Takes: true, Tells: true}, stream+"/describe"+format, stream+"/get"+format)
		told(Streams, stream+"/description"+format, stream+"/data"+format, stream+"/rejected"+format)
	}
	told(Events, "$aws/events/+/#")
	const jobs = "$aws/things/+/jobs"
	asked(Reserved{Service: Jobs}, jobs+"/get", jobs+"/start-next", jobs+"/+/get", jobs+"/+/update")
	told(Jobs, jobs+"/notify", jobs+"/notify-next")
	told(Tunnels, "$aws/things/+/tunnels/notify")
	return all
}

// find returns the value of the most literal filter below n that matches name;
// more is false when the name ended at n.
func find(n *node[Reserved], name string, more bool) (r Reserved, ok bool) {
	if !more {
		if len(n.here) > 0 {
			return n.here[0], true
		}
		return r, false
	}
	level, rest, more := strings.Cut(name, "/")
	if kid := n.kids[level]; kid != nil {
		if r, ok = find(kid, rest, more); ok {
			return r, ok
		}
	}
	if n.plus != nil && level != "" {
		if r, ok = find(n.plus, rest, more); ok {
			return r, ok
		}
	}
	if len(n.rest) > 0 {
		return n.rest[0], true
	}
	return r, false
}

// overlap says whether there is a name that both filters match, in MQTT's
// dialect.
func overlap(a, b string) bool {
	for {
		levelA, restA, moreA := strings.Cut(a, "/")
		levelB, restB, moreB := strings.Cut(b, "/")
		switch {
		case levelA == "#" || levelB == "#":
			return true
		case levelA != levelB && levelA != "+" && levelB != "+":
			return false
		case !moreA || !moreB:
			return moreA == moreB || moreA && restA == "#" || moreB && restB == "#"
		}
		a, b = restA, restB
	}
}
