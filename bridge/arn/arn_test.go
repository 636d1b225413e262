package arn

import (
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1":   "arn:aws:iot:eu-central-1:000000000000:thing/x:y",
		"cn-north-1":     "arn:aws-cn:iot:cn-north-1:000000000000:thing/x:y",
		"us-gov-west-1":  "arn:aws-us-gov:iot:us-gov-west-1:000000000000:thing/x:y",
		"eusc-de-east-1": "arn:aws-eusc:iot:eusc-de-east-1:000000000000:thing/x:y",
	} {
		got := IoT(region, "000000000000", "thing/x:y")
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if n, ok := Parse(got); !ok || n != (Name{Partition(region), "iot", region, "000000000000", "thing/x:y"}) {
			t.Errorf("%s is read as %+v, %v", got, n, ok)
		}
	}
}

func TestHost(t *testing.T) {
	for region, want := range map[string]string{"eu-local-1": "amazonaws.com", "us-gov-west-1": "amazonaws.com",
		"cn-north-1": "amazonaws.com.cn", "us-isob-east-1": "sc2s.sgov.gov"} {
		if got := Host(region); got != want {
			t.Errorf("%s: %s, want %s", region, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, text := range []string{"", "arn", "thing/x", "arn:aws:iot:r:a", "urn:aws:iot:r:a:x", "arn::iot:r:a:x",
		"arn:awsome:iot:r:a:x", "arn:gcp:iot:r:a:x"} {
		if n, ok := Parse(text); ok {
			t.Errorf("%q is read as %+v", text, n)
		}
	}
}

func TestBucket(t *testing.T) {
	for text, want := range map[string]string{Bucket("lake"): "lake", Bucket("lake/a:b"): "lake/a:b",
		"arn:aws-cn:s3:::lake": "lake"} {
		if got, ok := CutBucket(text); !ok || got != want {
			t.Errorf("%s names the bucket %q, %v; want %q", text, got, ok, want)
		}
	}
	for _, text := range []string{"lake", "arn:aws:sqs:::lake", "arn:aws:s3:eu-west-1::lake"} {
		if got, ok := CutBucket(text); ok {
			t.Errorf("%s names the bucket %q", text, got)
		}
	}
}

// What Parse reads is written again as it was, if the region has that partition.
func FuzzParse(f *testing.F) {
	f.Add("arn:aws:iot:eu-central-1:000000000000:thing/x")
	f.Add("arn:aws-cn:sqs:cn-north-1:1:a:b")
	f.Fuzz(func(t *testing.T, text string) {
		n, ok := Parse(text)
		if !ok {
			return
		}
		again := strings.Join([]string{"arn", n.Partition, n.Service, n.Region, n.Account, n.Resource}, ":")
		if again != text {
			t.Errorf("%q is read as %+v", text, n)
		}
		if n.Partition == Partition(n.Region) && Of(n.Service, n.Region, n.Account, n.Resource) != text {
			t.Errorf("%q is made again as %q", text, Of(n.Service, n.Region, n.Account, n.Resource))
		}
	})
}
