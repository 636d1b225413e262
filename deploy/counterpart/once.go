package counterpart

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Once returns a folder that a shell script has filled, which runs in it with args
// as $1 and so on. The folder stays from run to run, one for each name, script and
// version: what is in it is all that they ask for. It is for reading only, by
// several tests at a time.
//
// The file installed is written last and under a lock, so that no test finds half of
// it: a script that was killed begins again in an empty folder.
func Once(t testing.TB, name, version, script string, args ...string) (dir string) {
	t.Helper()
	sum := sha256.Sum256([]byte(script + "\x00" + version))
	dir = Folder(t, fmt.Sprintf("%s-%x", name, sum[:6]))
	cmd := exec.Command("flock", append([]string{dir, "sh", "-ec", "test ! -e installed || exit 0\n" +
		"find . -mindepth 1 -delete\n" + script + "\nsync -f .\ntouch installed", "sh"}, args...)...)
	cmd.Dir = dir
	Try(t, name, func() bool { _, err := os.Stat(filepath.Join(dir, "installed")); return err == nil }, cmd)
	return dir
}

// Python returns the folder bin of a virtual environment that has these packages of
// PyPI, NAME==VERSION each.
func Python(t testing.TB, packages ...string) (bin string) {
	t.Helper()
	const python = "/usr/bin/python3"
	Debian(t, "python3-venv", func() bool { return exec.Command(python, "-c", "import ensurepip").Run() == nil })
	real, err := filepath.EvalSymlinks(python) // an environment is of one release: python3.11
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(packages[0], "==")
	name, _, _ = strings.Cut(name, "[")
	return filepath.Join(Once(t, "python-"+name, real+" "+strings.Join(packages, " "),
		`python=$1; shift; "$python" -m venv . && bin/pip install -q "$@"`, append([]string{real}, packages...)...), "bin")
}

// Node returns a folder node_modules that has these packages of npm, NAME@VERSION
// each. None of their scripts has run.
func Node(t testing.TB, packages ...string) (modules string) {
	t.Helper()
	npm := npm(t)
	name, _, _ := strings.Cut(packages[0], "@")
	return filepath.Join(Once(t, "node-"+name, strings.Join(packages, " "),
		`npm=$1; shift; "$npm" install --no-audit --no-fund --ignore-scripts --no-save "$@"`,
		append([]string{npm}, packages...)...), "node_modules")
}

// NodeLocked is Node for what a package.json and its lock file say.
func NodeLocked(t testing.TB, name string, pack, lock []byte) (modules string) {
	t.Helper()
	npm := npm(t)
	return filepath.Join(Once(t, "node-"+name, string(pack)+string(lock),
		`printf %s "$2" > package.json; printf %s "$3" > package-lock.json
		"$1" ci --no-audit --no-fund --ignore-scripts`, npm, string(pack), string(lock)), "node_modules")
}

func npm(t testing.TB) string {
	t.Helper()
	Program(t, "nodejs", "node")
	return Program(t, "npm", "npm")
}

// Jars returns a folder with the libraries that a pom.xml asks for, with theirs.
func Jars(t testing.TB, name, pom string) (dir string) {
	t.Helper()
	mvn := Program(t, "maven", "mvn")
	text, err := os.ReadFile(pom)
	if err != nil {
		t.Fatal(err)
	}
	return Once(t, "jars-"+name, string(text), `printf %s "$2" > pom.xml
		"$1" -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=.`, mvn, string(text))
}
