package objects

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

const (
	// maxKey is S3's limit, bytes of UTF-8 (S3 user guide, object keys).
	maxKey = 1024
	// maxName is what a file system takes for one name (limits.h, NAME_MAX).
	maxName = 255
	// piece is how much of an escaped key one name has.
	piece = 200
)

// escapedKeys is where a bucket keeps the objects whose keys are no path there.
var escapedKeys = path.Join(own, "keys")

// checkKey says whether an object can be stored under key: 1 to 1,024 bytes
// without a zero byte.
func checkKey(key string) error {
	switch {
	case key == "" || len(key) > maxKey:
		return fmt.Errorf("%w: key of %d bytes: want 1 to %d", sink.ErrName, len(key), maxKey)
	case strings.IndexByte(key, 0) >= 0:
		return fmt.Errorf("%w: key %q holds a zero byte", sink.ErrName, key)
	}
	return nil
}

// isPath says whether key is a path in the bucket's folder: elements that are
// names of files, and none of them the store's own folder.
func isPath(key string) bool {
	if key == own || strings.HasPrefix(key, own+"/") {
		return false
	}
	for el := range strings.SplitSeq(key, "/") {
		if el == "" || el == "." || el == ".." || len(el) > maxName {
			return false
		}
	}
	return true
}

// escaped is the path in the bucket's folder of a key that is no path, or whose
// path is a folder: the key with "%", "/" and "." escaped, in pieces, each of
// which but the last is a folder with "+" behind.
func escaped(key string) string {
	text := strings.NewReplacer("%", "%25", "/", "%2F", ".", "%2E").Replace(key)
	at := escapedKeys
	for len(text) > piece {
		at, text = path.Join(at, text[:piece]+"+"), text[piece:]
	}
	return path.Join(at, text)
}

// unescape is the key of a path below escapedKeys; "" for none.
func unescape(at string) string {
	var text strings.Builder
	folders := strings.Split(at, "/")
	for i, name := range folders {
		if i < len(folders)-1 {
			name = strings.TrimSuffix(name, "+")
		}
		text.WriteString(name)
	}
	key, err := url.PathUnescape(text.String())
	if err != nil || checkKey(key) != nil || escaped(key) != path.Join(escapedKeys, at) {
		return ""
	}
	return key
}
