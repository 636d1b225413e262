package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Remote is what became of the deviceConfiguration that the device was provisioned with.
// Its member "agent" is for the agent and has the tables and keys of the file; others are
// for other programs.
type Remote struct {
	State  string   // see the constants below
	Errors []string // why it is refused, each beginning with its key
}

// The values of Remote.State.
const (
	RemoteNone    = ""        // there is nothing for the agent in it
	RemoteApplied = "applied" // it holds where the file, the environment and flags say nothing else
	RemoteRefused = "refused" // something in it is wrong, so nothing of it holds
)

const (
	remoteMember  = "agent"
	maxRemote     = 64 << 10 // bytes of JSON
	maxRemoteList = 64       // sensors
	// What the bridge may make a device wait for, and fill, at most: a device that
	// cannot be reached cannot be corrected.
	maxRemoteBackoff = hour
	maxRemoteSpool   = 1 << 30
)

// remoteKeys are what the bridge may set, beside sensors: never who the device is, where
// its uplink connects or what is where on its disk. remote_sensor.go has the sensors.
var remoteKeys = map[string]bool{
	"log.level":         true,
	"spool.flush_every": true, "spool.max_bytes": true, "spool.max_age": true, "spool.overflow": true,
	"spool.max_writes": true, "spool.max_loss": true,
	"uplink.keepalive": true, "uplink.inflight": true, "uplink.backoff_max": true, "uplink.drain": true,
	"shadow.report_every": true,
}

// parseRemote returns the agent's part of a deviceConfiguration in the form of a file's
// tables, nil if there is none, and all that is wrong with it by itself.
func parseRemote(text []byte) (map[string]any, []error) {
	if len(text) > maxRemote {
		return nil, []error{fmt.Errorf("deviceConfiguration: %d bytes, want at most %d", len(text), maxRemote)}
	}
	var whole map[string]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&whole); err != nil {
		return nil, []error{fmt.Errorf("deviceConfiguration: %w", err)}
	} else if _, err := dec.Token(); err != io.EOF {
		return nil, []error{fmt.Errorf("deviceConfiguration: more than one value")}
	}
	part, ok := whole[remoteMember]
	if !ok {
		return nil, nil
	}
	var errs []error
	in, ok := fromJSON(part, remoteMember, &errs).(map[string]any)
	if !ok {
		return nil, wrong(part, remoteMember, "an object")
	}
	return in, append(errs, remoteDenied(in)...)
}

// fromJSON makes what a TOML file would give. A null is an error: what it would mean,
// nobody knows.
func fromJSON(v any, key string, errs *[]error) any {
	switch x := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(string(x), 10, 64); err == nil {
			return n
		}
		f, err := x.Float64()
		if err != nil {
			*errs = append(*errs, wrong(string(x), key, "a number that fits into 64 bits")...)
		}
		return f
	case map[string]any:
		out := map[string]any{}
		for k, v := range x {
			if got := fromJSON(v, key+"."+k, errs); got != nil {
				out[k] = got
			}
		}
		return out
	case []any:
		var tables []map[string]any
		list := make([]any, len(x))
		for i, v := range x {
			list[i] = fromJSON(v, key+"["+strconv.Itoa(i)+"]", errs)
			if m, ok := list[i].(map[string]any); ok {
				tables = append(tables, m)
			}
		}
		if len(tables) == len(list) && len(list) > 0 {
			return tables
		}
		return list
	case nil:
		*errs = append(*errs, wrong("null", key, "a value, or nothing at all")...)
	}
	return v
}

