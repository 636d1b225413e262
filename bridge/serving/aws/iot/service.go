// Package iot is AWS IoT's control plane as AWS's SDKs speak it, in rest-json:
// the registry of things, groups, types, certificates and policies, provisioning,
// authorizers, fleet indexing, and topic rules. Each file has a kind of resource:
// the rows of its operations, and a function for each. What they do is
// control/registry and the packages beside it, which check what they are given.
package iot

import (
	"errors"
	"net/http"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

const (
	// maxBody bounds what a request may send. A topic rule's SQL has at most
	// 64 KB (AWS IoT Core quotas, rules engine), and its actions as much again.
	maxBody = 256 << 10
	// maxRequests are under way at once. Their bodies have come, and memory bounds
	// those.
	maxRequests = 64
)

// Options of the service.
type Options struct {
	Account string // 12 digits: part of ARNs
	Rules   TopicRules
	// Registry is what all but the rules work on, with Issuer for the certificates
	// that it makes and Endpoint, host:port, where devices connect; nil: rules
	// alone.
	Registry registry.Store
	Issuer   *pki.PKI
	Endpoint func() (string, error)
	Fleet    *index.Index // of Registry; nil: none
	// Provision makes things by templates.
	Provision *provision.Service
	// Authorizers are asked about clients.
	Authorizers Authorizers
}

// Service serves what o has.
func Service(o Options) *wire.Service {
	rows := (&topicRules{o.Account, o.Rules}).operations()
	if o.Registry != nil {
		c := &controlPlane{account: o.Account, registry: o.Registry, issuer: o.Issuer, authorizers: o.Authorizers,
			endpoint: o.Endpoint, provision: o.Provision}
		if o.Fleet != nil {
			c.fleet, c.index = o.Fleet, o.Fleet
		}
		rows = append(rows, c.operations()...)
	}
	s := &wire.Service{
		Name:       "iot",
		Signing:    []string{"iot", "execute-api"},
		Protocol:   wire.RESTJSON{},
		MaxBody:    maxBody,
		Concurrent: maxRequests,
		Errors:     names,
	}
	for _, row := range rows {
		s.Operations = append(s.Operations, wire.Operation{Name: row.name, Method: row.method, Path: row.path,
			Run: row.run, Resources: resources(o.Account, row), Changes: changes(row)})
	}
	return s
}

// An operation is a row of the table.
type operation struct {
	name, method, path string // as wire.Operation has them
	run                run
}

// A run does an operation. It returns what is written as JSON, nil for nothing.
type run = func(*wire.Request) (any, error)

// names are the names of errors: those of AWS IoT's API reference.
var names = []wire.Rule{
	sqlParse,
	wire.Is(registry.ErrExists, "ResourceAlreadyExistsException", 409),
	wire.Is(registry.ErrNotFound, "ResourceNotFoundException", 404),
	wire.Is(registry.ErrConflict, "ConflictingResourceUpdateException", 409),
	wire.Is(authz.ErrMalformed, "MalformedPolicyException", 400),
	wire.Is(registry.ErrInvalid, "InvalidRequestException", 400),
	wire.Is(index.ErrQuery, "InvalidQueryException", 400),
	wire.Is(index.ErrNotReady, "IndexNotReadyException", 400),
	wire.Is(index.ErrNoIndex, "ResourceNotFoundException", 404),
	wire.Is(index.ErrAggregation, "InvalidAggregationException", 400),
}

// sqlParse names the errors of statements. All that an error says is told, also
// which rule and where in it.
func sqlParse(err error) *wire.Error {
	if _, ok := errors.AsType[*iotsql.SyntaxError](err); !ok {
		return nil
	}
	return &wire.Error{Code: "SqlParseException", Status: http.StatusBadRequest, Message: err.Error()}
}

// exists is registry.ErrExists with what there is.
func exists(err error, id, arn string) *wire.Error {
	return &wire.Error{Code: "ResourceAlreadyExistsException", Status: http.StatusConflict, Message: err.Error(),
		ResourceID: id, ResourceARN: arn}
}

// asking are operations that change nothing, though they are no GET.
var asking = map[string]bool{
	"SearchIndex": true, "GetStatistics": true, "GetCardinality": true, "GetPercentiles": true,
	"GetBucketsAggregation": true, "GetThingConnectivityData": true, "TestAuthorization": true,
	"GetEffectivePolicies": true, "ListAttachedPolicies": true, "ListTargetsForPolicy": true,
	"TestInvokeAuthorizer": true,
}

// changes says whether a row's operation changes control.
func changes(row operation) bool { return row.method != http.MethodGet && !asking[row.name] }
