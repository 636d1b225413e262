package admin

import (
	"context"
	"io"
	"net/http"

	"github.com/tidemill/tidemill/bridge/control/audit"
)

// maxObject bounds an object that is put through the admin socket, our choice.
const maxObject = 64 << 20

// Objects are the bridge's; an objects.Store has them.
type Objects interface {
	// Put stores an object as write writes it, as a whole or not at all.
	Put(ctx context.Context, bucket, key string, write func(io.Writer) error) error
}

type objects struct{ store Objects }

// put stores the body as ?bucket=…&key=…, as a whole or not at all.
func (h *objects) put(_ http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	audit.Of(r.Context()).Name("objects/" + q.Get("bucket") + "/" + q.Get("key"))
	return h.store.Put(r.Context(), q.Get("bucket"), q.Get("key"), func(w io.Writer) error {
		_, err := io.Copy(w, r.Body)
		return err
	})
}
