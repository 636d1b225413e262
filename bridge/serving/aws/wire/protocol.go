package wire

import "net/http"

// A Protocol is how a service's requests name their operations, and how they and
// the answers are written: RESTJSON, JSON or RESTXML. SQS's query will stand beside
// them, a type here and a protocol in a file of its own.
type Protocol interface{ isProtocol() }

// RESTJSON is the protocol of services whose operations are named by method and
// path, and whose bodies are JSON.
type RESTJSON struct{}

// JSON is the protocol of services whose operations are named by the header
// X-Amz-Target; the path says nothing.
type JSON struct {
	Target  string // what the header has before the dot, "Kinesis_20131202"
	Version string // of the protocol, "1.0" or "1.1"
	CBOR    bool   // bodies may be CBOR instead
	// Namespace is put before the names of errors; version 1.0 has one,
	// "com.amazonaws.sqs#".
	Namespace string
}

func (RESTJSON) isProtocol() {}
func (JSON) isProtocol()     {}

// A protocol does the stages of the pipeline that differ, for all services that
// have it.
type protocol interface {
	// takes says, by its header alone, whether a request is of the protocol.
	takes(r *http.Request) bool
	// greet sets what every answer has. answered says that this was all: there
	// is no operation to look for.
	greet(x *exchange) (answered bool, err error)
	// find sets the exchange's service, and its operation where there is one. An
	// error is told to anybody, before it is asked who sends the request.
	find(x *exchange) error
	// scope returns an error if the signature is not for the service, where AWS
	// says so before it reads the body.
	scope(x *exchange) error
	// read reads what the operation takes out of the request. Without an
	// operation it returns an error.
	read(x *exchange) error
	// answer writes what the operation returned.
	answer(x *exchange, out any)
	// fail writes an error.
	fail(x *exchange, e *Error)
}
