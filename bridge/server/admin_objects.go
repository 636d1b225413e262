package server

import (
	"errors"
	"io"
	"net/http"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// maxObject bounds an object that is put through the admin socket, our choice.
const maxObject = 64 << 20

// putObject stores the body as ?bucket=…&key=…, as a whole or not at all.
func (s *Server) putObject(_ http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	err := s.objects.Put(r.Context(), q.Get("bucket"), q.Get("key"), func(w io.Writer) error {
		_, err := io.Copy(w, r.Body)
		return err
	})
	if errors.Is(err, sink.ErrName) {
		return badRequest{err}
	}
	return err
}
