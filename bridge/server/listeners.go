package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/tidemill/tidemill/bridge/access"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/speed/admission"
)

// closeListeners closes those that are open; it may be called again.
func (s *Server) closeListeners() error {
	open := []io.Closer{}
	for _, l := range []net.Listener{s.mqtt, s.admin} {
		if l != nil {
			open = append(open, l)
		}
	}
	if s.https != nil {
		open = append(open, s.https)
	}
	var errs []error
	for _, l := range open {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// listenHTTPS opens the listener of the AWS APIs and of MQTT beside them, if
// there is to be one.
func (s *Server) listenHTTPS(ctx context.Context) (err error) {
	c := s.cfg.HTTPS
	if c.Listen == "" {
		return nil
	}
	o := listen.HTTPSOptions{Address: c.Listen, TLS: s.pki.HTTPSConfig(), Idle: time.Duration(c.UnauthenticatedIdle),
		Limits: admission.Limits{Open: c.MaxConnections, PerAddress: c.MaxPerAddress,
			// A quarter is left to others than one address.
			Unauthenticated:           c.MaxUnauthenticated,
			UnauthenticatedPerAddress: c.MaxUnauthenticated - c.MaxUnauthenticated/4},
		// Where signatures are not verified, pages of other sites are kept away: they
		// could do all by the browser of whoever looks at them.
		OnlyKnownHosts: c.Permissive, Hosts: s.cfg.MQTT.ServerNames,
		Upgrade: s.authorizer.Upgrade, Handler: s.authorizer.Credentials(s.aws), ConnContext: access.WithPeer,
		Denied: s.refusals.Denied, Full: func() {
			s.refusals.Full("https.max_connections", c.MaxConnections)
		}, Log: s.log}
	switch c.Plaintext {
	case "on":
		o.Plaintext = func(net.Addr) bool { return true }
	case "loopback":
		o.Plaintext = listen.FromLoopback
	}
	if s.broker == nil {
		o.Gateway = s.gateway
	}
	if s.https, err = listen.OpenHTTPS(ctx, o); err == nil && c.Permissive {
		s.log.Warn("https.permissive is on: signatures are not verified, whoever reaches the port may do all",
			"https", s.httpsAddr())
	}
	return err
}

// serveHTTPS is the part that serves the HTTPS listener, if there is one.
func (s *Server) serveHTTPS() part {
	return part{"HTTPS listener", func(ctx context.Context) error {
		if s.https == nil {
			<-ctx.Done()
			return nil
		}
		return s.https.Run(ctx)
	}}
}

// httpsAddr is where the HTTPS listener is, "" for none.
func (s *Server) httpsAddr() string {
	if s.https == nil {
		return ""
	}
	return s.https.Addr().String()
}

// serve is a part that serves h on l by srv, or if l is nil nothing.
func (s *Server) serve(name string, l net.Listener, h http.Handler, srv *http.Server) part {
	return part{name, func(ctx context.Context) error {
		if l == nil {
			<-ctx.Done()
			return nil
		}
		return listen.ServeHTTP(ctx, l, h, srv, s.log)
	}}
}

// Listen opens the listeners, so that addresses are known before Run.
func (s *Server) Listen(ctx context.Context) error {
	var err error
	if s.keys.NeedsMigration() {
		if err := s.keys.Migrate(); err != nil {
			return err
		}
		if err := s.dir.Complete(s.version); err != nil {
			return err
		}
	}
	if s.broker == nil {
		l, err := listen.TCP(ctx, "mqtt.listen", s.cfg.MQTT.Listen)
		if err != nil {
			return err
		}
		conf := s.pki.MQTTConfig()
		if s.custom.Any() || len(s.cfg.Hooks) > 0 || s.caller.Any() { // one may be made later
			conf = s.pki.AuthorizerConfig()
		}
		s.mqtt = tls.NewListener(admission.Listener{Listener: l}, conf)
	}
	if err := s.listenHTTPS(ctx); err != nil {
		return errors.Join(err, s.closeListeners())
	}
	if s.cfg.Admin.Listen != "" && s.admin == nil { // else it is Start's
		if s.admin, err = listen.TCP(ctx, "admin.listen", s.cfg.Admin.Listen); err != nil {
			return errors.Join(err, s.closeListeners())
		}
	}
	s.listens = true
	return nil
}

// address is where l listens, "" for no listener.
func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// listensAt says whether the bridge itself listens at a port.
func (s *Server) listensAt(port uint16) bool {
	for _, at := range []string{address(s.mqtt), s.httpsAddr(), address(s.admin)} {
		if p, err := netip.ParseAddrPort(at); err == nil && p.Port() == port {
			return true
		}
	}
	return false
}
