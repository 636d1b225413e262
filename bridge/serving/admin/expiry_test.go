package admin

import (
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A slowRegistry says when it is read, and answers when it is let.
type slowRegistry struct{ reads, let chan struct{} }

func (r slowRegistry) View(func(*registry.Tx) error) error {
	r.reads <- struct{}{}
	<-r.let
	return nil
}

// While all certificates are read, who asks for what was read before is answered.
func TestExpiriesDoNotWait(t *testing.T) {
	r := slowRegistry{make(chan struct{}, 8), make(chan struct{})}
	e := &Expiries{registry: r, looked: time.Now().Add(-time.Hour)}
	e.devices.Over = 7
	var wg sync.WaitGroup
	wg.Go(func() {
		if d, err := e.Devices(DevicesAge); err != nil || d.Over != 0 {
			t.Errorf("%+v, %v", d, err)
		}
	})
	<-r.reads
	if d, err := e.Devices(DevicesAge); err != nil || d.Over != 7 {
		t.Errorf("%+v, %v", d, err)
	}
	wg.Go(func() { // one that wants to know now looks for itself
		if _, err := e.Devices(0); err != nil {
			t.Error(err)
		}
	})
	<-r.reads
	close(r.let)
	wg.Wait()
	if d, err := e.Devices(DevicesAge); err != nil || d.Over != 0 || len(r.reads) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
}
