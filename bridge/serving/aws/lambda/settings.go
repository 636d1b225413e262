package lambda

import (
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/lambda/store"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// alias is AWS's AliasConfiguration.
func (s *service) alias(function string, a *store.Alias) any {
	return map[string]any{"AliasArn": s.Store.ARN(function, a.Name), "Name": a.Name, "FunctionVersion": a.Version,
		"Description": a.Description, "RevisionId": a.Revision}
}

type aliasInput struct {
	Name, FunctionVersion string
	Description           *string
	RevisionId            string
	RoutingConfig         *struct {
		AdditionalVersionWeights map[string]float64
	}
}

func (s *service) putAlias(r *wire.Request, update bool) (any, error) {
	var in aliasInput
	name, err := s.function(r)
	if err == nil {
		err = decode(r, &in)
	}
	if err != nil {
		return nil, err
	}
	if in.RoutingConfig != nil && len(in.RoutingConfig.AdditionalVersionWeights) > 0 {
		return nil, invalid("an alias names one version here")
	}
	if update {
		in.Name = r.Path("alias")
	}
	a, err := s.Store.PutAlias(name, in.Name, in.FunctionVersion, in.Description, in.RevisionId, update)
	if err != nil {
		return nil, err
	}
	return s.alias(name, a), nil
}

func (s *service) createAlias(r *wire.Request) (any, error) { return s.putAlias(r, false) }
func (s *service) updateAlias(r *wire.Request) (any, error) { return s.putAlias(r, true) }

func (s *service) getAlias(r *wire.Request) (any, error) {
	name, err := s.function(r)
	if err != nil {
		return nil, err
	}
	a, err := s.Store.Alias(name, r.Path("alias"))
	if err != nil {
		return nil, err
	}
	return s.alias(name, a), nil
}

func (s *service) aliases(r *wire.Request) (any, error) {
	name, err := s.function(r)
	if err != nil {
		return nil, err
	}
	all, err := s.Store.Aliases(name, r.Query.Get("FunctionVersion"))
	if err != nil {
		return nil, err
	}
	part, next, err := page(r, all)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(part))
	for i, a := range part {
		list[i] = s.alias(name, a)
	}
	out := map[string]any{"Aliases": list}
	if next != "" {
		out["NextMarker"] = next
	}
	return out, nil
}

func (s *service) deleteAlias(r *wire.Request) (any, error) {
	name, err := s.function(r)
	if err != nil {
		return nil, err
	}
	return nil, s.Store.DeleteAlias(name, r.Path("alias"))
}

// concurrency is AWS's; without one it is empty.
type concurrency struct {
	ReservedConcurrentExecutions *int `json:",omitempty"`
}

func (s *service) putConcurrency(r *wire.Request) (any, error) {
	var in concurrency
	name, err := s.function(r)
	if err == nil {
		err = decode(r, &in)
	}
	if err == nil && in.ReservedConcurrentExecutions == nil {
		err = invalid("no ReservedConcurrentExecutions")
	}
	if err != nil {
		return nil, err
	}
	return in, s.Store.SetConcurrency(name, in.ReservedConcurrentExecutions, s.Concurrency)
}

func (s *service) deleteConcurrency(r *wire.Request) (any, error) {
	name, err := s.function(r)
	if err != nil {
		return nil, err
	}
	return nil, s.Store.SetConcurrency(name, nil, s.Concurrency)
}

func (s *service) getConcurrency(r *wire.Request) (any, error) {
	name, err := s.function(r)
	if err != nil {
		return nil, err
	}
	n, err := s.Store.Concurrency(name)
	return concurrency{n}, err
}

type destination struct{ Destination string }

type destinations struct {
	OnSuccess, OnFailure *destination `json:",omitempty"`
}

type asyncInput struct {
	MaximumRetryAttempts, MaximumEventAgeInSeconds *int
	DestinationConfig                              *destinations
}

