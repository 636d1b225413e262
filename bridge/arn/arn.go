// Package arn makes and reads Amazon Resource Names, by which APIs and policies
// know what they are about: arn:partition:service:region:account:resource.
package arn

import "strings"

// Parts is how many parts a name has. Only the last, the resource, may hold colons.
const Parts = 6

// A Name is one taken apart.
type Name struct{ Partition, Service, Region, Account, Resource string }

// partitions are the parts of AWS by how the names of their regions begin, with the
// end of their host names (partitions.json of the AWS SDKs). All other regions are of
// aws.
var partitions = []struct{ region, name, host string }{
	{"cn-", "aws-cn", "amazonaws.com.cn"},
	{"us-gov-", "aws-us-gov", commonHost},
	{"eusc-", "aws-eusc", "amazonaws.eu"},
	{"us-iso-", "aws-iso", "c2s.ic.gov"},
	{"us-isob-", "aws-iso-b", "sc2s.sgov.gov"},
	{"eu-isoe-", "aws-iso-e", "cloud.adc-e.uk"},
	{"us-isof-", "aws-iso-f", "csp.hci.ic.gov"},
}

const commonHost = "amazonaws.com"

// Partition is the part of AWS that a region belongs to, such as aws or aws-cn.
func Partition(region string) string {
	name, _ := partition(region)
	return name
}

// Host is what Amazon's host names of a region end with, such as amazonaws.com.
func Host(region string) string {
	_, host := partition(region)
	return host
}

func partition(region string) (name, host string) {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.region) {
			return p.name, p.host
		}
	}
	return "aws", commonHost
}

// Of makes the name of a resource of a service, such as stream/x of kinesis.
func Of(service, region, account, resource string) string {
	return "arn:" + Partition(region) + ":" + service + ":" + region + ":" + account + ":" + resource
}

// IoT makes the name of a resource of AWS IoT, such as topic/a/b or thing/pump-1.
func IoT(region, account, resource string) string { return Of("iot", region, account, resource) }

// bucket is what names of buckets begin with: they are of no region or account.
const bucket = "arn:aws:s3:::"

// Bucket makes the name of a bucket, or of an object with "bucket/key".
func Bucket(name string) string { return bucket + name }

// CutBucket returns the name that Bucket was given, also in another partition.
func CutBucket(text string) (name string, ok bool) {
	n, ok := Parse(text)
	return n.Resource, ok && n.Service == "s3" && n.Region == "" && n.Account == ""
}

// Is says whether a text is meant as an ARN: what is none is a plain name where
// either may stand.
func Is(text string) bool { return strings.HasPrefix(text, "arn:") }

// Parse takes a name apart. ok is false for less than six parts, and for no
// partition of AWS; what stands in the others is not looked at.
func Parse(text string) (n Name, ok bool) {
	p := strings.SplitN(text, ":", Parts)
	if len(p) < Parts || p[0] != "arn" || p[1] != "aws" && !strings.HasPrefix(p[1], "aws-") {
		return Name{}, false
	}
	return Name{p[1], p[2], p[3], p[4], p[5]}, true
}
