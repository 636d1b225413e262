// Package nightly says how long a test shall be. What draws its cases by chance runs
// few of them in the gate, each time others, and many in `make nightly`.
package nightly

import "os"

// Is says whether the long versions run: TIDEMILL_NIGHTLY is set.
func Is() bool { return os.Getenv("TIDEMILL_NIGHTLY") != "" }

// Or is how many cases there shall be: usual, or many in a nightly run.
func Or(usual, many int) int {
	if Is() {
		return many
	}
	return usual
}
