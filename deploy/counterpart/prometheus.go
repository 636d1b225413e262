package counterpart

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/tidemill/tidemill/deploy/rig"
)

// Alertmanager runs Debian's Prometheus Alertmanager until the test ends, at addr, or
// at a port of its own if that is "", and returns its URL. Alerts that it has are gone
// with it.
func Alertmanager(t testing.TB, addr string) (url string) {
	t.Helper()
	program := Program(t, "prometheus-alertmanager", "prometheus-alertmanager")
	addr = free(t, addr)
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	text := "route: {receiver: none, group_wait: 1s}\nreceivers: [{name: none}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	Run(t, exec.Command(program, "--config.file="+config, "--storage.path="+dir, "--web.listen-address="+addr,
		"--cluster.listen-address="), regexp.MustCompile(`msg="?(Listening)`))
	return "http://" + addr
}

// Prometheus runs Debian's Prometheus until the test ends: it scrapes target, a host
// and a port, each second. It returns its URL.
func Prometheus(t testing.TB, target string) (url string) {
	t.Helper()
	program := Program(t, "prometheus", "prometheus")
	addr, dir := free(t, ""), t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("scrape_configs: [{job_name: bridge, scrape_interval: 1s, scrape_timeout: 1s, "+
		"static_configs: [{targets: [%q]}]}]\n", target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	Run(t, exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr), regexp.MustCompile(`msg="Server is ready to receive web (requests)`))
	return "http://" + addr
}

func free(t testing.TB, addr string) string {
	t.Helper()
	if addr != "" {
		return addr
	}
	addr, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
