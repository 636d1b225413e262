package server

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Files that go while a folder is measured do not keep the others from being counted.
func TestAllocatedWhileFilesGo(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("stays", i)), make([]byte, 64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := allocated(dir)
	if err != nil || want < 3*64<<10 {
		t.Fatalf("%d, %v", want, err)
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			for i := range 50 { // in order before those that stay
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("goes", i)), nil, 0o600); err != nil {
					stopped <- err
					return
				}
			}
			for i := range 50 {
				_ = os.Remove(filepath.Join(dir, fmt.Sprint("goes", i)))
			}
		}
	}()
	for range 300 {
		if got, err := allocated(dir); err != nil || got < want {
			t.Errorf("%d, want %d at least, %v", got, want, err)
			break
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}
