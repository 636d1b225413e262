package server

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"strings"
)

// endpoint completes host:port where one of them is missing.
func (s *Server) endpoint(given string) (string, error) {
	var host, port string
	if given != "" {
		var err error
		if host, port, err = net.SplitHostPort(given); err != nil {
			return "", fmt.Errorf("endpoint: %w", err)
		}
	}
	if strings.ContainsFunc(host+port, func(r rune) bool { return r <= ' ' || r == '"' || r == '\\' || r >= 0x7f }) {
		return "", fmt.Errorf("endpoint: %q is no host:port", given)
	}
	if s.broker != nil {
		h, p := brokerAddress(s.cfg.Broker)
		host, port = cmp.Or(host, h), cmp.Or(port, p)
	}
	if host == "" {
		host = s.reachedAs()
	}
	if host == "" {
		var err error
		if host, err = os.Hostname(); err != nil {
			return "", err
		}
	}
	if port == "" {
		listen := s.cfg.MQTT.Listen
		if s.mqtt != nil {
			listen = s.mqtt.Addr().String()
		}
		var err error
		if _, port, err = net.SplitHostPort(listen); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, port), nil
}

// reachedAs is the name by which devices find the bridge as far as the
// configuration tells, "" where it does not.
func (s *Server) reachedAs() string {
	for _, n := range s.cfg.MQTT.ServerNames {
		if !strings.HasPrefix(n, "*") {
			return n
		}
	}
	host, _, _ := net.SplitHostPort(s.cfg.MQTT.Listen)
	switch ip := net.ParseIP(host); {
	case ip.IsLoopback():
		return "localhost"
	case ip.IsUnspecified():
		return ""
	}
	return host
}
