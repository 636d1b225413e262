package admin

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
	functions "github.com/tidemill/tidemill/bridge/lambda/store"
)

// Functions are those that run on this machine.
type Functions struct {
	Store *functions.Store
	Calls *lambda.Manager
	Logs  *lambda.Logs
}

// FunctionInfo describes one function.
type FunctionInfo struct {
	Name     string    `json:"name"`
	Runtime  string    `json:"runtime"`
	Handler  string    `json:"handler"`
	Memory   int       `json:"memory_mb"`
	Timeout  int       `json:"timeout_s"`
	Modified time.Time `json:"modified"`
	// Counts since the start.
	Invocations uint64 `json:"invocations"`
	Errors      uint64 `json:"errors"`
	Throttles   uint64 `json:"throttles"`
	Processes   int    `json:"processes"`
}

// FunctionResult is what came of a call.
type FunctionResult struct {
	Answer json.RawMessage `json:"answer"` // or the error object
	Failed string          `json:"failed,omitempty"`
	Log    string          `json:"log"` // the last of it
}

// maxFunctionLog bounds how much of a log is sent.
const maxFunctionLog = 8 << 20

var errNoFunctions = badRequest{errors.New("the bridge runs no functions: lambda.enabled is not set")}

// functionsRows are about functions.
func functionsRows(o Options) []row {
	f := o.Functions
	return []row{
		see("GET /v1/functions", "ListFunctions", f.list),
		changeUnseen("POST /v1/functions/{name}/invocations", "InvokeFunction", f.invoke).upTo(lambda.MaxPayload),
		see("GET /v1/functions/{name}/log", "GetFunctionLog", f.log),
	}
}

func (f *Functions) list(w http.ResponseWriter, _ *http.Request) error {
	if f == nil {
		return errNoFunctions
	}
	all, stats := []FunctionInfo{}, f.Calls.Stats()
	for _, v := range f.Store.List() {
		st := stats[v.Function]
		all = append(all, FunctionInfo{v.Function, v.Runtime, v.Handler, v.Memory, v.Timeout, v.Modified,
			st.Invocations, st.Errors, st.Throttles, st.Processes})
	}
	return writeJSON(w, all)
}

func (f *Functions) invoke(w http.ResponseWriter, r *http.Request) error {
	if f == nil {
		return errNoFunctions
	}
	event, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	result, err := f.Calls.Call(r.Context(), lambda.Call{Function: r.PathValue("name"),
		Qualifier: r.URL.Query().Get("qualifier"), Payload: event})
	switch {
	case errors.Is(err, lambda.ErrPayload), errors.Is(err, lambda.ErrNotIsolated), errors.Is(err, functions.ErrInvalid):
		return badRequest{err}
	case err != nil:
		return err
	}
	answer := json.RawMessage(result.Payload)
	if !json.Valid(answer) {
		answer, _ = json.Marshal(string(result.Payload)) // never fails
	}
	return writeJSON(w, FunctionResult{answer, result.Failed, string(result.Log)})
}

func (f *Functions) log(w http.ResponseWriter, r *http.Request) error {
	if f == nil {
		return errNoFunctions
	}
	v, err := f.Store.Version(r.PathValue("name"), "") // and no path
	if err != nil {
		return err
	}
	text, err := f.Logs.Tail(v.Function, maxFunctionLog)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = w.Write(text)
	return err
}
