package server

import (
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/access"
	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/lambda/store"
)

// functionKeys are the access keys of functions' processes. It implements lambda.Keys.
type functionKeys struct{ *access.FunctionKeys }

// Granted implements lambda.Keys.
func (k functionKeys) Granted(f *lambda.Function) bool { return k.FunctionKeys.Granted(f.Role) }

// Give implements lambda.Keys.
func (k functionKeys) Give(f *lambda.Function, life time.Duration) (lambda.Key, bool) {
	id, key, ends, ok := k.FunctionKeys.Give(f.Name, f.Version, life)
	return lambda.Key{ID: id, Secret: key.Secret, Token: key.Token, Expires: ends}, ok
}

// roleOf is the role of a function's version, "" of one that is not there.
func roleOf(s *store.Store) func(function, version string) string {
	return func(function, version string) string {
		f, err := s.Function(function, version)
		if err != nil {
			return ""
		}
		return f.Role
	}
}

// functionAPI answers what functions ask of the bridge's AWS APIs, which are made after
// functions are.
func (a *assembly) functionAPI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.aws.ServeHTTP(w, r) })
}
