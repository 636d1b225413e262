package e2e

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/deploy/rig"
)

// shared are the bridges that tests share, by configuration. TestMain stops
// them.
var shared struct {
	mu      sync.Mutex // guards bridges, and is held while one starts
	bridges map[string]*rig.Bridge
	dirs    []string
}

// sharedBridge is newBridge for tests that only read, or that work with names of
// their own: there is one bridge for each config, which the first of them
// starts. Whoever kills or restarts a bridge, reloads it, fills its disk, or
// counts all that it has, needs one of his own.
func sharedBridge(t *testing.T, config string) *fleet {
	t.Helper()
	f := emptyFleet(t, func(string) {})
	f.shared = true
	var err error
	f.bridge, err = startShared(config)
	f.must(err)
	f.must(f.bridge.Ready(f.ctx)) // also after a test that ended it
	return f
}

func startShared(config string) (*rig.Bridge, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if b := shared.bridges[config]; b != nil {
		return b, nil
	}
	bin, err := buildOnce()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tidemill-shared-")
	if err != nil {
		return nil, err
	}
	shared.dirs = append(shared.dirs, dir)
	b, err := rig.NewBridge(bin, dir, config)
	if err != nil {
		return nil, err
	}
	if err := b.Start(); err != nil {
		return nil, err
	}
	if shared.bridges == nil {
		shared.bridges = map[string]*rig.Bridge{}
	}
	shared.bridges[config] = b
	return b, nil
}

// stopShared wants each shared bridge to end as one that is asked to.
func stopShared() error {
	var errs []error
	for config, b := range shared.bridges {
		if err := b.Stop(patience); err != nil {
			errs = append(errs, fmt.Errorf("bridge with %q: %w", config, err))
		}
	}
	for _, dir := range shared.dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
