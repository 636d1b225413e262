package server

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Parts of the disk, as the command line and metrics name them.
const (
	partLog       = "log"
	partOutboxes  = "outboxes"
	partObjects   = "objects"
	partFunctions = "functions"
	partBackup    = "backup"
	partRegistry  = "registry"
	partWAL       = "wal"
)

// streamParts are parts of the log by what the names of their streams begin with; the
// rest are data streams. They are measured as the log counts records, before it
// compresses them.
var streamParts = []struct{ prefix, part string }{
	{ingest.Stream, "ingest"},
	{strings.TrimSuffix(action.OutboxStream("", ""), "/"), partOutboxes},
	{firehose.StreamName(""), "delivery streams"},
	{queue.StreamName(""), "queues"},
	{action.ChannelStream(""), "channels"},
	{audit.Stream, "audit"},
	{"$", "other streams"},
	{"", "data streams"},
}

// makeDisk makes the meter of the disk, which asks parts once the bridge runs.
func (a *assembly) makeDisk() error {
	d, elsewhere := a.cfg.Disk, ""
	if !sameDisk(a.cfg.DataDir, a.cfg.Objects.Dir) {
		elsewhere = "another disk"
	}
	parts := []disk.Part{
		{Name: partLog, Limit: int64(d.Log), Refuses: true},
		{Name: partWAL, Within: partLog},
	}
	limits := map[string]int64{"ingest": int64(a.cfg.Ingest.MaxBytes), partOutboxes: int64(d.Outboxes),
		"audit": int64(a.cfg.Audit.MaxBytes)}
	for _, s := range streamParts {
		parts = append(parts, disk.Part{Name: s.part, Within: partLog, Limit: limits[s.part]})
	}
	parts = append(parts, disk.Part{Name: partRegistry},
		disk.Part{Name: partObjects, Within: elsewhere, Limit: int64(d.Objects)},
		disk.Part{Name: partFunctions, Limit: int64(d.Functions)}, disk.Part{Name: partBackup, Limit: int64(d.Backup)})
	a.disk = disk.New(disk.Options{Dir: a.cfg.DataDir, Budget: int64(d.Budget), Reserve: int64(d.Reserve),
		Parts: parts, Log: a.log,
		Measure: []disk.Measure{a.measureLog, a.measureStreams, measureFiles(a.cfg.DataDir), a.measureObjects}})
	return nil
}

func (s *Server) measureLog(add func(disk.Use)) error {
	all, wal, err := s.store.DiskUsage()
	if err != nil {
		return err
	}
	add(disk.Use{Name: partLog, Used: all})
	add(disk.Use{Name: partWAL, Used: wal})
	return nil
}

func (s *Server) measureStreams(add func(disk.Use)) error {
	for _, info := range s.store.List() {
		size, err := s.store.Size(info.Name)
		if errors.Is(err, streams.ErrNotFound) {
			continue // it has just ended
		}
		if err != nil {
			return err
		}
		for _, p := range streamParts {
			if strings.HasPrefix(info.Name, p.prefix) {
				add(disk.Use{Name: p.part, Used: size.Bytes})
				break
			}
		}
	}
	return nil
}

// filesEvery is how often folders of files are walked, for nobody waits for that.
const filesEvery = time.Minute

// measureFiles measures parts that are files, whose owners do not count them.
func measureFiles(dir string) disk.Measure {
	var last []disk.Use
	var at time.Time
	return func(add func(disk.Use)) error {
		var errs []error
		if time.Since(at) > filesEvery {
			at, last = time.Now(), nil
			for _, f := range []struct{ name, part string }{{"registry.db", partRegistry}, {"shadow.db", partRegistry},
				{"lambda", partFunctions}, {"backup", partBackup}} {
				n, err := allocated(filepath.Join(dir, f.name))
				errs = append(errs, err)
				last = append(last, disk.Use{Name: f.part, Used: n})
			}
		}
		for _, u := range last {
			add(u)
		}
		return errors.Join(errs...)
	}
}

// measureObjects tells of buckets that have been counted.
func (s *Server) measureObjects(add func(disk.Use)) error {
	buckets, uploads := s.objects.Usage()
	all := uploads.Bytes
	for name, u := range buckets {
		all += u.Bytes
		add(disk.Use{Name: name, Of: partObjects, Used: u.Bytes, Limit: int64(s.cfg.Objects.MaxBucket)})
	}
	add(disk.Use{Name: partObjects, Used: all})
	return nil
}

// allocated returns what a file, or the files of a folder, take of the disk. What is
// not there, or has just gone, takes nothing.
func allocated(path string) (n int64, err error) {
	err = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = e.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // the others count all the same
		case err != nil:
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			n += st.Blocks * 512 // stat(2)
		}
		return nil
	})
	return n, err
}

// sameDisk says whether two folders are on one file system; of one that is not there
// it is asked of the folder above.
func sameDisk(a, b string) bool {
	device := func(path string) (uint64, bool) {
		for {
			var st syscall.Stat_t
			err := syscall.Stat(path, &st)
			if err == nil {
				return st.Dev, true
			}
			above := filepath.Dir(path)
			if !errors.Is(err, fs.ErrNotExist) || above == path {
				return 0, false
			}
			path = above
		}
	}
	one, ok := device(a)
	other, both := device(b)
	return ok && both && one == other
}

// disk tells of the disk as it was measured last.
func (x series) disk(s *Server) {
	st := s.disk.Status()
	used := func(part string, used, limit int64) {
		x.gauge("disk_used_bytes", "Bytes that a part of the bridge takes, as it counts them itself; disk: of "+
			"the file system.",
			float64(used), "part", part)
		if limit > 0 {
			x.gauge("disk_limit_bytes", "Bytes that it may take.", float64(limit), "part", part)
			x.gauge("disk_used_ratio", "The one by the other; above 0.8 there is a warning in the log.",
				float64(used)/float64(limit), "part", part)
		}
	}
	if st.Size > 0 {
		used("disk", st.Size-st.Free, st.Size-st.Reserve)
	}
	used("all", st.Used, st.Budget)
	for _, p := range st.Parts {
		if p.Of != partObjects { // buckets have metrics of their own
			used(p.Name, p.Used, p.Limit)
		}
	}
	is := func(refused bool) float64 {
		if refused {
			return 1
		}
		return 0
	}
	const help = "1 while the disk has too little room: for new data, and for what is made of it."
	x.gauge("disk_refuses", help, is(st.Refused != ""), "class", "data")
	x.gauge("disk_refuses", help, is(strings.HasSuffix(st.Refused, "growth")), "class", "growth")
	x.counter("disk_refused", "Times that something was refused, or had to wait, for want of room.",
		float64(st.RefusedData), "class", "data")
	x.counter("disk_refused", "Times that something was refused, or had to wait, for want of room.",
		float64(st.RefusedGrowth), "class", "growth")
}
