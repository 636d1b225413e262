package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The claim's key is deleted once the device is provisioned, by choice; where it
// was deleted before that is no fault.
func TestRemoveClaim(t *testing.T) {
	for _, remove := range []bool{false, true} {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"claim.key": "secret",
			"agent.toml": "data_dir = \"data\"\nuplink = {endpoint = \"127.0.0.1:1\", ca = \"ca.pem\"}\n" +
				"[provision]\ntemplate = \"press\"\n" +
				"claim_cert = \"claim.pem\"\nclaim_key = \"claim.key\"\nremove_claim = " +
				map[bool]string{true: "true", false: "false"}[remove] + "\n",
			"data/identity/identity.json": `{"thingName": "press-7", "certificateId": "c1"}`,
		} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			code, out, errs := runText(t.Context(), "provision", "--config", filepath.Join(dir, "agent.toml"), "--once")
			if code != 0 || !strings.Contains(out, "thing press-7 was provisioned before") {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			if _, err := os.Stat(filepath.Join(dir, "claim.key")); (err == nil) == remove {
				t.Errorf("remove_claim = %v: %v", remove, err)
			}
		}
	}
}
