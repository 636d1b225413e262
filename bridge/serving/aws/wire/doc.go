// Package wire speaks AWS's wire protocols, so that AWS's command line and SDKs
// work against the bridge. It is one pipeline for all services; what a service
// is, is a table: a Service with its Operations and the names of its errors.
//
// A request goes through these stages, and the first that refuses it answers
// (exchange.run):
//
//	find        which service and operation, by the header alone
//	identify    who asks: the signature's key, or whom Options.Unsigned knows
//	admit       may the caller do that at all? (Authorizer.Admit)
//	body        read within the service's limit; memory is counted by address and caller
//	check       the signature over the body
//	place       one of those that the service has for requests under way
//	read        what the operation takes, out of the body or the path
//	authorize   may the caller do it to this resource? (Authorizer.Authorize), and still
//	            at all, if the body took more than 100 ms?
//	operate     Run, or Stream
//	answer      in the protocol of the request
//
// The bodies of a RESTXML service are streams: the signature over the header comes
// before them, and the operation reads what is verified on the way (Request.Data).
// Each request has 256 KiB of the memory then, and its place until it is answered.
//
// A JSON service may have the first 4 KiB of a body read before that, in one of a
// bounded number of places, since its answer to what is no JSON comes first. Else
// nobody's body is read who has no key or may not do it anyway, no place is
// held by a body that is on its way, and memory is taken before the bytes come.
//
// # Adding an operation
//
// It is one entry in the Operations of its service, and one function. In package
// iot the entry is a row, and Operation is made of it:
//
//	{"DescribeThing", "GET", "/things/:thingName", c.describeThing},
//
//	func (c *controlPlane) describeThing(r *wire.Request) (any, error)
//
// r.Path gives what the segments with a colon took, r.Query and r.Body the rest;
// what the function returns is written by encoding/json. In a JSON service, such
// as package kinesis, Query, Command and Subscription make the entry of a
// function with structs for its input and output. Their tags say what AWS
// demands of a request (package shape), and the function sees none that breaks
// it.
//
// An error that is a *Error (Errorf) is answered as it is; others get their name
// by the service's Errors and then by those that all services have. What none
// knows is the bridge's own fault: the client reads no more than that, and the
// log has it. See the example.
//
// A new service is a package beside this one, with a function that returns its
// *Service, and one more in the list of package aws.
//
// # Authorization
//
// The pipeline asks an Authorizer, and nothing else does: operations have no
// checks of their own, but may ask for a second action (Request.Authorize). A
// Question has the caller, the action as IAM names it, the ARN that the
// operation's Resource finds, and what conditions need. Admit comes first and
// knows no resource; it is what keeps a caller without rights from sending a
// body. An operation without a Resource is about "*", so that it takes a policy
// for everything to allow it.
package wire
