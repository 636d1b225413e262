package counterpart

import (
	"path/filepath"
	"testing"
)

// duckVersion is under MIT, as PyPI has it.
const duckVersion = "duckdb==1.5.6"

// DuckDB returns a Python that has the module duckdb, which reads Parquet with code
// of its own.
func DuckDB(t testing.TB) (python string) {
	t.Helper()
	return filepath.Join(Python(t, duckVersion), "python")
}
