package counterpart

import (
	"crypto/rand"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

//go:embed opensearch/pom.xml
var openSearchPOM []byte

// OpenSearch runs a server, of one node and 512 MiB, until the test ends, and returns
// its URL. It is Apache-2.0, as Maven has it.
func OpenSearch(t testing.TB) (url string) {
	t.Helper()
	Program(t, "default-jre-headless", "java")
	pom := filepath.Join(t.TempDir(), "pom.xml")
	if err := os.WriteFile(pom, openSearchPOM, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := Jars(t, "opensearch", pom)
	// A port that it is given ends it in silence. Nodes on this machine that have the name
	// of a cluster in common join each other.
	return "http://" + Run(t, exec.Command("java", "-Xmx512m", "-cp", dir+"/*",
		"org.codelibs.opensearch.runner.OpenSearchRunner", "-basePath", t.TempDir(), "-numOfNode", "1", "-clusterName",
		"tidemill-"+rand.Text(), "-useLogger"), regexp.MustCompile(`HttpServerTransport\s*\] publish_address \{(127[^}]+)\}`))
}
