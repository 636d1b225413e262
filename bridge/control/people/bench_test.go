package people

import (
	"testing"

	"github.com/tidemill/tidemill/bridge/control/authz"
)

// BenchmarkRights asks what a request of the AWS APIs asks: before its body is read,
// and, where the user may not do the action to everything, about its resource.
func BenchmarkRights(b *testing.B) {
	d := open(b)
	for _, role := range []string{Admin, Operator, DeviceData} {
		ok(b, d.CreateUser(b.Context(), "a-"+role, []string{role}, nil))
	}
	ok(b, d.CreateUser(b.Context(), "a-policy", nil, inline("Allow", "kinesis:Put*", "arn:aws:kinesis:*:*:stream/a*")))
	known := authz.Context{SourceIP: "10.0.0.1", Keys: map[string][]string{"aws:requestedregion": {"eu-local-1"}}}
	for _, user := range []string{"a-admin", "a-operator", "a-device-data", "a-policy"} {
		id, _, err := d.CreateKey(b.Context(), user, nil)
		ok(b, err)
		b.Run(user, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := d.Key(id).Rights
				some, all := r.Scope("kinesis:PutRecord", known)
				if !some || !all && !r.Allow("kinesis:PutRecord", streamA, known) {
					b.Fatal("refused")
				}
			}
		})
	}
}
