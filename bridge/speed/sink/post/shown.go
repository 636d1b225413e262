package post

import (
	"net/url"
	"strings"
)

// Shown is the name of a target as it is logged: of a URL of HTTP its scheme and host
// alone, for what comes behind may be a key. Other names are shown as they are.
func Shown(name string) string {
	scheme, _, ok := strings.Cut(strings.TrimSpace(name), "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return name
	}
	u, err := url.Parse(strings.TrimSpace(name))
	if err != nil {
		return scheme + "://"
	}
	return scheme + "://" + u.Host
}
