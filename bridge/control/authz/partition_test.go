package authz

import "testing"

// TestPartitions shows that a policy names resources in the partition of the
// bridge's region, and that one with aws holds in all.
func TestPartitions(t *testing.T) {
	for _, c := range []struct {
		partition, region string
		want              Decision
	}{
		{"aws", "eu-west-1", Allowed},
		{"aws-cn", "eu-west-1", ImplicitDeny},
		{"aws-cn", "cn-north-1", Allowed},
		{"aws", "cn-north-1", Allowed},
		{"aws-us-gov", "cn-north-1", ImplicitDeny},
	} {
		doc, err := Parse([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish",
			"Resource":"arn:` + c.partition + `:iot:` + c.region + `:1:topic/a"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		ctx := &Context{Account: "1", Region: c.region}
		if got := Compile([]*Document{doc}, *ctx).Decide(Publish, "a"); got != c.want {
			t.Errorf("%+v: the evaluator says %v", c, got)
		}
		resource := "arn:aws:iot:eu-west-1:1:topic/a"
		if c.region != "eu-west-1" {
			resource = "arn:aws-cn:iot:cn-north-1:1:topic/a"
		}
		if got := Judge([]*Document{doc}, ctx, Publish, resource); got != c.want {
			t.Errorf("%+v: Judge says %v", c, got)
		}
	}
}
