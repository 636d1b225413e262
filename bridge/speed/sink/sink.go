// Package sink is where data leaves the bridge: the contract of a store of
// objects. Package objects is the embedded one.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrName means that a bucket or key cannot be had in this store, ever; a
// retry would not help.
var ErrName = errors.New("sink: name cannot be stored")

// ErrNotFound means that there is no object of that name.
var ErrNotFound = errors.New("sink: no such object")

// Objects is a store of named objects, S3 or like it.
type Objects interface {
	// Put stores what write writes under bucket and key, replacing an older
	// object of that name as a whole. When it returns nil the object is on
	// disk; when it fails no part of it can be seen. write may be called again
	// on a later Put of the same name and must then write the same.
	Put(ctx context.Context, bucket, key string, write func(io.Writer) error) error
}

// A Getter is a store of objects that can be read.
type Getter interface {
	// Get returns an object of at most most bytes, and a tag that only the same
	// content has. One that is not there is ErrNotFound.
	Get(ctx context.Context, bucket, key string, most int) (data []byte, tag string, err error)
}

// CheckBucket applies S3's naming rules: 3 to 63 lower-case letters, digits,
// dots and hyphens, beginning and ending with a letter or digit (S3 user
// guide, bucket naming rules).
func CheckBucket(name string) error {
	bad := len(name) < 3 || len(name) > 63
	for i := 0; i < len(name) && !bad; i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		edge := i == 0 || i == len(name)-1
		bad = !alnum && (edge || c != '.' && c != '-')
	}
	if bad {
		return fmt.Errorf("%w: bucket %q: want 3 to 63 of a-z 0-9 . -", ErrName, name)
	}
	return nil
}

// A Refusal is an item that a store did not take.
type Refusal struct {
	Index     int // among those that were handed to it
	Err       error
	Permanent bool // sending it again is no use
}

// maxKey is S3's limit, bytes of UTF-8 (S3 user guide, object keys).
const maxKey = 1024

// CheckKey says whether key is a plain path, as keys of deliveries are: 1 to
// 1,024 bytes, and between its slashes names of files.
func CheckKey(key string) error {
	switch {
	case key == "" || len(key) > maxKey:
		return fmt.Errorf("%w: key of %d bytes: want 1 to %d", ErrName, len(key), maxKey)
	case strings.ContainsRune(key, 0):
		return fmt.Errorf("%w: key %q holds a zero byte", ErrName, key)
	}
	for _, el := range strings.Split(key, "/") {
		if el == "" || el == "." || el == ".." || len(el) > 255 {
			return fmt.Errorf("%w: key %q: %q cannot be a file's name", ErrName, key, el)
		}
	}
	return nil
}
