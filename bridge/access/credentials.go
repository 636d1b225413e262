package access

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/restjson"
	"github.com/tidemill/tidemill/bridge/speed/admission"
)

// credentialsAlias returns the role alias of a request to AWS IoT's credential
// provider, which is known by its client certificate and not signed.
func credentialsAlias(r *http.Request) (alias string, ok bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/role-aliases/")
	if !ok || r.Method != http.MethodGet {
		return "", false
	}
	if rest, ok = strings.CutSuffix(rest, "/credentials"); !ok || strings.Contains(rest, "/") {
		return "", false
	}
	alias, err := url.PathUnescape(rest)
	return alias, err == nil
}

// Credentials answers requests to the credential provider, and has next
// answer the others.
func (a *Authorizer) Credentials(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if alias, ok := credentialsAlias(r); ok {
			a.serveCredentials(w, r, alias)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serveCredentials gives a device a temporary access key for the role of an
// alias (developer guide, "Authorizing direct calls to AWS services using the
// credential provider").
func (a *Authorizer) serveCredentials(w http.ResponseWriter, r *http.Request, alias string) {
	out, err := a.credentials(r, alias)
	status, code := http.StatusOK, ""
	switch {
	case errors.Is(err, errNoCredentials):
		a.refuseRequest(r, signInCredentials, "", err)
		status, code = http.StatusForbidden, "AccessDeniedException"
	case errors.Is(err, registry.ErrNotFound):
		status, code = http.StatusNotFound, "ResourceNotFoundException"
	case err != nil:
		a.o.Log.Error("credentials cannot be given", "err", err)
		status, code, err = http.StatusInternalServerError, "InternalFailureException",
			errors.New("an unexpected error has occurred")
	}
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		restjson.WriteError(w, status, code, err.Error())
		return
	}
	text, err := restjson.Encode(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	restjson.Write(w, status, text)
}

var errNoCredentials = errors.New("access denied")

func (a *Authorizer) credentials(r *http.Request, alias string) (any, error) {
	cert := certificate(r)
	if cert == nil {
		return nil, fmt.Errorf("%w: no client certificate", errNoCredentials)
	}
	if !a.o.SameOrigin(r) {
		return nil, fmt.Errorf("%w: %w", errNoCredentials, errOrigin)
	}
	thing := r.Header.Get("X-Amzn-Iot-Thingname")
	who := newCertSession(a, cert, thing, authz.Context{SourceIP: admission.Host(r.RemoteAddr)})
	j, err := who.read()
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil, fmt.Errorf("%w: the certificate is not registered", errNoCredentials)
	case err != nil:
		return nil, err
	case j.policy == nil:
		return nil, fmt.Errorf("%w: the certificate is not active", errNoCredentials)
	}
	a.o.Authenticated(r, who.Owner())
	switch {
	case thing != "" && j.thing != thing:
		return nil, fmt.Errorf("%w: the certificate is not attached to thing %.128q", errNoCredentials, thing)
	case !who.May(authz.AssumeRole, alias):
		return nil, fmt.Errorf("%w: no policy of the certificate allows %s for role alias %.128q", errNoCredentials,
			authz.AssumeRole, alias)
	}
	var key registry.TemporaryKey
	err = view(a.o.Registry, func(tx records) error {
		of, err := tx.RoleAlias(alias)
		if err != nil {
			return err
		}
		// Within half of its life the same key is given again, so that who asks
		// often does not fill the registry.
		half := of.Life / 2
		turn := time.Now().Truncate(half)
		key = registry.TemporaryKey{Role: of.Role, Certificate: who.id, Thing: thing, Expires: turn.Add(2 * half).UTC()}
		key.ID = a.o.Issuer.TemporaryID(key.Certificate, key.Role, key.Thing, key.Expires.Format(time.RFC3339))
		if old, err := tx.TemporaryKey(key.ID); err == nil {
			key.Expires = old.Expires
			return nil
		}
		return errNewKey
	})
	if errors.Is(err, errNewKey) {
		err = a.keepTemporary(r, alias, key)
	}
	if err != nil {
		return nil, err
	}
	secret := a.o.Issuer.Temporary(key.ID)
	return map[string]any{"credentials": map[string]string{
		"accessKeyId": key.ID, "secretAccessKey": secret.Secret, "sessionToken": secret.Token,
		"expiration": key.Expires.Format(time.RFC3339),
	}}, nil
}

// keepTemporary stores a key that is given for the first time, with the record of
// the audit log that says to whom.
func (a *Authorizer) keepTemporary(r *http.Request, alias string, k registry.TemporaryKey) error {
	ctx := r.Context()
	if a.o.SignIns != nil {
		ctx = audit.With(ctx, &audit.Change{Record: audit.Record{Source: audit.SourceSignIn, Action: signInCredentials,
			Who: k.Certificate, Key: k.ID, From: r.RemoteAddr, Target: "role-aliases/" + alias}})
	}
	return update(ctx, a.o.Registry, func(tx records) error { return tx.AddTemporaryKey(k) })
}

var errNewKey = errors.New("a key that is not stored yet")

// Secret returns the secret and session token of an access key, of a temporary
// one as long as it holds.
func (a *Authorizer) Secret(id string) (secret, token string, ok bool) {
	if secret, token, ok = a.o.Keys.now.Load().secret(id); ok {
		return secret, token, ok
	}
	if k := a.o.People.Key(id); k != nil {
		return k.Secret, "", true
	}
	if !pki.IsTemporary(id) {
		return "", "", false
	}
	if _, err := a.temporaryKey(id); err != nil {
		return "", "", false
	}
	k := a.o.Issuer.Temporary(id)
	return k.Secret, k.Token, true
}

// used notes that a key of a file or of a user signed a request that holds. Others
// are not kept: there may be any number of them.
func (a *Authorizer) used(id, service string) {
	if _, _, declared := a.o.Keys.now.Load().secret(id); declared || a.o.People.Key(id) != nil {
		a.o.People.Used(id, service)
	}
}

// isTemporary says whether a key is none of the file's, so that it never has
// more rights than its role.
func (a *Authorizer) isTemporary(id string) bool {
	_, _, ok := a.o.Keys.now.Load().secret(id)
	return !ok && pki.IsTemporary(id)
}

func (a *Authorizer) temporaryKey(id string) (k registry.TemporaryKey, err error) {
	if k, ok := a.o.Functions.key(id); ok {
		return k, nil
	}
	err = view(a.o.Registry, func(tx records) (err error) {
		k, err = tx.TemporaryKey(id)
		return err
	})
	return k, err
}

// thingOf returns the thing that a temporary key was given to, nil for none.
func (a *Authorizer) thingOf(id string) *authz.Thing {
	k, err := a.temporaryKey(id)
	if err != nil || k.Thing == "" {
		return nil
	}
	return &authz.Thing{Name: k.Thing, Attached: true}
}
