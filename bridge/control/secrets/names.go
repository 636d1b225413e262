package secrets

import (
	"net/url"
	"regexp"
	"strings"
)

// Ends of files' names.
const (
	binarySuffix   = ".bin"
	previousSuffix = ".previous"
	newSuffix      = ".new" // of package durable, while it writes
)

// maxName is in bytes of a file's name without what is added to it; a file system
// takes 255. Secrets Manager takes names of 512 characters.
const maxName = 200

// namePattern is Secrets Manager's (API reference, CreateSecret).
var namePattern = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]+$`)

func validName(name string) bool {
	return namePattern.MatchString(name) && len(escape(name)) <= maxName
}

// escape makes a file's name of a secret's: "/" is %2F; a dot is %2E where the name
// begins with it or would end as other files do.
func escape(name string) string {
	name = strings.ReplaceAll(name, "/", "%2F")
	if strings.HasPrefix(name, ".") {
		name = "%2E" + name[1:]
	}
	for _, suffix := range []string{binarySuffix, previousSuffix, newSuffix} {
		if before, ok := strings.CutSuffix(name, suffix); ok {
			return before + "%2E" + suffix[1:]
		}
	}
	return name
}

func fileName(name string, binary bool) string {
	if binary {
		return escape(name) + binarySuffix
	}
	return escape(name)
}

// parseName is the inverse of fileName, with whether the value is the one of before;
// ok is false for files that are no secrets.
func parseName(file string) (name string, binary, previous, ok bool) {
	file, previous = strings.CutSuffix(file, previousSuffix)
	rest, binary := strings.CutSuffix(file, binarySuffix)
	name, err := url.PathUnescape(rest)
	return name, binary, previous, err == nil && validName(name) && escape(name) == rest
}
