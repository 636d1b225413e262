package admin

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// NewThing asks for a thing with an identity.
type NewThing struct {
	Name string `json:"name"`
	// Endpoint is host:port for the device. "" is the first of mqtt.server_names,
	// else this host's name.
	Endpoint string `json:"endpoint,omitempty"`
	Sensor   string `json:"sensor,omitempty"` // that the agent's configuration begins with, of Sensors; "" is none
	Data     string `json:"data,omitempty"`   // the agent's data_dir; "" is data
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

// things are the registry's, with what devices need to be one.
type things struct {
	registry        registry.Store
	issuer          Issuer
	clients         Clients
	endpoint        func(given string) (string, error)
	broker          bool // devices connect to a broker instead of the bridge
	account, region string
}

// create makes a thing, if there is none of that name, a certificate for
// it, and attaches both to each other and the standard policy.
func (h *things) create(w http.ResponseWriter, r *http.Request) error {
	var in NewThing
	if err := readJSON(r, &in); err != nil {
		return err
	}
	endpoint, err := h.endpoint(in.Endpoint)
	if err != nil {
		return badRequest{err}
	}
	if in.Sensor = cmp.Or(in.Sensor, "none"); !slices.Contains(Sensors, in.Sensor) {
		return badRequest{fmt.Errorf("sensor %q: want one of %s", in.Sensor, strings.Join(Sensors, ", "))}
	}
	audit.Of(r.Context()).Name("things/" + in.Name)
	issued, err := h.issuer.Issue(in.Name)
	if err != nil {
		return err
	}
	err = inRegistry.Update(r.Context(), h.registry, func(tx records) error {
		thing, err := tx.Thing(in.Name)
		if errors.Is(err, registry.ErrNotFound) {
			thing, err = registry.Thing{Name: in.Name}, nil
		}
		if err != nil {
			return err
		}
		_, err = tx.Provision(registry.Provision{Thing: thing, Certificate: issued.CertPEM,
			Policy: authz.ThingPolicyName, Document: authz.ThingPolicy(h.account, h.region)})
		return err
	})
	if err != nil {
		return err
	}
	var conf bytes.Buffer
	if err := agentConfig.Execute(&conf, map[string]any{"Thing": in.Name, "Endpoint": endpoint, "JSON": h.broker,
		"Sensor": in.Sensor, "Data": cmp.Or(in.Data, "data")}); err != nil {
		return err
	}
	return writeJSON(w, Identity{CertificateID: issued.ID, Endpoint: endpoint, Note: h.note(endpoint),
		Key: string(issued.KeyPEM), Certificate: string(issued.CertPEM),
		CA: string(h.issuer.Trusted()), AgentConfig: conf.String()})
}

// note says what will keep a new device from connecting to endpoint.
func (h *things) note(endpoint string) string {
	if h.broker {
		return ""
	}
	var all []string
	if host, _, _ := net.SplitHostPort(endpoint); !h.issuer.Serves(host) {
		all = append(all, fmt.Sprintf("the bridge's certificate is not for %s, so the device will refuse it: "+
			"add %q to mqtt.server_names and restart the bridge, or have the certificate of mqtt.cert name it", host,
			host))
	}
	if file := h.issuer.Untrusted(); file != "" {
		all = append(all, fmt.Sprintf("ca.pem has not the CA of mqtt.cert, so the device will refuse the bridge: "+
			"put that CA at the end of %s and make this anew, or add it to the device's ca.pem", file))
	}
	return strings.Join(all, "; ")
}

// agentConfig is a configuration that connects at once. It ends in the table
// uplink; what is appended may begin with keys of it.
var agentConfig = template.Must(template.New("agent.toml").Parse(
	`# tidemill-agent of {{.Thing}}. "tidemill-agent config sample" shows every key.
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

// remove deletes a thing and takes it from its certificates; of
// ?certificates=delete also those certificates that are of no other thing.
// Rights that came from either are gone at once. Its shadows stay.
func (h *things) remove(w http.ResponseWriter, r *http.Request) error {
	name, with := r.PathValue("name"), r.URL.Query().Get("certificates") == "delete"
	out := []CertificateInfo{}
	err := inRegistry.Update(r.Context(), h.registry, func(tx records) error {
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

func (h *things) list(w http.ResponseWriter, _ *http.Request) error {
	since := map[string]time.Time{}
	h.clients.Each(func(c *gateway.Client) { since[c.Session().Thing()] = c.ConnectedAt() })
	all := []ThingInfo{}
	err := inRegistry.View(h.registry, func(tx records) error {
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
