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
	list := func(w http.ResponseWriter, _ *http.Request) error {
		all, err := s.List()
		if err != nil {
			return err
		}
		return writeJSON(w, all)
	}
	put := func(_ http.ResponseWriter, r *http.Request) error {
		name := named(r)
		value, err := io.ReadAll(r.Body)
		if err != nil {
			return badRequest{err}
		}
		return s.Put(name, value, r.URL.Query().Get("binary") == "true")
	}
	restore := func(_ http.ResponseWriter, r *http.Request) error { return s.Restore(named(r)) }
	remove := func(_ http.ResponseWriter, r *http.Request) error { return s.Delete(named(r)) }
	return []row{
		see("GET /v1/secrets", "ListSecrets", list),
		changeUnseen("PUT /v1/secrets", "PutSecret", put).upTo(secrets.MaxValue),
		changeUnseen("POST /v1/secrets/restore", "RestoreSecret", restore),
		changeUnseen("DELETE /v1/secrets", "DeleteSecret", remove),
	}
}
