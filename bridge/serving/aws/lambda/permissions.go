package lambda

import (
	"github.com/tidemill/tidemill/bridge/lambda/store"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

func (s *service) addPermission(r *wire.Request) (any, error) {
	var in struct {
		StatementId, Action, Principal, SourceArn, SourceAccount, RevisionId string
		EventSourceToken, PrincipalOrgID, FunctionUrlAuthType                string
		InvokedViaFunctionUrl                                                bool
	}
	name, qualifier, err := s.qualified(r)
	if err == nil {
		err = decode(r, &in)
	}
	if err != nil {
		return nil, err
	}
	if in.EventSourceToken != "" || in.PrincipalOrgID != "" || in.FunctionUrlAuthType != "" ||
		in.InvokedViaFunctionUrl {
		return nil, invalid("EventSourceToken, PrincipalOrgID and function URLs are not served here: leave them out")
	}
	statement, err := s.Store.AddPermission(name, qualifier, in.RevisionId, store.Permission{ID: in.StatementId,
		Action: in.Action, Service: in.Principal, SourceARN: in.SourceArn, SourceAccount: in.SourceAccount})
	if err != nil {
		return nil, err
	}
	return map[string]string{"Statement": statement}, nil
}

func (s *service) getPolicy(r *wire.Request) (any, error) {
	name, qualifier, err := s.qualified(r)
	if err != nil {
		return nil, err
	}
	document, revision, err := s.Store.Policy(name, qualifier)
	if err != nil {
		return nil, err
	}
	return map[string]string{"Policy": document, "RevisionId": revision}, nil
}

func (s *service) removePermission(r *wire.Request) (any, error) {
	name, qualifier, err := s.qualified(r)
	if err != nil {
		return nil, err
	}
	return nil, s.Store.RemovePermission(name, qualifier, r.Query.Get("RevisionId"), r.Path("statement"))
}
