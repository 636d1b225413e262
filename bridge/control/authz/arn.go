package authz

// ARN is the name by which policies and AWS's APIs know a resource of AWS IoT, such
// as topic/a/b or thing/pump-1, of one region and account.
func ARN(region, account, resource string) string {
	return "arn:aws:iot:" + region + ":" + account + ":" + resource
}
