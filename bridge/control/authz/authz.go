// Package authz decides what a connection may do, by AWS IoT policy documents.
//
// Parse reads one document strictly. Compile takes the documents attached to a
// connection together with its Context (client id, thing, certificate,
// address), puts the variables in, settles every condition that cannot change
// while the connection lives, and returns an Evaluator. Its Decide runs for
// each publish, subscription and delivery, and allocates nothing; Explain says
// which statement decided and why the others did not.
//
// The rules are those of AWS: nothing is allowed unless a statement allows it,
// and a statement that denies wins over any that allows. MQTT's + and # are
// plain characters in a policy; its wildcards are * (any run of characters,
// also across /) and ? (one character).
//
// Where AWS is silent or contradicts itself, DECISIONS.md says what this
// package does and why; a test compares the table with the code. The general
// line: a doubt is settled towards refusal.
//
// Caveats:
//   - An Evaluator is a picture of the policies and the registry at the time of
//     Compile. Compile again when either changes.
//   - The ARN of a resource is matched part by part, and a wildcard does not
//     cross a colon but in the last part. IAM lets an asterisk at the end of a
//     part run on; here a client could then write the missing parts of someone
//     else's ARN into its own topic.
package authz

import (
	"strings"
	"time"
)

// A Decision is the outcome for one action on one resource. The zero value
// refuses.
type Decision uint8

// The three outcomes, as TestAuthorization names them.
const (
	ImplicitDeny Decision = iota // no statement matched
	ExplicitDeny                 // a statement with Effect Deny matched
	Allowed                      // a statement allows it and none denies it
)

// String returns AWS's name: ALLOWED, EXPLICIT_DENY or IMPLICIT_DENY.
func (d Decision) String() string {
	switch d {
	case Allowed:
		return "ALLOWED"
	case ExplicitDeny:
		return "EXPLICIT_DENY"
	}
	return "IMPLICIT_DENY"
}

// The actions of a device connection, for Decide.
const (
	Connect       = "iot:Connect"       // resource: the client id
	Publish       = "iot:Publish"       // resource: the topic
	RetainPublish = "iot:RetainPublish" // asked beside Publish when RETAIN is set
	Subscribe     = "iot:Subscribe"     // resource: the topic filter
	Receive       = "iot:Receive"       // resource: the topic

	GetThingShadow          = "iot:GetThingShadow" // resource: thing, or thing/shadow
	UpdateThingShadow       = "iot:UpdateThingShadow"
	DeleteThingShadow       = "iot:DeleteThingShadow"
	ListNamedShadows        = "iot:ListNamedShadowsForThing" // resource: *
	GetRetainedMessage      = "iot:GetRetainedMessage"       // resource: the topic
	ListRetainedMessages    = "iot:ListRetainedMessages"     // resource: *
	DescribeJobExecution    = "iot:DescribeJobExecution"     // resource: thing
	GetPendingJobExecutions = "iot:GetPendingJobExecutions"
	StartNextPendingJob     = "iot:StartNextPendingJobExecution"
	UpdateJobExecution      = "iot:UpdateJobExecution"
	DeleteConnection        = "iot:DeleteConnection"          // resource: the client id
	AssumeRole              = "iot:AssumeRoleWithCertificate" // resource: the role alias
)

// A kind is the type of resource an action works on.
type kind uint8

const (
	kindClient kind = iota
	kindTopic
	kindFilter
	kindThing
	kindRoleAlias
	kindAny // the resource is the text *
	kinds   // how many there are
)

// kindHead is what stands before the resource in the last part of its ARN.
var kindHead = [kinds]string{"client/", "topic/", "topicfilter/", "thing/", "rolealias/", ""}

// known lists the actions that Decide judges. Order is free: the index is the
// bit in a statement's mask.
var known = [...]struct {
	name string // without the service
	kind kind
	job  bool // newer guides call it iotjobsdata: instead of iot:
}{
	{"Connect", kindClient, false},
	{"Publish", kindTopic, false},
	{"RetainPublish", kindTopic, false},
	{"Subscribe", kindFilter, false},
	{"Receive", kindTopic, false},
	{"GetThingShadow", kindThing, false},
	{"UpdateThingShadow", kindThing, false},
	{"DeleteThingShadow", kindThing, false},
	{"ListNamedShadowsForThing", kindAny, false},
	{"GetRetainedMessage", kindTopic, false},
	{"ListRetainedMessages", kindAny, false},
	{"DescribeJobExecution", kindThing, true},
	{"GetPendingJobExecutions", kindThing, true},
	{"StartNextPendingJobExecution", kindThing, true},
	{"UpdateJobExecution", kindThing, true},
	{"DeleteConnection", kindClient, false},
	{"AssumeRoleWithCertificate", kindRoleAlias, false},
}

// bitConnect is the index of Connect in known: the one action with conditions
// on the CONNECT packet.
const bitConnect = 0

// actionBit returns the index in known of an action as Decide gets it, or -1.
// The usual actions are compared exactly; any other spelling takes a loop.
func actionBit(action string) int {
	switch action {
	case Connect:
		return bitConnect
	case Publish:
		return 1
	case RetainPublish:
		return 2
	case Subscribe:
		return 3
	case Receive:
		return 4
	}
	service, name, ok := strings.Cut(action, ":")
	if !ok {
		return -1
	}
	iot, jobs := strings.EqualFold(service, "iot"), strings.EqualFold(service, "iotjobsdata")
	for i := range known {
		if strings.EqualFold(known[i].name, name) && (iot || jobs && known[i].job) {
			return i
		}
	}
	return -1
}

// verbs begin the names of AWS IoT's operations beyond known: a document may
// name iot:CreateJob, which then has no effect here, but iot:Pubish is a slip
// of the pen that would leave a Deny without effect.
var verbs = []string{
	"accept", "add", "associate", "assume", "attach", "cancel", "clear", "close", "confirm", "create", "delete",
	"deprecate", "describe", "detach", "disable", "disassociate", "enable", "get", "list", "open", "put", "register",
	"reject", "remove", "replace", "rotate", "search", "send", "set", "start", "stop", "tag", "test", "transfer",
	"untag", "update", "validate",
}

// plausible says whether name, in lower case and without wildcards, is an
// action of AWS IoT as far as we can tell.
func plausible(name string) bool {
	for i := range known {
		if strings.EqualFold(known[i].name, name) {
			return true
		}
	}
	for _, v := range verbs {
		if len(name) > len(v) && strings.HasPrefix(name, v) {
			return true
		}
	}
	return false
}

// A Context is what is known of a connection when its policies are compiled.
type Context struct {
	Account, Region string // parts of every ARN

	// ClientID is the CONNECT's client id; empty over HTTPS. To judge a
	// Connect, it must be the client id that is asked for.
	ClientID string

	// Thing is a registered thing. It counts as the connecting one, and its
	// variables resolve, only if its Name equals ClientID; all but IsAttached
	// also need Attached.
	Thing *Thing

	Certificate *Certificate // nil: the client showed none
	SourceIP    string       // without the port; empty: unknown
	Insecure    bool         // the connection has no TLS

	Persistent bool   // the CONNECT asks for a persistent session
	Will       string // topic of the CONNECT's Will; empty: none

	Keys map[string][]string // further condition keys, e.g. iot:DomainName
	Now  func() time.Time    // for conditions on the time; nil: time.Now
}

// A Thing is what policies may ask of a registered thing.
type Thing struct {
	Name       string
	Type       string // empty: none
	Attributes map[string]string
	Attached   bool // the connection's certificate is attached to it
}
