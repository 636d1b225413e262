package counterpart

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/tidemill/tidemill/deploy/rig"
)

// motoVersion is under Apache-2.0, as PyPI has it.
const motoVersion = "moto[server,dynamodb]==5.2.5"

// Moto runs a server of many AWS services in memory until the test ends and
// returns its URL. It takes much that AWS refuses.
func Moto(t testing.TB) (url string) {
	t.Helper()
	bin := Python(t, motoVersion)
	addr, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(filepath.Join(bin, "moto_server"), "-H", host, "-p", port)
	cmd.Env = append(os.Environ(), "MOTO_ALLOW_NONEXISTENT_REGION=true") // ours is none of Amazon's
	return Run(t, cmd, regexp.MustCompile(`Running on (http://\S+)`))
}
