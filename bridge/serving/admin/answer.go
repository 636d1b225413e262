package admin

import (
	"net/http"
	"unicode/utf8"
)

// ErrorTrailer is the trailer of an answer on the admin socket that had begun
// when it failed. It says why; the answer is not complete.
const ErrorTrailer = "Tidemill-Error"

// maxTrailer bounds the text of ErrorTrailer: net/http reads trailers of less
// than 4 KiB, which is the buffer of a connection.
const maxTrailer = 2 << 10

// An answer knows whether it has begun, after which its status cannot tell of
// an error any more.
type answer struct {
	http.ResponseWriter
	begun bool
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(code int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// FlushError is called by http.ResponseController.
func (a *answer) FlushError() error {
	a.begun = true
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// broke ends an answer that has begun with the reason.
func (a *answer) broke(err error) {
	text := err.Error()
	if len(text) > maxTrailer {
		cut := maxTrailer
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	a.Header().Set(http.TrailerPrefix+ErrorTrailer, text) // net/http writes line ends as spaces
}