// remoteDenied takes out what is not for the bridge to set, and returns what that was.
func remoteDenied(in map[string]any) (errs []error) {
	deny := func(key, why string) { errs = append(errs, fmt.Errorf("%s: %s", key, why)) }
	const notHere = "not to be set by deviceConfiguration"
	for _, table := range slices.Sorted(maps.Keys(in)) {
		if table == "sensor" {
			continue
		}
		keys, ok := in[table].(map[string]any)
		if !ok {
			deny(table, notHere)
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if whole := table + "." + key; !remoteKeys[whole] {
				deny(whole, notHere)
				delete(keys, key)
			}
		}
		if len(keys) == 0 {
			delete(in, table)
		}
	}
	list, _ := in["sensor"].([]map[string]any)
	if len(list) > maxRemoteList {
		deny("sensor", fmt.Sprintf("%d, want at most %d", len(list), maxRemoteList))
	}
	for i, sn := range list {
		errs = append(errs, sensorDenied(fmt.Sprintf("sensor[%d].", i), sn)...)
	}
	return errs
}

// under is what holds of two tables, over's values before base's. Of sensors with one
// name, each key is taken by itself; those of over come first.
func under(over, base map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for key, v := range over {
		table, is := v.(map[string]any)
		below, was := base[key].(map[string]any)
		switch {
		case is && was:
			v = under(table, below)
		case key == "sensor":
			v = underSensors(v, base[key])
		}
		out[key] = v
	}
	return out
}

func underSensors(over, base any) any {
	list, ok := over.([]map[string]any)
	given, also := base.([]map[string]any)
	if !ok || !also {
		return over
	}
	byName := map[string]map[string]any{}
	for _, sn := range given {
		if name, ok := sn["name"].(string); ok {
			byName[name] = sn
		}
	}
	out := make([]map[string]any, 0, len(list)+len(given))
	merged := map[string]bool{}
	for _, sn := range list {
		name, _ := sn["name"].(string)
		both := maps.Clone(byName[name])
		if both == nil {
			both = map[string]any{}
		}
		maps.Copy(both, sn)
		out = append(out, both)
		merged[name] = true
	}
	for _, sn := range given {
		if name, ok := sn["name"].(string); !ok || !merged[name] {
			out = append(out, sn)
		}
	}
	return out
}

// checkRemote bounds what a configuration from afar may make of the whole, beside what
// holds for every configuration. before is the one without it.
func (c *Config) checkRemote(before *Config) []error {
	f := &findings{}
	if got := c.Uplink.BackoffMax; got != before.Uplink.BackoffMax && got > maxRemoteBackoff {
		f.bad("uplink.backoff_max", got, "at most "+maxRemoteBackoff.String()+" from deviceConfiguration")
	}
	if got := c.Spool.MaxBytes; got != before.Spool.MaxBytes && got > maxRemoteSpool {
		f.bad("spool.max_bytes", got, fmt.Sprintf("at most %d bytes from deviceConfiguration", int64(maxRemoteSpool)))
	}
	return f.errs
}

// renumber gives errors about sensors the number that the sensor has in the
// deviceConfiguration, in place of the one in the list of all.
func renumber(errs []error, all, given any) []error {
	merged, _ := all.([]map[string]any)
	list, _ := given.([]map[string]any)
	out := make([]error, len(errs))
	for i, err := range errs {
		out[i] = err
		rest, ok := strings.CutPrefix(err.Error(), "sensor[")
		digits, rest, _ := strings.Cut(rest, "]")
		n, bad := strconv.Atoi(digits)
		if !ok || bad != nil || n >= len(merged) {
			continue
		}
		name := fmt.Sprint(merged[n]["name"])
		if j := slices.IndexFunc(list, func(sn map[string]any) bool { return fmt.Sprint(sn["name"]) == name }); j >= 0 {
			out[i] = fmt.Errorf("sensor[%d]%s", j, rest)
		}
	}
	return out
}

// refuse says why a deviceConfiguration does not hold, once for each key.
func refuse(errs []error) Remote {
	r := Remote{State: RemoteRefused}
	seen := map[string]bool{}
	for _, err := range errs {
		key, _, _ := strings.Cut(err.Error(), ": ")
		if !seen[key] {
			seen[key] = true
			r.Errors = append(r.Errors, err.Error())
		}
	}
	slices.Sort(r.Errors)
	return r
}

// String is for people.
func (r *Remote) String() string {
	if r.State == RemoteRefused {
		return r.State + ": " + strings.Join(r.Errors, "; ")
	}
	return r.State
}
