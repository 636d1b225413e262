package action

import (
	"fmt"
	"regexp"
)

// maxEvent is how many bytes a function that nobody waits for gets (Lambda quotas,
// since 2025).
const maxEvent = 1 << 20

var functionARN = regexp.MustCompile(
	`^arn:[a-z-]+:lambda:[a-z0-9-]+:[0-9]{12}:function:[a-zA-Z0-9_-]{1,140}(:[a-zA-Z0-9$_-]{1,128})?$`)

// toFunction is the lambda action: the document is the event of a function that is
// called without waiting for it.
var toFunction = sentKind{
	name:     "lambda",
	members:  []member{{name: "functionArn", required: true}},
	resource: "functionArn",
	judge:    func(d *Delivery) error { return d.judge("functionArn", isFunction) },
	stage:    func(d *Delivery) error { return d.jsonData(maxEvent) },
}

func isFunction(arn string) error {
	if !functionARN.MatchString(arn) {
		return fmt.Errorf("%.300q is no function's ARN", arn)
	}
	return nil
}
