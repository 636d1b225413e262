package vault

import (
	"context"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A Target keeps objects under names. Several goroutines may use it.
//
// Names are a folder's and a file's, or a file's alone; see validName. Errors wrap
// ErrNotFound, ErrExists, ErrDamaged and ErrFull where they apply.
type Target interface {
	// Put stores size bytes of r as an object, whole or not at all. When it returns
	// nil they are durable. A name that is taken is refused with ErrExists, and keeps
	// what it has.
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	// Get reads length bytes of an object from an offset, or up to its end if length
	// is negative. The caller closes what is returned.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// List yields the objects whose names begin with a folder, "packs/", or all for "".
	List(ctx context.Context, folder string) iter.Seq2[Entry, error]
	// Delete removes an object. One that is gone already is no error.
	Delete(ctx context.Context, name string) error
	// String is where the target is, for messages.
	String() string
}

// An Entry is an object in a list.
type Entry struct {
	Name     string
	Size     int64
	Modified time.Time // by the target's clock
}

// TargetOptions are the settings of a Target. The zero value is usable.
type TargetOptions struct {
	// MaxBandwidth bounds what is sent to the target, and what is read of it, in
	// bytes per second; 0: it is not bounded. The least is MinBandwidth.
	MaxBandwidth int64
	// Where an S3 target is and who calls it, as for sinks. What is empty is found as
	// AWS's tools find it.
	Region, EndpointURL, Profile, RoleARN string
}

// MinBandwidth is the least TargetOptions.MaxBandwidth, bytes per second. A pack then
// takes 17 minutes, which is less than a lock lasts without a sign of life.
const MinBandwidth = 16 << 10

// Open returns the target at url: an absolute path, or s3://bucket/prefix. A folder
// is created when it is first written to. Nothing is asked yet.
func Open(ctx context.Context, url string, o TargetOptions) (Target, error) {
	if o.MaxBandwidth != 0 && o.MaxBandwidth < MinBandwidth {
		return nil, fmt.Errorf("max_bandwidth: %d, want at least %d bytes per second", o.MaxBandwidth, MinBandwidth)
	}
	if bucket, ok := strings.CutPrefix(url, "s3://"); ok {
		return openS3(ctx, bucket, o)
	}
	if !filepath.IsAbs(url) || filepath.Clean(url) == "/" {
		return nil, fmt.Errorf("target %q: want the absolute path of a folder, or s3://bucket/prefix", url)
	}
	return &directory{path: filepath.Clean(url), pace: newPace(o.MaxBandwidth)}, nil
}

// validName is of objects: at most one folder, no dots at the beginning.
var validName = regexp.MustCompile(`^([a-z]{1,32}/)?[A-Za-z0-9][A-Za-z0-9.-]{0,159}$`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%.200q is no name of an object", name)
	}
	return nil
}
