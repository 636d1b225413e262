// Package runtimeapi is Lambda's Runtime API (2018-06-01), by which one process
// of a function asks for work and answers. A Process is the state of that talk;
// its Handler serves it over a listener that this one process alone can reach.
//
// The clients that were run against it: aws-lambda-go 1.55 (answers in chunks
// with trailers), awslambdaric 4.2 (Python), and the two bootstraps of package
// bootstrap.
package runtimeapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// MaxAnswer is the largest answer, and maxSent what the API takes of one: 6 MiB
	// and 100 bytes (runtime emulator, MaxInvokeResponseSize).
	MaxAnswer = 6 << 20
	maxSent   = MaxAnswer + 100
	// MaxHeader bounds the header of a request: the cause of an error for tracing is
	// JSON of up to 1 MiB in a header of its own, which others stand beside.
	MaxHeader = 1<<20 + 64<<10
	// maxType bounds the type of an error, in bytes.
	maxType = 256

	version   = "/2018-06-01/runtime"
	errorType = "Lambda-Runtime-Function-Error-Type"
	errorBody = "Lambda-Runtime-Function-Error-Body"
)

// An Event is one call of the function.
type Event struct {
	ID            string // of the request
	Deadline      time.Time
	ARN           string // that was called
	Trace         string
	ClientContext string // JSON, "" for none
	Payload       []byte // JSON
}

// An Answer is what a process said to an event, or at its start.
type Answer struct {
	Payload []byte
	Failed  bool   // Payload is an error object, as the process wrote it
	Type    string // of the error, where the process named it
	// TooLarge is how many bytes the process said it sends, if that is more than
	// MaxAnswer, and maxSent+1 if it did not say; 0: the answer is here.
	TooLarge int64
}

// A Process is the talk with one process: it asks for an event, is given one,
// answers, and asks again. Its methods may be called from several goroutines, but
// only one Give at a time.
type Process struct {
	asked  chan struct{} // has one while the process waits for an event
	failed chan Answer   // the error of its start, at most one
	events chan *Event

	mu      sync.Mutex // guards what follows
	current string     // id of the event that is owed an answer; "": none
	last    string     // id of the one that was answered last
	answer  chan Answer
}

// New returns the talk with a process that has not asked yet.
func New() *Process {
	return &Process{asked: make(chan struct{}, 1), failed: make(chan Answer, 1), events: make(chan *Event)}
}

// Asked has a value when the process has asked for an event, the first time when
// its start is over.
func (p *Process) Asked() <-chan struct{} { return p.asked }

// Failed has the error that the process told of its start, after which it exits.
func (p *Process) Failed() <-chan Answer { return p.failed }

// Give hands e to the process, which has asked, and waits for the answer until
// ctx ends. The process then owes one: it must be ended.
func (p *Process) Give(ctx context.Context, e *Event) (Answer, error) {
	answer := make(chan Answer, 1)
	p.mu.Lock()
	p.current, p.answer = e.ID, answer
	p.mu.Unlock()
	select {
	case p.events <- e:
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
	}
	select { // a process may answer and end
	case a := <-answer:
		return a, nil
	default:
		return Answer{}, ctx.Err()
	}
}

// Handler serves the API to the process.
func (p *Process) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+version+"/invocation/next", p.next)
	mux.HandleFunc("POST "+version+"/invocation/{id}/response", p.respond)
	mux.HandleFunc("POST "+version+"/invocation/{id}/error", p.respond)
	mux.HandleFunc("POST "+version+"/init/error", p.initError)
	return mux
}

// next waits for an event, for as long as it takes.
func (p *Process) next(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	owes := p.current != ""
	p.mu.Unlock()
	if owes {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "an answer is owed: next cannot come before it")
		return
	}
	select {
	case p.asked <- struct{}{}:
	default: // it asked before and hung up
	}
	select {
	case e := <-p.events:
		h := w.Header()
		h.Set("Content-Type", "application/json") // of any other type Python makes raw bytes
		h.Set("Content-Length", strconv.Itoa(len(e.Payload)))
		h.Set("Lambda-Runtime-Aws-Request-Id", e.ID)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(e.Deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", e.ARN)
		h.Set("Lambda-Runtime-Trace-Id", e.Trace)
		if e.ClientContext != "" {
			h.Set("Lambda-Runtime-Client-Context", e.ClientContext)
		}
		_, _ = w.Write(e.Payload) // who is gone does not answer
	case <-r.Context().Done():
	}
}

// respond takes an answer or an error. The caller has it at once; the process is
// busy until it asks for the next event.
func (p *Process) respond(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !p.owes(w, id) {
		return
	}
	a, err := read(r)
	if err != nil { // the process broke off
		return
	}
	a.Failed = a.Failed || r.URL.Path == version+"/invocation/"+id+"/error"
	p.mu.Lock()
	taken := p.current == id
	if taken {
		p.answer <- a // has room for the one answer
		p.current, p.last = "", id
	}
	p.mu.Unlock()
	switch {
	case !taken:
		p.owes(w, id)
	case a.TooLarge > 0:
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", MaxAnswer))
	default:
		accept(w)
	}
}

// owes says whether an answer to id is owed, or tells the process why not.
func (p *Process) owes(w http.ResponseWriter, id string) bool {
	p.mu.Lock()
	current, last := p.current, p.last
	p.mu.Unlock()
	switch {
	case id == current:
		return true
	case id == last && current == "":
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "the answer was given before")
	default:
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
	}
	return false
}

func (p *Process) initError(w http.ResponseWriter, r *http.Request) {
	a, err := read(r)
	if err != nil {
		return
	}
	a.Failed = true
	select {
	case p.failed <- a:
		accept(w)
	default:
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "the error was told before")
	}
}

var errBroken = errors.New("runtimeapi: the process broke off")

// read reads an answer. Its error may come in trailers, when a function that
// streams has failed midway.
func read(r *http.Request) (Answer, error) {
	if r.ContentLength > maxSent {
		return Answer{TooLarge: r.ContentLength}, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxSent+1))
	switch {
	case err != nil:
		return Answer{}, errBroken
	case len(body) > maxSent:
		return Answer{TooLarge: maxSent + 1}, nil
	}
	a := Answer{Payload: body, Type: clip(r.Header.Get(errorType))}
	if t := r.Trailer.Get(errorType); t != "" {
		a.Failed, a.Type = true, clip(t)
		a.Payload, _ = json.Marshal(map[string]string{"errorType": a.Type, "errorMessage": ""}) // never fails
		if doc, err := base64.StdEncoding.DecodeString(r.Trailer.Get(errorBody)); err == nil && json.Valid(doc) {
			a.Payload = doc
		}
	}
	return a, nil
}

func clip(s string) string { return s[:min(len(s), maxType)] }

func accept(w http.ResponseWriter) { write(w, http.StatusAccepted, map[string]string{"status": "OK"}) }

func refuse(w http.ResponseWriter, status int, kind, message string) {
	write(w, status, map[string]string{"errorType": kind, "errorMessage": message})
}

func write(w http.ResponseWriter, status int, doc map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(doc) // who is gone does not listen
}
