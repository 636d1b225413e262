package pebble

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// patienceEvery is how often a write is tried again on a full disk.
	patienceEvery = 50 * time.Millisecond
	// lastPatience is for how long more when the store is to stop.
	lastPatience = 3 * time.Second
)

// A patient file system waits for room where Pebble would end: a write of its log or of
// its manifest that fails is fatal to it, and would be so again after a restart. What
// was written before the disk was full stays, and the rest follows it. Nobody's commit
// is answered meanwhile. Tables are not waited for: Pebble drops what it has of one
// and tries again, which gives room back.
type patient struct {
	vfs.FS
	p *patience
}

// patience is what all files of a store wait with.
type patience struct {
	log  *slog.Logger
	once sync.Once
	over chan struct{} // closed when nothing is waited for any more

	mu    sync.Mutex
	waits int // writes that do
}

// end has those who wait fail.
func (p *patience) end() { p.once.Do(func() { close(p.over) }) }

// full says that err is of a disk, or of a quota of it, without room.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// try does do until it does not fail for want of room.
func (p *patience) try(do func() error) error {
	err := do()
	if !full(err) {
		return err
	}
	p.enter(err)
	defer p.leave()
	tick := time.NewTicker(patienceEvery)
	defer tick.Stop()
	for full(err) {
		select {
		case <-p.over:
			return err
		case <-tick.C:
		}
		err = do()
	}
	return err
}

func (p *patience) enter(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits++; p.waits == 1 {
		p.log.Error("the disk is full: nothing more is stored until there is room", "err", err)
	}
}

func (p *patience) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits--; p.waits == 0 {
		p.log.Info("the log does not wait for room on its disk any more")
	}
}

// table says that a file is one of those that Pebble makes anew.
func table(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// Create implements vfs.FS.
func (fs patient) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if table(name) {
		return fs.FS.Create(name, c)
	}
	return fs.open(func() (vfs.File, error) { return fs.FS.Create(name, c) })
}

// ReuseForWrite implements vfs.FS.
func (fs patient) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.open(func() (vfs.File, error) { return fs.FS.ReuseForWrite(old, name, c) })
}

// Unwrap implements vfs.FS.
func (fs patient) Unwrap() vfs.FS { return fs.FS }

func (fs patient) open(open func() (vfs.File, error)) (f vfs.File, err error) {
	err = fs.p.try(func() (err error) { f, err = open(); return err })
	if err != nil {
		return nil, err
	}
	return patientFile{f, fs.p}, nil
}

type patientFile struct {
	vfs.File
	p *patience
}

// Write implements vfs.File.
func (f patientFile) Write(b []byte) (done int, err error) {
	err = f.p.try(func() error {
		n, err := f.File.Write(b[done:])
		done += n
		return err
	})
	return done, err
}

// WriteAt implements vfs.File.
func (f patientFile) WriteAt(b []byte, at int64) (done int, err error) {
	err = f.p.try(func() error {
		n, err := f.File.WriteAt(b[done:], at+int64(done))
		done += n
		return err
	})
	return done, err
}
