package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// NewThing asks for a thing with an identity.
type NewThing struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint,omitempty"` // host:port for the device; "": the first of mqtt.server_names, else this host's name
	Sensor   string `json:"sensor,omitempty"`   // that the agent's configuration begins with, of Sensors; "" is none
	Data     string `json:"data,omitempty"`     // the agent's data_dir; "" is data
}

// Sensors are those that NewThing knows: what the device tells of itself, a
// BME280 on the bus of a Raspberry Pi's header, and one on a simulated board.
var Sensors = []string{"none", "host", "bme280", "sim"}

// An Identity is what a device needs to connect. The key is shown here once
// and kept nowhere.
type Identity struct {
	CertificateID string `json:"certificate_id"`
	Endpoint      string `json:"endpoint,omitempty"` // where the device will look for the bridge
	Note          string `json:"note,omitempty"`     // what keeps it from connecting there
	Key           string `json:"key"`                // PEM, PKCS #8
	Certificate   string `json:"certificate"`        // PEM
	CA            string `json:"ca"`                 // PEM
	AgentConfig   string `json:"agent_config"`       // TOML, for files named key.pem, cert.pem and ca.pem beside it
}

// ThingInfo describes one thing.
type ThingInfo struct {
	Name         string    `json:"name"`
	Certificates []string  `json:"certificates"`
	Since        time.Time `json:"since,omitzero"` // connected; zero if it is not
}

// CertificateInfo describes one certificate.
type CertificateInfo struct {
	ID       string   `json:"id"`
	Status   string   `json:"status"`
	Things   []string `json:"things"`
	Policies []string `json:"policies"`
}

// CertificateStatus asks for a new state.
type CertificateStatus struct {
	Status string `json:"status"`
}

// PolicyTarget names what a policy is attached to.
type PolicyTarget struct {
	Certificate string `json:"certificate"`
}

// postThing creates a thing, if there is none of that name, a certificate for
// it, and attaches both to each other and the standard policy.
func (s *Server) postThing(w http.ResponseWriter, r *http.Request) error {
	var in NewThing
	if err := readJSON(r, &in); err != nil {
		return err
	}
	endpoint, err := s.endpoint(in.Endpoint)
	if err != nil {
		return badRequest{err}
	}
	if in.Sensor = cmp.Or(in.Sensor, "none"); !slices.Contains(Sensors, in.Sensor) {
		return badRequest{fmt.Errorf("sensor %q: want one of %s", in.Sensor, strings.Join(Sensors, ", "))}
	}
	issued, err := s.pki.Issue(in.Name)
	if err != nil {
		return err
	}
	err = s.registry.Update(func(tx *registry.Tx) error {
		thing, err := tx.Thing(in.Name)
		if errors.Is(err, registry.ErrNotFound) {
			thing, err = registry.Thing{Name: in.Name}, nil
		}
		if err != nil {
			return err
		}
		_, err = tx.Provision(registry.Provision{Thing: thing, Certificate: issued.CertPEM,
			Policy: authz.ThingPolicyName, Document: authz.ThingPolicy(s.cfg.Account, s.cfg.Region)})
		return err
	})
	if err != nil {
		return err
	}
	var conf bytes.Buffer
	if err := agentConfig.Execute(&conf, map[string]any{"Thing": in.Name, "Endpoint": endpoint, "JSON": s.broker != nil,
		"Sensor": in.Sensor, "Data": cmp.Or(in.Data, "data")}); err != nil {
		return err
	}
	note := ""
	if host, _, _ := net.SplitHostPort(endpoint); s.broker == nil && !s.pki.Serves(host) {
		note = fmt.Sprintf("the bridge's certificate is not for %s, so the device will refuse it: add %q to mqtt.server_names and restart the bridge", host, host)
	}
	return writeJSON(w, Identity{CertificateID: issued.ID, Endpoint: endpoint, Note: note, Key: string(issued.KeyPEM), Certificate: string(issued.CertPEM),
		CA: string(s.pki.CA()), AgentConfig: conf.String()})
}

// agentConfig is a configuration that connects at once. It ends in the table
// uplink; what is appended may begin with keys of it.
var agentConfig = template.Must(template.New("agent.toml").Parse(`# tidemill-agent of {{.Thing}}. "tidemill-agent config sample" shows every key.
thing = {{printf "%q" .Thing}}
data_dir = {{printf "%q" .Data}}
{{if eq .Sensor "sim"}}
[board]                  # a simulated Raspberry Pi: try everything without hardware
kind = "sim"
{{end}}{{if eq .Sensor "host"}}
[[sensor]]               # the device itself: load, memory, disk, temperature of its processor
name = "vitals"
driver = "host"
every = "10s"
{{end}}{{if or (eq .Sensor "bme280") (eq .Sensor "sim")}}
[[sensor]]               # temperature, humidity and pressure
name = "climate"
driver = "bme280"
every = "{{if eq .Sensor "sim"}}2s{{else}}10s{{end}}"
[sensor.options]
bus = "/dev/i2c-1"
address = 0x76
{{end}}
[uplink]
endpoint = {{printf "%q" .Endpoint}}
ca = "ca.pem"
cert = "cert.pem"
key = "key.pem"
{{if .JSON}}format = "json"
{{end}}`))

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
		h, p := s.broker.address()
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

