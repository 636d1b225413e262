package board

import "time"

// waitByPolling looks at a level every so often until it differs from *seen,
// which it then updates, or until timeout (negative: never) or done. A failed
// look changes nothing.
func waitByPolling(read func() (bool, error), seen *bool, every, timeout time.Duration, done <-chan struct{}) bool {
	look := time.NewTicker(every)
	defer look.Stop()
	var end <-chan time.Time
	if timeout >= 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		end = t.C
	}
	for {
		if now, err := read(); err == nil && now != *seen {
			*seen = now
			return true
		}
		select {
		case <-look.C:
		case <-end:
			return false
		case <-done:
			return false
		}
	}
}
