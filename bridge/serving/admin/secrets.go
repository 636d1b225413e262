package admin

import (
	"io"
	"net/http"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/secrets"
)

// secretsRows are about what get_secret of rules answers. No answer has a value.
func secretsRows(o Options) []row {
	s := o.Secrets
	named := func(r *http.Request) string {
		name := r.URL.Query().Get("name")
		audit.Of(r.Context()).Name("secrets/" + name)
		return name
	}
	return []row{
		{"GET /v1/secrets", "ListSecrets", nothing, func(w http.ResponseWriter, _ *http.Request) error {
			all, err := s.List()
			if err != nil {
				return err
			}
			return writeJSON(w, all)
		}, 0},
		{"PUT /v1/secrets", "PutSecret", opaque, func(_ http.ResponseWriter, r *http.Request) error {
			name := named(r)
			value, err := io.ReadAll(r.Body)
			if err != nil {
				return badRequest{err}
			}
			return s.Put(name, value, r.URL.Query().Get("binary") == "true")
		}, secrets.MaxValue},
		{"POST /v1/secrets/restore", "RestoreSecret", opaque, func(_ http.ResponseWriter, r *http.Request) error {
			return s.Restore(named(r))
		}, 0},
		{"DELETE /v1/secrets", "DeleteSecret", opaque, func(_ http.ResponseWriter, r *http.Request) error {
			return s.Delete(named(r))
		}, 0},
	}
}
