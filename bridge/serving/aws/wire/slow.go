package wire

import (
	"encoding/xml"
	"io"
	"net/http"
	"time"
)

// keepAlive is how long a client of a slow operation hears nothing. Clients and
// what is between take a connection for dead after a minute or more (boto3's
// read_timeout: 60 s).
const keepAlive = 10 * time.Second

// Slowly runs do, which may take long, once the request's body is read, in a
// RESTXML service. If it takes more than keepAlive, the client is sent status 200
// and white space until it is done, and an error is told in the body, as S3 does
// (API reference, CompleteMultipartUpload and CopyObject). It returns do's error.
func (r *Request) Slowly(do func() error) error {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(keepAlive)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				r.x.beat()
			}
		}
	}()
	defer func() { // nothing else writes the answer before that
		close(stop)
		<-stopped
	}()
	return do()
}

// beat writes what comes before the answer's document: the head at first, then
// white space. It fails when the client is gone, which the request's context says.
func (x *exchange) beat() {
	x.writeWithin()
	text := " "
	if x.status == 0 {
		x.status, text = http.StatusOK, xml.Header
		x.w.Header().Set("Content-Type", "application/xml")
		x.w.WriteHeader(x.status)
	}
	_, _ = io.WriteString(x.w, text)
	_ = http.NewResponseController(x.w).Flush()
}
