package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Broker is a foreign MQTT broker, joined in place of the device listener.
type Broker struct {
	URL          string   `toml:"url"`           // "" for none
	ClientID     string   `toml:"client_id"`     // what the clients' ids begin with; "" for one that is made
	Username     string   `toml:"username"`      //
	PasswordFile string   `toml:"password_file"` // 0600
	CA           string   `toml:"ca"`            // file of those who sign the broker's certificate; "" for the system's
	Cert         string   `toml:"cert"`          // file of the client certificate
	Key          string   `toml:"key"`           // file of its private key, 0600
	Share        string   `toml:"share"`         // group of the shared subscriptions
	Connections  int      `toml:"connections"`   // that take messages; 0: leave the group
	Subscribe    []string `toml:"subscribe"`
	Shadows      bool     `toml:"shadows"` // take what is on $aws/#, and answer shadow requests
	MaxInflight  int      `toml:"max_inflight"`
	KeepAlive    Duration `toml:"keep_alive"`
}

// check returns all that is wrong with the broker's settings.
func (b *Broker) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("broker."+format, args...)) }
	secure := false
	if b.URL != "" {
		u, err := url.Parse(b.URL)
		switch {
		case err != nil || !slices.Contains([]string{"tcp", "ssl", "ws", "wss"}, u.Scheme) || u.Hostname() == "" ||
			u.Port() == "":
			bad("url: want tcp://, ssl://, ws:// or wss:// with a host and a port")
		case u.User != nil:
			bad("url: has a user in it, want username and password_file")
		case (u.Scheme == "tcp" || u.Scheme == "ssl") && u.Path != "":
			bad("url: %q, want no path", b.URL)
		}
		secure = err == nil && (u.Scheme == "ssl" || u.Scheme == "wss")
	}
	if len(b.ClientID) > 100 || strings.ContainsAny(b.ClientID, "+#/$\x00") {
		bad("client_id: %q, want at most 100 bytes without + # / $", b.ClientID)
	}
	if b.PasswordFile != "" && b.Username == "" {
		bad("username: empty, and there is a password_file")
	}
	if (b.Cert == "") != (b.Key == "") {
		bad("cert: want cert and key, or neither")
	}
	if b.URL != "" && !secure && (b.CA != "" || b.Cert != "") {
		bad("url: %q has no TLS, and there is a ca or cert: want ssl:// or wss://", b.URL)
	}
	if b.Share == "" || strings.ContainsAny(b.Share, "+#/\x00") {
		bad("share: %q, want the name of a group without + # /", b.Share)
	}
	if b.Connections < 0 || b.Connections > 64 {
		bad("connections: %d, want 0 to leave the group, to 64", b.Connections)
	}
	if b.Connections > 0 && len(b.Subscribe) == 0 && !b.Shadows {
		bad("subscribe: empty, want topic filters such as \"#\"")
	}
	for _, f := range b.Subscribe {
		switch {
		case f == "":
			bad("subscribe: %q, want topic filters such as \"#\"", f)
		case f == "$aws" || strings.HasPrefix(f, "$aws/"):
			bad("subscribe: %q, want shadows = true, which takes all of $aws/#", f)
		case strings.HasPrefix(f, "$share/"):
			bad("subscribe: %q, want the filter alone: the group is broker.share", f)
		}
	}
	if b.MaxInflight < 1 || b.MaxInflight > 65535 {
		bad("max_inflight: %d, want 1 to 65535", b.MaxInflight)
	}
	if d := b.KeepAlive; d < Duration(time.Second) || d > Duration(time.Hour) {
		bad("keep_alive: %v, want 1s to 1h", d)
	}
	return errs
}
