package lambda

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
)

// runtimeDir is where a process in namespaces finds the bootstraps.
const runtimeDir = "/var/runtime"

// reserved are variables that a function's configuration cannot set (Lambda
// developer guide, defined runtime environment variables).
var reserved = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
	"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
	"AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
	"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API",
	"AWS_LAMBDA_MAX_CONCURRENCY", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
}

// maxEnvironment bounds names and values of a function's variables together: 4 KB
// (Lambda quotas).
const maxEnvironment = 4 << 10

// variable is the pattern of a name (Lambda API reference, Environment).
var variable = regexp.MustCompile(`^[a-zA-Z]\w+$`)

// CheckEnvironment returns an error if a function may not have the variables.
func CheckEnvironment(variables map[string]string) error {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value := variables[name]
		size += len(name) + len(value)
		if slices.Contains(reserved, name) {
			return fmt.Errorf("environment: %s is reserved", name)
		}
		if !variable.MatchString(name) {
			return fmt.Errorf("environment: %.60q, want letters, digits and underscores, at least two, "+
				"the first a letter", name)
		}
		if strings.ContainsRune(value, 0) {
			return fmt.Errorf("environment: %s has a zero byte", name)
		}
	}
	if size > maxEnvironment {
		return fmt.Errorf("environment: %d bytes, want at most %d", size, maxEnvironment)
	}
	return nil
}

// A place is where a process finds what is its own.
type place struct {
	task, runtime string
	api           string // host:port of the Runtime API
	proxy         string // host:port of the proxy to the outside; "": none
	endpoint      string // host:port of the bridge's APIs; "": none
}

// environment is all that a process has in its environment. The bridge's own is no
// part of it.
func (m *Manager) environment(f *Function, p place, stream string, key Key) []string {
	v := map[string]string{
		"LANG":            "C.UTF-8",
		"TZ":              ":UTC",
		"PATH":            "/usr/local/bin:/usr/bin:/bin:/opt/bin",
		"LD_LIBRARY_PATH": p.task + ":" + p.task + "/lib:/opt/lib",
		"NODE_PATH":       "/opt/nodejs/node_modules:" + p.task,
		"PYTHONPATH":      "/opt/python:" + p.runtime,
	}
	if p.endpoint != "" {
		v["AWS_ENDPOINT_URL"] = "http://" + p.endpoint
	}
	maps.Copy(v, f.Environment)
	if p.proxy != "" {
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
			v[name] = "http://" + p.proxy
		}
		here := strings.TrimSuffix(p.api+","+p.endpoint, ",")
		v["NO_PROXY"], v["no_proxy"] = here, here
	}
	if key.ID != "" {
		v["AWS_ACCESS_KEY_ID"], v["AWS_SECRET_ACCESS_KEY"], v["AWS_SESSION_TOKEN"] = key.ID, key.Secret, key.Token
	}
	maps.Copy(v, m.o.Environment)
	maps.Copy(v, map[string]string{
		"_HANDLER":                        f.Handler,
		"AWS_REGION":                      m.o.Region,
		"AWS_DEFAULT_REGION":              m.o.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     f.Version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.Memory),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + f.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      stream,
		"AWS_LAMBDA_RUNTIME_API":          p.api,
		"LAMBDA_TASK_ROOT":                p.task,
		"LAMBDA_RUNTIME_DIR":              p.runtime,
	})
	if !strings.HasPrefix(f.Runtime, "provided") {
		v["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + f.Runtime
	}
	env := make([]string, 0, len(v))
	for _, name := range slices.Sorted(maps.Keys(v)) {
		env = append(env, name+"="+v[name])
	}
	return env
}

// at is where a process finds what is its own.
func (m *Manager) at(task string) place {
	if m.box.Means().Isolated() {
		return place{task: sandbox.TaskRoot, runtime: runtimeDir}
	}
	return place{task: task, runtime: m.o.Runtime}
}
