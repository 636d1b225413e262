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
	Time         Service = "time"
	Provisioning Service = "provisioning"
	Events       Service = "event"

	Jobs     Service = "jobs"
	Streams  Service = "file stream"
	Defender Service = "device defender"
	Tunnels  Service = "secure tunneling"
)

// Bridges that share a broker tell each other of hops by it (package broker).
const Bridges Service = "bridge group"

// A Way is how a message of a device comes to the bridge. Several are a set.
type Way uint8

// The ways.
const (
	ByPublish Way = 1 << iota // a PUBLISH of a client that is connected, and can be answered
	ByHTTPS                   // a request of the data plane
	ByWill                    // the will of a client, whose connection has ended
	// ByBroker: a broker that the bridge has joined sends it. Who published it
	// the broker's own access rules have judged, and what services of other
	// bridges tell comes this way, too.
	ByBroker
)

// here says whether the bridge has the service.
func (s Service) here() bool {
	switch s {
	case Shadows, BasicIngest, Batches, Time, Provisioning, Events, Bridges:
		return true
	}
	return false
}

// A Reserved topic is one below '$' that belongs to a service.
type Reserved struct {
	Service Service
	// Takes is the set of ways by which the service takes what devices publish
	// there, as a request or as data. 0: the service alone publishes there.
	Takes Way
	// Notifies: devices may subscribe to it.
	Notifies bool
	// Private: what is published there concerns one client and the bridge alone,
	// such as keys and tokens. No other client, log or rule sees it, and no broker
	// is to carry it.
	Private bool
	// Unasked: policy is not asked whether a device may subscribe to it and
	// receive, since it is the answer to what the device was let send, as the
	// reason code of a PUBACK is in MQTT 5.
	Unasked bool
	// Probed: agents ask to subscribe to it, and know a bridge by the refusal. They
	// are at no fault, so the refusal is not logged.
	Probed bool
	// RightOf is the topic whose right to publish is asked for in place of this one's:
	// a request that comes with what is published there, and so needs no policy of its
	// own. "": this one's.
	RightOf string
}

// RequestTo says whether what is published there is for the service s to take.
func (r Reserved) RequestTo(s Service) bool { return r.Service == s && r.Takes != 0 }

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

// IsReserved says whether a topic name or filter is below '$'.
func IsReserved(name string) bool { return name != "" && name[0] == '$' }

// ForSubscribers says whether a message goes to those with a subscription: below
// '$' what a service tells everybody who may hear it. What devices address to the
// bridge itself reaches nobody.
func ForSubscribers(name string) bool {
	r, ok := Lookup(name)
	return !ok || r.Notifies && !r.Private
}

// CheckPublish says whether a device may publish to name in this way, if policy
// lets it: below '$' only what a service here takes so, and that not retained. It
// returns nil or an error that wraps ErrReserved and says why not.
func CheckPublish(name string, way Way, retain bool) error {
	if !IsReserved(name) {
		return nil
	}
	switch r, ok := Lookup(name); {
	case !ok:
		return fmt.Errorf("%w %s: no service takes it", ErrReserved, name)
	case !r.Service.here():
		return fmt.Errorf("%w %s: this bridge has no %s service", ErrReserved, name, r.Service)
	case way == ByBroker && r.Private:
		return fmt.Errorf("%w %s: no broker is to carry what concerns one client and the %s service", ErrReserved, name,
			r.Service)
	case way == ByBroker:
		return nil
	case r.Takes == 0:
		return fmt.Errorf("%w %s: only the %s service publishes there", ErrReserved, name, r.Service)
	case r.Takes&way == 0 && r.Private:
		return fmt.Errorf("%w %s: who asks there has to be connected by MQTT to be answered", ErrReserved, name)
	case r.Takes&way == 0:
		return fmt.Errorf("%w %s: what is there is a request, and no service acts on a will", ErrReserved, name)
	case retain:
		return fmt.Errorf("%w %s: the %s service takes nothing with RETAIN set", ErrReserved, name, r.Service)
	}
	return nil
}

// CheckSubscribe says whether a device may subscribe to filter, if policy lets
// it: below '$' to what may match a topic on which a service here tells something.
// It returns nil or an error that wraps ErrReserved and says why not.
func CheckSubscribe(filter string) error {
	if !IsReserved(filter) {
		return nil
	}
	for _, row := range table {
		if row.Notifies && row.Service.here() && overlap(filter, row.pattern) {
			return nil
		}
	}
	for _, row := range table {
		if !overlap(filter, row.pattern) {
			continue
		}
		if !row.Service.here() {
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
	// notifies is what a service publishes of its own accord; asked are requests, to
	// which it answers on /accepted and /rejected.
	notifies := func(s Service, patterns ...string) { add(Reserved{Service: s, Notifies: true}, patterns...) }
	asked := func(r Reserved, patterns ...string) {
		r.Notifies = true
		add(r, patterns...)
		r.Takes = 0
		for _, p := range patterns {
			add(r, p+"/accepted", p+"/rejected")
		}
	}

	const anyWay = ByPublish | ByHTTPS | ByWill
	for _, shadow := range []string{"$aws/things/+/shadow", "$aws/things/+/shadow/name/+"} {
		asked(Reserved{Service: Shadows, Takes: anyWay}, shadow+"/get", shadow+"/update", shadow+"/delete")
		notifies(Shadows, shadow+"/update/delta", shadow+"/update/documents")
	}
	add(Reserved{Service: BasicIngest, Takes: anyWay}, rulesPrefix+"+", rulesPrefix+"+/#")
	// Agents rely on the two rows as they are: the first is never published, the second
	// always. See meetBridge in agent/uplink.
	add(Reserved{Service: Batches, Takes: ByPublish | ByHTTPS, Probed: true}, "$tidemill/batch")
	add(Reserved{Service: Batches, Notifies: true, Private: true, Unasked: true}, "$tidemill/batch/refused")
	// Likewise: whoever is granted the answer takes batches of version 2.
	add(Reserved{Service: Time, Takes: ByPublish, Private: true, RightOf: "$tidemill/batch"}, "$tidemill/time")
	add(Reserved{Service: Time, Notifies: true, Private: true, Unasked: true}, "$tidemill/time/accepted")
	for _, format := range []string{"/json", "/cbor"} {
		asked(Reserved{Service: Provisioning, Takes: ByPublish, Private: true},
			"$aws/certificates/create"+format, "$aws/certificates/create-from-csr"+format,
			"$aws/provisioning-templates/+/provision"+format, "$tidemill/certificates/+/retire"+format)
		asked(Reserved{Service: Defender, Takes: anyWay}, "$aws/things/+/defender/metrics"+format)
		const stream = "$aws/things/+/streams/+"
		add(Reserved{Service: Streams, Takes: anyWay, Notifies: true}, stream+"/describe"+format, stream+"/get"+format)
		notifies(Streams, stream+"/description"+format, stream+"/data"+format, stream+"/rejected"+format)
	}
	add(Reserved{Service: Bridges, Private: true}, "$tidemill/hops/+")
	notifies(Events, "$aws/events/+/#", "$tidemill/events/+/#")
	const jobs = "$aws/things/+/jobs"
	asked(Reserved{Service: Jobs, Takes: anyWay}, jobs+"/get", jobs+"/start-next", jobs+"/+/get", jobs+"/+/update")
	notifies(Jobs, jobs+"/notify", jobs+"/notify-next")
	notifies(Tunnels, "$aws/things/+/tunnels/notify")
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
