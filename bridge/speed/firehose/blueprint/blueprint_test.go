package blueprint

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/tidemill/tidemill/deploy/conformance"
)

type vector struct {
	Name      string
	In, Out   string
	InBase64  []byte
	OutBase64 []byte
	Result    string
}

func (v vector) check(t *testing.T) {
	t.Helper()
	in, want := []byte(v.In), v.Out
	if v.InBase64 != nil {
		in = v.InBase64
	}
	if v.OutBase64 != nil {
		want = string(v.OutBase64)
	}
	out, ok := Transform(v.Name, in)
	switch {
	case ok != (v.Result == "Ok"):
		t.Errorf("%s of %q: %v, want %s", v.Name, in, ok, v.Result)
	case ok && string(out) != want:
		t.Errorf("%s of %q:\n got %s\nwant %s", v.Name, in, out, want)
	case !ok && want != string(in):
		t.Errorf("%s of %q: a vector that changes what fails", v.Name, in)
	}
}

func TestVectors(t *testing.T) {
	n := 0
	for _, line := range append(conformance.Kind(t, "blueprint.jsonl", "blueprint"),
		conformance.Kind(t, "streams-hash.jsonl", "blueprint")...) {
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		v.check(t)
		n++
	}
	t.Logf("%d vectors", n)
}

func TestInvocations(t *testing.T) {
	for _, line := range conformance.Kind(t, "blueprint.jsonl", "blueprint-invocation") {
		var v struct {
			Name    string
			Records json.RawMessage
			Expect  []record
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		event := []byte(`{"invocationId":"i","deliveryStreamArn":"a","region":"r","records":` + string(v.Records) + `}`)
		answer, failed, err := Invoker{}.Invoke(t.Context(), Prefix+v.Name, event)
		var got document
		if err == nil {
			err = json.Unmarshal(answer, &got)
		}
		if err != nil || failed != "" || len(got.Records) != len(v.Expect) {
			t.Fatalf("%s: %s, %q, %v", v.Name, answer, failed, err)
		}
		for i, want := range v.Expect {
			if got.Records[i] != want {
				t.Errorf("%s: %+v, want %+v", v.Name, got.Records[i], want)
			}
		}
	}
	if _, _, err := (Invoker{}).Invoke(t.Context(), "syslog-to-csv", nil); err == nil {
		t.Error("a name without the prefix is accepted")
	}
	if _, failed, err := (Invoker{}).Invoke(t.Context(), Prefix+"syslog-to-csv", []byte("{}")); failed == "" ||
		err != nil {
		t.Errorf("no records: %q, %v", failed, err)
	}
}

func TestCleanCSV(t *testing.T) {
	for in, want := range map[string]string{
		"Jan 1 00:00:00 h p: m":           "Jan 1 00:00:00,h,p,,m\n",
		`Jan 1 00:00:00 h p[7]: a,"b"`:    `Jan 1 00:00:00,h,p,7,"a,""b"""` + "\n",
		"<34>Oct 11 22:14:15 mymachine a": "",
	} {
		if out, ok := Transform("syslog-to-csv-clean", []byte(in)); string(out) != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", in, out, ok)
		}
	}
}

// Whatever comes, JSON is JSON, and a record that fails is left alone.
func FuzzTransform(f *testing.F) {
	f.Add([]byte(`1.2.3.4 - - [15/Jul/2025:01:02:03 +0200] "GET / HTTP/1.1" 200 1`))
	f.Add([]byte("Oct 1 22:14:15 h p[1]: m\xff\xe2\x82"))
	f.Fuzz(func(t *testing.T, in []byte) {
		saved := base64.StdEncoding.EncodeToString(in)
		for name := range functions {
			out, ok := Transform(name, in)
			if base64.StdEncoding.EncodeToString(in) != saved {
				t.Fatalf("%s changed the record", name)
			}
			if ok && (name == "apachelog-to-json" || name == "syslog-to-json") && !json.Valid(out) {
				t.Fatalf("%s of %q: %q", name, in, out)
			}
		}
	})
}
