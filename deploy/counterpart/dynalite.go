package counterpart

import (
	_ "embed"
	"net"
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
	modules := NodeLocked(t, "dynalite", dynalitePackage, dynaliteLock)
	addr, err := rig.FreePort() // dynalite takes 0 for its default, 4567
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("node", filepath.Join(modules, "dynalite", "cli.js"), "--host", "127.0.0.1", "--port", port,
		"--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0")
	return Run(t, cmd, regexp.MustCompile(`listening at: (http://\S+)`))
}
