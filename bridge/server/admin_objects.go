package server

import (
	"io"
	"net/http"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// maxObject bounds an object that is put through the admin socket, our choice.
const maxObject = 64 << 20

// putObject stores the body as ?bucket=…&key=…, as a whole or not at all.
func (s *Server) putObject(_ http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	bucket, key := q.Get("bucket"), q.Get("key")
	for _, err := range []error{sink.CheckBucket(bucket), sink.CheckKey(key)} {
		if err != nil {
			return badRequest{err}
		}
	}
	return s.objects.Put(r.Context(), bucket, key, func(w io.Writer) error {
		_, err := io.Copy(w, r.Body)
		return err
	})
}
