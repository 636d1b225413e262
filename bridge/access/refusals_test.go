package access

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// A refusal's advice is about its own reason.
func TestAdvice(t *testing.T) {
	for _, c := range []struct {
		err        error
		says, none string
	}{
		{gateway.ErrOlderSession, "take its session over", "policy test"},
		{gateway.ErrNotAuthorized, "policy test", "session"},
		{fmt.Errorf("TLS handshake: %w", pki.ErrNotInTime), "tidemill-agent rotate", "agree on TLS"},
		{fmt.Errorf("%w: %w", errRequest, sigv4.ErrUnknownKey), "sign with an access key", "/mqtt"},
		{fmt.Errorf("%w: %w", errRequest, sigv4.ErrMismatch), "check secret, region and clock", "/mqtt"},
		{fmt.Errorf("%w: %w", errUpgrade, sigv4.ErrMismatch), "sign /mqtt", "secret"},
	} {
		var log strings.Builder
		r := NewRefusals(slog.New(slog.NewTextHandler(&log, nil)))
		r.logRefusal("192.0.2.1:5", "x", "", fmt.Errorf("refused: %w", c.err))
		_, advice, _ := strings.Cut(log.String(), " do=")
		if !strings.Contains(advice, c.says) || strings.Contains(advice, c.none) {
			t.Errorf("%v: %s", c.err, log.String())
		}
	}
}
