package cli

import (
	"os/exec"
	"testing"
)

func TestEndpointURL(t *testing.T) {
	for listens, want := range map[string]string{
		":8443": "https://localhost:8443", "127.0.0.1:1": "https://localhost:1", "[::]:2": "https://localhost:2",
		"0.0.0.0:3": "https://localhost:3",
		"bridge:4":  "https://bridge:4", "192.0.2.1:5": "https://192.0.2.1:5",
		"[2001:db8::1]:6": "https://[2001:db8::1]:6",
		"":                "", ":0": "", "x": "",
	} {
		if got, err := endpointURL(listens); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", listens, got, err)
		}
	}
}

func TestQuoted(t *testing.T) {
	const odd = `a 'b' "$c" \ *`
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quoted(odd)).Output()
	if err != nil || string(out) != odd {
		t.Errorf("%q, %v", out, err)
	}
}
