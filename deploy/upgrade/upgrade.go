// Package upgrade shows that data of an earlier version opens in this one.
//
// testdata has, for each earlier version, what a bridge and an agent of it left
// behind when they were killed under load (NAME.tar.gz), and what had been
// acknowledged to their clients by then (NAME.json, a Manifest). The test opens a
// copy with the programs of today and looks for all of it, once each.
//
// Leave makes such a pair; README.md says how to add a version.
package upgrade

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A Manifest says what was acknowledged before the programs were killed.
type Manifest struct {
	Version string    `json:"version"` // what the programs said of themselves
	Made    time.Time `json:"made"`

	Answers []Answer  `json:"answers"` // of the AWS APIs, at a time after which nothing changed them
	Counted []Counted `json:"counted"` // published on dt/{thing}/counter
	// published on q/{life}, and by a rule on out/{life}, for the session of client Subscriber, which was away
	Queued   []Counted   `json:"queued"`
	Records  []Record    `json:"records"`  // put to the stream StreamPut
	Mixed    int         `json:"mixed"`    // records of StreamMixed; 0: there is neither that nor the bucket Held
	Retained [][2]string `json:"retained"` // topic and payload, by topic

	Users []map[string]any `json:"users,omitempty"` // with roles, policies and keys, as `user list -json` has them
	Keys  []Key            `json:"keys,omitempty"`  // of users, also those that were taken back
	Audit []string         `json:"audit,omitempty"` // ids of the records of the audit log, in their order

	// Agent is what the agent Device said at the end of its spool: so many
	// readings had reached its disk, and so many of these its bridge.
	Agent struct {
		Appended uint64 `json:"appended"`
		Acked    uint64 `json:"acked"`
	} `json:"agent"`
}

// An Answer is what the API answered to a GET.
type Answer struct {
	Service string          `json:"service"` // that the request was signed for
	Path    string          `json:"path"`
	Answer  json.RawMessage `json:"answer"`
}

// Counted messages carry the numbers 1 to Sent, those up to Acked were
// acknowledged.
type Counted struct {
	Thing string `json:"thing"`
	Life  int    `json:"life"`
	Sent  int    `json:"sent"`
	Acked int    `json:"acked"`
}

// A Record is one of a stream.
type Record struct {
	Shard  string `json:"shard"`
	Number string `json:"number"`
	Data   string `json:"data"`
}

// Names that the data have.
const (
	Device         = "pi-1"     // a thing with an agent, its folder is Device
	Operator       = "operator" // a thing that may do everything, its folder is Operator
	Subscriber     = "sub"      // client id of the session for which messages wait
	StreamReadings = "readings" // of all that comes on dt/#
	StreamPut      = "put"      // of PutRecords, resharded
	Archive        = "archive"  // delivery stream and bucket of all that comes on dt/#
	Held           = "held"     // bucket that could not be written, a delivery stream and a connector into it
	StreamMixed    = "mixed"    // of records of which some are no JSON
	StreamSorted   = "sorted"   // those that are, by a connector
)

// pack writes the regular files below dir to the archive at path.
func pack(dir, path string) (err error) {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Typeflag: tar.TypeDir}
		if e.IsDir() {
			return w.WriteHeader(h)
		}
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	return errors.Join(err, w.Close(), z.Close())
}

// unpack writes the files of the archive at path below dir.
func unpack(path, dir string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%s: %s is outside", path, h.Name)
		}
		to := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(to, fs.FileMode(h.Mode)); err != nil {
				return err
			}
			continue
		}
		f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fs.FileMode(h.Mode))
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}
