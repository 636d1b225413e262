package counterpart

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// duckVersion is under MIT, as PyPI has it.
const duckVersion = "duckdb==1.5.6"

// DuckDB returns a Python that has the module duckdb, which reads Parquet with code
// of its own.
func DuckDB(t testing.TB) (python string) {
	t.Helper()
	base := Program(t, "python3-venv", "/usr/bin/python3")
	dir := Folder(t, "duckdb")
	whole := filepath.Join(dir, "installed")
	have := func() bool { b, err := os.ReadFile(whole); return err == nil && string(b) == duckVersion }
	install := exec.Command("flock", dir, "sh", "-c",
		`"$0" -m venv venv && venv/bin/pip install -q "$1" && printf %s "$1" > installed`, base, duckVersion)
	install.Dir = dir
	Try(t, "duckdb", have, install)
	return filepath.Join(dir, "venv", "bin", "python")
}
