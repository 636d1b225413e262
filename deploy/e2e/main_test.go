package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain leaves all of it out of short runs: it is whole programs and the
// clients of others.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("end-to-end tests are left out with -short")
		return
	}
	if os.Getenv("TIDEMILL_CHILD") == "" {
		if _, err := buildOnce(); err != nil { // here, so that no test's time begins before it
			fmt.Println(err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Println(err)
		code = max(code, 1)
	}
	os.Exit(code)
}