// deleteThing deletes a thing and takes it from its certificates; of
// ?certificates=delete also those certificates that are of no other thing.
// Rights that came from either are gone at once. Its shadows stay.
func (s *Server) deleteThing(w http.ResponseWriter, r *http.Request) error {
	name, with := r.PathValue("name"), r.URL.Query().Get("certificates") == "delete"
	out := []CertificateInfo{}
	err := s.registry.Update(func(tx *registry.Tx) error {
		out = out[:0]
		if _, err := tx.Thing(name); err != nil {
			return err
		}
		for _, id := range tx.ThingCertificates(name) {
			if err := tx.DetachThing(name, id); err != nil {
				return err
			}
			c, err := tx.Certificate(id)
			if err != nil {
				return err
			}
			info := CertificateInfo{id, string(c.Status), tx.CertificateThings(id), tx.CertificatePolicies(id)}
			if with && len(info.Things) == 0 {
				if c.Status == registry.Active {
					if err := tx.SetCertificateStatus(id, registry.Inactive); err != nil {
						return err
					}
				}
				if err := tx.DeleteCertificate(id, true); err != nil {
					return err
				}
				info.Status = "DELETED"
			}
			out = append(out, info)
		}
		return tx.DeleteThing(name, 0)
	})
	if err != nil {
		return err
	}
	return writeJSON(w, out)
}

func (s *Server) listThings(w http.ResponseWriter, _ *http.Request) error {
	since := map[string]time.Time{}
	s.gateway.Each(func(c *gateway.Client) { since[c.Session().Thing()] = c.ConnectedAt() })
	all := []ThingInfo{}
	err := s.registry.View(func(tx *registry.Tx) error {
		return pages(func(after string) (string, error) {
			page, next, err := tx.Things(after, registry.MaxPage, nil)
			for _, t := range page {
				all = append(all, ThingInfo{t.Name, tx.ThingCertificates(t.Name), since[t.Name]})
			}
			return next, err
		})
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// pages calls page with the after of each page until there is no next.
func pages(page func(after string) (next string, err error)) error {
	for after := ""; ; {
		next, err := page(after)
		if err != nil || next == "" {
			return err
		}
		after = next
	}
}

// listCertificates lists all certificates, or those of ?thing=NAME.
func (s *Server) listCertificates(w http.ResponseWriter, r *http.Request) error {
	all := []CertificateInfo{}
	err := s.registry.View(func(tx *registry.Tx) error {
		add := func(c registry.Certificate) {
			all = append(all, CertificateInfo{c.ID, string(c.Status), tx.CertificateThings(c.ID), tx.CertificatePolicies(c.ID)})
		}
		if thing := r.URL.Query().Get("thing"); thing != "" {
			if _, err := tx.Thing(thing); err != nil {
				return err
			}
			for _, id := range tx.ThingCertificates(thing) {
				c, err := tx.Certificate(id)
				if err != nil {
					return err
				}
				add(c)
			}
			return nil
		}
		return pages(func(after string) (string, error) {
			page, next, err := tx.Certificates(after, registry.MaxPage)
			for _, c := range page {
				add(c)
			}
			return next, err
		})
	})
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (s *Server) postCertificate(_ http.ResponseWriter, r *http.Request) error {
	var in CertificateStatus
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return s.registry.Update(func(tx *registry.Tx) error {
		return tx.SetCertificateStatus(r.PathValue("id"), registry.Status(in.Status))
	})
}

func (s *Server) listPolicies(w http.ResponseWriter, _ *http.Request) error {
	names := []string{}
	err := s.registry.View(func(tx *registry.Tx) error {
		return pages(func(after string) (string, error) {
			page, next, err := tx.Policies(after, registry.MaxPage)
			for _, p := range page {
				names = append(names, p.Name)
			}
			return next, err
		})
	})
	if err != nil {
		return err
	}
	return writeJSON(w, names)
}

// getPolicy answers with the document in effect.
func (s *Server) getPolicy(w http.ResponseWriter, r *http.Request) error {
	var out bytes.Buffer
	err := s.registry.View(func(tx *registry.Tx) error {
		doc, err := tx.PolicyDocument(r.PathValue("name"), 0)
		if err != nil {
			return err
		}
		return json.Indent(&out, bytes.TrimSpace(doc), "", "  ")
	})
	if err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(w)
	return err
}

func (s *Server) putPolicy(_ http.ResponseWriter, r *http.Request) error {
	doc, err := io.ReadAll(r.Body)
	if err != nil {
		return badRequest{err}
	}
	return s.registry.Update(func(tx *registry.Tx) error { return tx.PutPolicy(r.PathValue("name"), doc) })
}

func (s *Server) attachPolicy(_ http.ResponseWriter, r *http.Request) error {
	var in PolicyTarget
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return s.registry.Update(func(tx *registry.Tx) error { return tx.AttachPolicy(r.PathValue("name"), in.Certificate) })
}

func (s *Server) detachPolicy(_ http.ResponseWriter, r *http.Request) error {
	return s.registry.Update(func(tx *registry.Tx) error {
		return tx.DetachPolicy(r.PathValue("name"), r.PathValue("certificate"))
	})
}
