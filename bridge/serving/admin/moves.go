package admin

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// A Drain asks a bridge to take no more devices, and to end for good once what it took
// is committed and answered.
type Drain struct {
	To     string `json:"to,omitempty"`     // host:port, told to clients of MQTT 5; "": nothing is told
	Target string `json:"target,omitempty"` // where the last backup will be
}

// Check returns what is wrong with it.
func (d *Drain) Check() error {
	if d.To == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(d.To)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" || len(d.To) > 255 ||
		strings.ContainsFunc(d.To, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return badRequest{fmt.Errorf("to: %.80q, want host:port", d.To)}
	}
	return nil
}

// drains answers a Drain before the bridge ends.
func drains(begin func(Drain) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		var in Drain
		if err := readJSON(r, &in); err != nil {
			return err
		}
		if err := in.Check(); err != nil {
			return err
		}
		if err := begin(in); err != nil {
			return err
		}
		return writeJSON(w, in)
	}
}
