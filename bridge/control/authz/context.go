package authz

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
)

const attributesKey = "iot:connection.thing.attributes["

// normalKey returns a condition key or variable name for comparison: names
// count without regard to case, attribute names inside the brackets as written.
func normalKey(name string) string {
	name = strings.TrimSpace(name)
	if i := strings.IndexByte(name, '['); i >= 0 {
		return strings.ToLower(name[:i]) + name[i:]
	}
	return strings.ToLower(name)
}

// timeKey says whether a key changes while the connection lives.
func timeKey(key string) bool { return key == "aws:currenttime" || key == "aws:epochtime" }

func (c *Context) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// connecting returns the thing whose variables resolve, or nil.
func (c *Context) connecting() *Thing {
	if c.Thing != nil && c.ClientID != "" && c.Thing.Name == c.ClientID && c.Thing.Attached {
		return c.Thing
	}
	return nil
}

// lookup returns the values of a condition key, nil if it is absent. Keys on
// the CONNECT packet exist only if connect is set.
func (c *Context) lookup(key string, connect bool) []string {
	switch key {
	case "iot:clientid":
		return present(c.ClientID)
	case "iot:certificateid":
		if c.Certificate == nil {
			return nil
		}
		return present(c.Certificate.ID)
	case "aws:sourceip":
		return present(c.SourceIP)
	case "aws:securetransport":
		return []string{strconv.FormatBool(!c.Insecure)}
	case "aws:currenttime":
		return []string{c.now().UTC().Format(time.RFC3339Nano)}
	case "aws:epochtime":
		return []string{strconv.FormatInt(c.now().Unix(), 10)}
	case "iot:connection.thing.isattached":
		if c.ClientID == "" {
			return nil
		}
		return []string{strconv.FormatBool(c.connecting() != nil)}
	case "iot:connection.thing.thingname", "iot:thing.thingname":
		if t := c.connecting(); t != nil {
			return present(t.Name)
		}
		return nil
	case "iot:connection.thing.thingtypename":
		if t := c.connecting(); t != nil {
			return present(t.Type)
		}
		return nil
	case "iot:connectattributes":
		var v []string
		if connect && c.Persistent {
			v = append(v, "PersistentConnect")
		}
		if connect && c.Will != "" {
			v = append(v, "LastWill")
		}
		return v
	case "iot:lastwilltopic":
		if !connect || c.Will == "" {
			return nil
		}
		return []string{arn.IoT(c.Region, c.Account, "topic/"+c.Will)}
	}
	if name, ok := strings.CutPrefix(key, attributesKey); ok {
		t := c.connecting()
		if t == nil || !strings.HasSuffix(name, "]") {
			return nil
		}
		if v, ok := t.Attributes[strings.TrimSuffix(name, "]")]; ok {
			return []string{v}
		}
		return nil
	}
	if strings.HasPrefix(key, "iot:certificate.") {
		if c.Certificate == nil {
			return nil
		}
		return c.Certificate.lookup(strings.TrimPrefix(key, "iot:certificate."))
	}
	for k, v := range c.Keys {
		if normalKey(k) == key {
			return v
		}
	}
	return nil
}

func present(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

// variable returns what a policy variable stands for. Keys with several values
// (.List, iot:ConnectAttributes) and the time are no variables.
func (c *Context) variable(name string) (string, bool) {
	if timeKey(name) || strings.HasSuffix(name, ".list") {
		return "", false
	}
	v := c.lookup(name, false)
	if len(v) != 1 {
		return "", false
	}
	if strings.HasPrefix(name, "iot:certificate.") && !substitutable(v[0]) {
		return "", false
	}
	return v[0], true
}

// substitutable applies AWS's limits on certificate values in a resource: at
// most 1024 characters, none of them a wildcard of policies or of MQTT.
func substitutable(v string) bool {
	return len(v) <= 1024 && !strings.ContainsAny(v, "*$+?#")
}

// parseIP reads an address as found in a condition or a connection.
func parseIP(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err == nil
}

// sorted returns the keys of m in order.
func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
