package lambda

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
)

// BenchmarkWarm measures calls of a process that runs, a function in Go with AWS's
// client: one by the bridge, and one under the least server that the client can speak
// to, in turns, so that both meet the same machine. What the first takes over the
// second is the bridge's; the rest is the process's own work, and the kernel's.
//
//	go test ./bridge/lambda -run '^$' -bench Warm
func BenchmarkWarm(b *testing.B) {
	program := goEcho(b)
	m, all := newManager(b, sandbox.Options{}, Options{Log: func(string) io.Writer { return io.Discard }})
	all.putDir(Function{Name: "echo", Runtime: "provided.al2023", Handler: "any", Reserved: -1}, program)
	bare := bareFunction(b, filepath.Join(program, "bootstrap"))
	calls := [2]func(){
		func() {
			if r := invoke(b, m, "echo", `{"a":1}`); r.Failed != "" {
				b.Fatalf("%s", r.Payload)
			}
		},
		func() { bare([]byte(`{"a":1}`)) },
	}
	calls[0]() // which starts it
	calls[1]()
	var took [2][]time.Duration
	for b.Loop() {
		for i, call := range calls {
			began := time.Now()
			call()
			took[i] = append(took[i], time.Since(began))
		}
	}
	at := func(i, percent int) float64 {
		slices.Sort(took[i])
		return float64(took[i][len(took[i])*percent/100].Microseconds())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(at(0, 50), "µs/p50")
	b.ReportMetric(at(0, 99), "µs/p99")
	b.ReportMetric(at(1, 50), "own-µs/p50")
	b.ReportMetric(at(1, 99), "own-µs/p99")
}

// bareFunction runs a function's program under a runtime API that hands out one event
// after the other, and returns what gives it one and waits for the answer.
func bareFunction(b *testing.B, program string) (call func(event []byte)) {
	events, answers := make(chan []byte), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case event := <-events:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "id-1")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
			_, _ = w.Write(event)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
		select {
		case answers <- struct{}{}:
		case <-r.Context().Done():
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "AWS_LAMBDA_RUNTIME_API="+l.Addr().String())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = server.Close()
		<-served
	})
	return func(event []byte) {
		events <- event
		<-answers
	}
}
