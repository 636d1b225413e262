package provision

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"
)

// A device whose clock is before every certificate is provisioned when Retry knows a
// time to judge by, and the handshake is made once more, not for ever.
func TestJudgedByAnotherTime(t *testing.T) {
	b := newBridge(t)
	now, tries := longAgo.AddDate(-1, 0, 0), 0
	o := b.options()
	l, err := net.Listen("tcp", "127.0.0.1:0") // an alert needs room on the way, which a pipe has not
	if err != nil {
		t.Fatal(err)
	}
	b.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.serve(conn) })
		}
	})
	o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}
	o.Time = func() time.Time { return now }
	o.Retry = func(err error) bool {
		tries++
		var wrong *tls.CertificateVerificationError
		if !errors.As(err, &wrong) {
			t.Errorf("asked for %v", err)
		}
		return true
	}
	if _, _, err := Provision(t.Context(), o); err == nil || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
	o.Retry = func(error) bool {
		now = longAgo.AddDate(1, 0, 0)
		return true
	}
	if id, made, err := Provision(t.Context(), o); err != nil || !made || id.Thing == "" {
		t.Errorf("%+v, %v, %v", id, made, err)
	}
	_ = l.Close()
	b.wg.Wait()
}
