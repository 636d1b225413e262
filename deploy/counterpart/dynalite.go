package counterpart

import (
	"bytes"
	_ "embed"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/tidemill/tidemill/deploy/rig"
)

//go:embed dynalite/package.json
var dynalitePackage []byte

//go:embed dynalite/package-lock.json
var dynaliteLock []byte

// Dynalite runs a DynamoDB in memory until the test ends and returns its URL:
// dynalite, Apache-2.0. It keeps no access keys apart, never is without capacity,
// and makes tables at once.
func Dynalite(t testing.TB) (url string) {
	t.Helper()
	node, npm := Program(t, "nodejs", "node"), Program(t, "npm", "npm")
	dir := Folder(t, "dynalite")
	whole := filepath.Join(dir, "installed.json") // the lock file of what is there
	have := func() bool {
		b, err := os.ReadFile(whole)
		return err == nil && bytes.Equal(b, dynaliteLock)
	}
	if !have() {
		for name, text := range map[string][]byte{"package.json": dynalitePackage, "package-lock.json": dynaliteLock} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		install := exec.Command("flock", dir, "sh", "-c",
			`"$0" ci --no-audit --no-fund --ignore-scripts && cp package-lock.json installed.json`, npm)
		install.Dir = dir
		Try(t, "dynalite", have, install)
	}
	addr, err := rig.FreePort() // dynalite takes 0 for its default, 4567
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(node, filepath.Join(dir, "node_modules", "dynalite", "cli.js"), "--host", "127.0.0.1", "--port",
		port,
		"--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0")
	return Run(t, cmd, regexp.MustCompile(`listening at: (http://\S+)`))
}
