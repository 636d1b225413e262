package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda/runtimeapi"
)

// result is what a process answered, in the caller's terms.
func (i *instance) result(c *Call, a runtimeapi.Answer) *Result {
	r := &Result{Payload: a.Payload, Version: i.f.Version}
	switch {
	case a.TooLarge > 0:
		r.Failed = unhandled
		r.Payload = errorObject("Function.ResponseSizeTooLarge", fmt.Sprintf(
			"Response payload size exceeded maximum allowed payload size (%d bytes).", runtimeapi.MaxAnswer))
	case a.Failed:
		r.Failed = unhandled
		if !json.Valid(a.Payload) {
			r.Payload = errorObject(a.Type, strings.ToValidUTF8(string(a.Payload), "\ufffd"))
		}
	}
	return r
}

// lost is the result of a call whose process has ended, or is to be ended since it
// takes too long.
func (i *instance) lost(ctx context.Context, c *Call) *Result {
	r := &Result{Failed: unhandled, Version: i.f.Version}
	select {
	case <-i.process.Done():
	case <-ctx.Done():
		i.process.Kill()
		<-i.process.Done()
		text := fmt.Sprintf("Task timed out after %.2f seconds", i.f.Timeout.Seconds())
		i.log.line(fmt.Sprintf("%s %s %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), c.RequestID, text))
		r.Payload = errorObject("Sandbox.Timedout", "RequestId: "+c.RequestID+" Error: "+text)
		return r
	}
	end, kind := i.process.Err(), "Runtime.ExitError"
	text := "Runtime exited with error: " + end.Error()
	switch {
	case i.process.OutOfMemory():
		kind, text = "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"
	case end.Status == 0:
		text = "Runtime exited without providing a reason"
	}
	r.Payload = errorObject(kind, "RequestId: "+c.RequestID+" Error: "+text)
	return r
}

func errorObject(kind, message string) []byte {
	doc, _ := json.Marshal(struct { // never fails
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{kind, message})
	return doc
}

// finish writes the last lines of a call's log, and puts the end of all into r.
func (i *instance) finish(c *Call, r *Result, began time.Time) {
	i.process.Drain()
	took := time.Since(began)
	ms := func(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e6, 'f', 2, 64) }
	billed := took
	start := ""
	if i.cold > 0 {
		start = "Init Duration: " + ms(i.cold) + " ms\t"
		billed += i.cold
		i.cold = 0
	}
	used := (i.process.Peak() + 1<<20 - 1) >> 20
	r.Log = i.log.end(fmt.Sprintf("END RequestId: %s\nREPORT RequestId: %[1]s\t"+
		"Duration: %s ms\tBilled Duration: %.0f ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t%s\n",
		c.RequestID, ms(took), math.Ceil(float64(billed)/1e6), i.f.Memory, used, start))
}

// trace is a header of tracing for a call: nothing is sampled here. SDKs send it with
// the requests that a function makes, and so its Lineage counts a chain of calls.
func trace(c *Call, at time.Time) string {
	hex := strings.ReplaceAll(c.RequestID, "-", "")
	hex += strings.Repeat("0", 24)
	return fmt.Sprintf("Root=1-%08x-%.24s;Sampled=0;Lineage=1:%08x:%d", at.Unix(), hex,
		crc32.ChecksumIEEE([]byte(c.Function)),
		c.Depth+1)
}

// Depth is that of a call which comes with a header of tracing: how many calls of
// functions led to it. It is 0 for what is no header of ours.
func Depth(header string) int {
	for part := range strings.SplitSeq(header, ";") {
		if lineage, ok := strings.CutPrefix(strings.TrimSpace(part), "Lineage="); ok {
			n, err := strconv.Atoi(lineage[strings.LastIndexByte(lineage, ':')+1:])
			if err != nil || n < 0 {
				return 0
			}
			return n
		}
	}
	return 0
}

// A callLog takes what a process writes: the last of each call is kept, and all of
// it goes to the function's log.
type callLog struct {
	to io.Writer // nil: nowhere

	mu   sync.Mutex // guards tail
	tail []byte
}

func newCallLog(open func(string) io.Writer, function string) *callLog {
	l := &callLog{}
	if open != nil {
		l.to = open(function)
	}
	return l
}

// begin forgets what was kept and begins with a line.
func (l *callLog) begin(line string) {
	l.mu.Lock()
	l.tail = l.tail[:0]
	l.mu.Unlock()
	l.line(line)
}

func (l *callLog) line(line string) { _, _ = l.Write([]byte(line)) } // never fails

// end writes a line and returns what is kept.
func (l *callLog) end(line string) []byte {
	l.line(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]byte(nil), l.tail...)
}

// Write implements io.Writer; it never fails.
func (l *callLog) Write(b []byte) (int, error) {
	if l.to != nil {
		_, _ = l.to.Write(b) // a log that cannot be written does not hold the function
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, b[max(0, len(b)-TailSize):]...)
	if extra := len(l.tail) - TailSize; extra > 0 {
		l.tail = append(l.tail[:0], l.tail[extra:]...)
	}
	return len(b), nil
}
