package functions

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/firehose/transform"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

var (
	_ iotsql.Lambdas    = Statements{}
	_ transform.Invoker = Transforms{}
)

const functionARN = "arn:aws:lambda:eu-local-1:000000000000:function:f"

// A stand has one function, f.
type stand struct {
	failed string
	err    error
	queued []lambda.Call
}

func (s *stand) Invoke(_ context.Context, function, _ string, payload []byte, _ string) ([]byte, string, error) {
	return append([]byte(function+" "), payload...), s.failed, s.err
}

func (s *stand) Put(_ context.Context, c lambda.Call) (string, error) {
	s.queued = append(s.queued, c)
	return c.RequestID, s.err
}

func (s *stand) Parse(text string) (string, string, error) {
	name, ok := strings.CutPrefix(text, "arn:aws:lambda:eu-local-1:000000000000:function:")
	if !ok {
		return "", "", lambda.ErrNotFound
	}
	return name, "", nil
}

func (s *stand) Function(name, _ string) (*lambda.Function, error) {
	if name != "f" && name != functionARN {
		return nil, lambda.ErrNotFound
	}
	return &lambda.Function{}, nil
}

func TestCaller(t *testing.T) {
	s := &stand{}
	c := &Caller{Calls: s, Queue: s, Find: s}
	for text, want := range map[string]bool{functionARN: true, functionARN + "g": false, "f": false,
		"https://f": false} {
		if c.HasFunction(text) != want {
			t.Error(text)
		}
	}
	if (&Caller{}).HasFunction(functionARN) {
		t.Error("none has it")
	}
	got, err := Statements{c}.Invoke(t.Context(), functionARN, []byte("{}"))
	if string(got) != functionARN+" {}" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	s.failed = "Unhandled"
	if _, err := c.Ask(t.Context(), functionARN, nil); err == nil || !strings.Contains(err.Error(), "failed") {
		t.Error(err)
	}
}

func TestInvokeEvent(t *testing.T) {
	s := &stand{}
	c := &Caller{Calls: s, Queue: s, Find: s}
	if err := c.InvokeEvent(t.Context(), functionARN, "id", []byte("{}")); err != nil || len(s.queued) != 1 ||
		s.queued[0].RequestID != "id" || s.queued[0].Function != "f" {
		t.Error(s.queued, err)
	}
	if err := c.InvokeEvent(t.Context(), functionARN+"g", "id", nil); !errors.Is(err, action.ErrPermanent) ||
		strings.Contains(err.Error(), "permanent") {
		t.Error(err)
	}
	s.err = lambda.ErrTooLarge
	if err := c.InvokeEvent(t.Context(), functionARN, "id", nil); !errors.Is(err, action.ErrPermanent) {
		t.Error(err)
	}
	s.err = errors.New("the log is full")
	if err := c.InvokeEvent(t.Context(), functionARN, "id", nil); err == nil || errors.Is(err, action.ErrPermanent) {
		t.Error(err)
	}
}

func TestTransforms(t *testing.T) {
	s := &stand{}
	for err, want := range map[error]error{&lambda.ThrottledError{}: transform.ErrThrottled,
		lambda.ErrNotFound: transform.ErrNotFound, lambda.ErrNotIsolated: transform.ErrDenied, io.EOF: io.EOF} {
		s.err = err
		c := Transforms{&Caller{Calls: s, Queue: s, Find: s}}
		if _, _, got := c.Invoke(t.Context(), functionARN, nil); !errors.Is(got, want) {
			t.Errorf("%v: %v", err, got)
		}
	}
	_, _, err := Transforms{&Caller{}}.Invoke(t.Context(), functionARN, nil)
	if !errors.Is(err, transform.ErrNotFound) {
		t.Error(err)
	}
}

// A far has the functions of Lambda.
type far struct {
	asked []string
	err   error
}

func (f *far) Invoke(_ context.Context, arn string, payload []byte) ([]byte, string, error) {
	f.asked = append(f.asked, arn)
	return payload, "", f.err
}

// ARNs of other accounts and regions are Lambda's, and if the bridge runs no functions,
// all are.
func TestRemote(t *testing.T) {
	const own = "arn:aws:lambda:eu-local-1:000000000000:"
	const theirs = "arn:aws:lambda:us-east-1:000000000000:function:f"
	s := &stand{}
	for _, c := range []struct {
		runs   bool
		arn    string
		remote bool
	}{
		{true, functionARN, false}, {true, own + "function:none", false}, {true, theirs, true}, {true, theirs + ":live", true},
		{true, "f", false}, {true, "https://f", false}, {true, "arn:aws:lambda:us-east-1:1:function:f", false},
		{true, "arn:aws:lambda:us-east-1:000000000000:function:../f", false},
		{false, functionARN, true}, {false, theirs, true},
	} {
		f := &far{}
		caller := &Caller{Own: own, Remote: f}
		if c.runs {
			caller.Calls, caller.Queue, caller.Find = s, s, s
		}
		answer, err := Statements{caller}.Invoke(t.Context(), c.arn, []byte("{}"))
		if (len(f.asked) == 1) != c.remote || err != nil || c.remote && string(answer) != "{}" {
			t.Errorf("%v %s: asked %v: %s, %v", c.runs, c.arn, f.asked, answer, err)
		}
		if got := (Asked{caller}).HasFunction(c.arn); got != (c.remote || c.arn == functionARN) {
			t.Errorf("%v %s: there is one: %v", c.runs, c.arn, got)
		}
		if caller.HasFunction(theirs) {
			t.Error("it is not the bridge's")
		}
	}
	f := &far{err: &smithy.GenericAPIError{Code: "TooManyRequestsException"}}
	_, _, err := Transforms{&Caller{Remote: f}}.Invoke(t.Context(), theirs, nil)
	if !errors.Is(err, transform.ErrThrottled) || !strings.Contains(err.Error(), theirs) {
		t.Error(err)
	}
	if (&Caller{}).Any() || !(&Caller{Remote: f}).Any() {
		t.Error("Any")
	}
}
