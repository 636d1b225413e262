// Package await is how tests wait for a state that another goroutine or process
// brings about, where testing/synctest cannot be: sockets, disks, programs. They
// never sleep for luck.
package await

import (
	"testing"
	"time"
)

// Patience is how long a state may take that comes at once on an idle machine: on
// a busy one it may take long, and on any it ends.
const Patience = time.Minute

// True asks ok each 2 ms until it holds. After Patience the test fails, and says
// what did not come.
func True(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !Holds(ok) {
		t.Fatalf("not in %v: %s", Patience, what)
	}
}

// Holds is True for a test that has more to say of what did not come.
func Holds(ok func() bool) bool {
	for end := time.Now().Add(Patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