// setAsync changes a, and makes it the function's.
func (s *service) setAsync(r *wire.Request, a store.Async) (any, error) {
	var in asyncInput
	name, qualifier, err := s.qualified(r)
	if err == nil {
		err = decode(r, &in)
	}
	if err != nil {
		return nil, err
	}
	if n := in.MaximumRetryAttempts; n != nil {
		a.Retries = *n
	}
	if n := in.MaximumEventAgeInSeconds; n != nil {
		a.MaxAge = *n
	}
	if d := in.DestinationConfig; d != nil {
		a.OnFailure, err = s.destination(r, name, d.OnFailure, false)
		if err == nil {
			a.OnSuccess, err = s.destination(r, name, d.OnSuccess, true)
		}
		if err != nil {
			return nil, err
		}
	}
	a.Modified = time.Now().UTC()
	if err := s.Store.SetAsync(name, qualifier, &a); err != nil {
		return nil, err
	}
	return s.async(name, qualifier, a), nil
}

// destination is the ARN of one, "" for none. Who names it must have the right to bring
// records there, since the bridge does that for the function.
func (s *service) destination(r *wire.Request, function string, d *destination, success bool) (string, error) {
	if d == nil || d.Destination == "" {
		return "", nil
	}
	to := d.Destination
	action, resource, err := s.Right(to, success)
	if err != nil {
		return "", invalid("destination %.200q: %w", to, err)
	}
	if name, _, err := s.Store.Parse(to); err == nil && name == function {
		return "", invalid("destination %.200q: it is the function itself", to)
	}
	return to, r.Authorize(action, resource)
}

// async is AWS's FunctionEventInvokeConfig.
func (s *service) async(name, qualifier string, a store.Async) any {
	if qualifier == "" {
		qualifier = store.Latest
	}
	d := destinations{}
	if a.OnFailure != "" {
		d.OnFailure = &destination{a.OnFailure}
	}
	if a.OnSuccess != "" {
		d.OnSuccess = &destination{a.OnSuccess}
	}
	return map[string]any{"FunctionArn": s.Store.ARN(name, qualifier), "MaximumRetryAttempts": a.Retries,
		"MaximumEventAgeInSeconds": a.MaxAge, "LastModified": float64(a.Modified.UnixMilli()) / 1000,
		"DestinationConfig": d}
}

func (s *service) putAsync(r *wire.Request) (any, error) { return s.setAsync(r, store.DefaultAsync) }

// set returns the configuration that somebody has set.
func (s *service) set(r *wire.Request) (name, qualifier string, a store.Async, err error) {
	name, qualifier, err = s.qualified(r)
	if err != nil {
		return
	}
	a, ok, err := s.Store.Async(name, qualifier)
	if err == nil && !ok {
		err = fmt.Errorf("%w: The function %s doesn't have an EventInvokeConfig", lambda.ErrNotFound,
			s.Store.ARN(name, qualifier))
	}
	return name, qualifier, a, err
}

func (s *service) updateAsync(r *wire.Request) (any, error) {
	_, _, a, err := s.set(r)
	if err != nil {
		return nil, err
	}
	return s.setAsync(r, a)
}

func (s *service) getAsync(r *wire.Request) (any, error) {
	name, qualifier, a, err := s.set(r)
	if err != nil {
		return nil, err
	}
	return s.async(name, qualifier, a), nil
}

func (s *service) deleteAsync(r *wire.Request) (any, error) {
	name, qualifier, err := s.qualified(r)
	if err != nil {
		return nil, err
	}
	return nil, s.Store.SetAsync(name, qualifier, nil)
}

// settings tells of the limits and what is used of them.
func (s *service) settings(*wire.Request) (any, error) {
	all, size := s.Store.List(), int64(0)
	for _, v := range all {
		size += v.Size
	}
	return map[string]any{
		"AccountLimit": map[string]any{"CodeSizeUnzipped": 250 << 20, "CodeSizeZipped": store.MaxZip,
			"ConcurrentExecutions":           s.Concurrency,
			"UnreservedConcurrentExecutions": s.Concurrency - s.Store.Reserved()},
		"AccountUsage": map[string]any{"FunctionCount": len(all), "TotalCodeSize": size},
	}, nil
}
