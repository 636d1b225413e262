package iot

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// controlPlane are the operations of AWS IoT's registry: a table over
// registry.Registry, which checks what it is given.
type controlPlane struct {
	account  string
	registry registry.Store
	issuer   *pki.PKI
	endpoint func() (string, error) // host:port of devices

	provision   *provision.Service
	authorizers Authorizers

	fleet dynamicGroups // nil: none
	index *index.Index  // nil: none
}

func (c *controlPlane) operations() []operation {
	var all []operation
	for _, rows := range [][]operation{c.things(), c.groups(), c.types(), c.billingGroups(), c.certificates(),
		c.policies(), c.tags(), c.events(), c.roleAliases(), c.customAuthorizers(), c.provisioning(), c.fleetIndex()} {
		all = append(all, rows...)
	}
	return append(all, operation{"DescribeEndpoint", "GET", "/endpoint", c.describeEndpoint})
}

// describeEndpoint tells where devices connect, with the port unless it is
// MQTT's; all of AWS's types are one here.
func (c *controlPlane) describeEndpoint(*wire.Request) (any, error) {
	address, err := c.endpoint()
	return map[string]string{"endpointAddress": strings.TrimSuffix(address, ":8883")}, err
}

func (c *controlPlane) arn(r *wire.Request, kind, name string) string {
	return arnOf(r, c.account, kind, name)
}

// nameOf takes the name out of an ARN of one of kinds; what is no ARN is a name.
func nameOf(text string, kinds ...string) (kind, name string, err error) {
	n, ok := arn.Parse(text)
	if !ok {
		return kinds[0], text, nil
	}
	for _, k := range kinds {
		if name, ok := strings.CutPrefix(n.Resource, k+"/"); ok && name != "" {
			return k, name, nil
		}
	}
	return "", "", fmt.Errorf("%w: %.200q is no ARN of %s", registry.ErrInvalid, text, strings.Join(kinds, " or "))
}

// certificateOf is the id of the certificate that a principal's ARN names.
func certificateOf(arn string) (string, error) {
	if arn == "" {
		return "", fmt.Errorf("%w: no principal", registry.ErrInvalid)
	}
	_, id, err := nameOf(arn, "cert")
	return id, err
}

// decode reads the body of a request; members that are not known are AWS's to
// have, and ignored.
func decode(r *wire.Request, in any) error {
	if len(r.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Body, in); err != nil {
		return fmt.Errorf("%w: body: %w", registry.ErrInvalid, err)
	}
	return nil
}

// page reads where a list goes on, and how long a page may be.
func page(r *wire.Request) (after string, n int, err error) {
	n = 25
	for _, name := range []string{"maxResults", "pageSize"} {
		if text := r.Query.Get(name); text != "" {
			if n, err = strconv.Atoi(text); err != nil || n < 1 || n > registry.MaxPage {
				return "", 0, fmt.Errorf("%w: %s: %.20q, want 1 to %d", registry.ErrInvalid, name, text,
					registry.MaxPage)
			}
		}
	}
	token := r.Query.Get("nextToken")
	if token == "" {
		token = r.Query.Get("marker")
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", 0, fmt.Errorf("%w: nextToken: not one that a list ended with", registry.ErrInvalid)
	}
	return string(b), n, nil
}

// token is where a list goes on after next; "" for the end.
func token(next string) string { return base64.RawURLEncoding.EncodeToString([]byte(next)) }

// instead puts AWS's own error in the place of a registry's, where the operation
// has one.
func instead(err, is error, code string, status int) error {
	if errors.Is(err, is) {
		return &wire.Error{Code: code, Status: status, Message: err.Error()}
	}
	return err
}

// seconds is a time as AWS's JSON has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// compact is a JSON document without space.
func compact(doc []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, doc) != nil {
		return string(doc)
	}
	return b.String()
}
