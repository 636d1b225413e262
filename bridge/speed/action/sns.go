package action

import (
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/bridge/arn"
)

// maxNotice is the most bytes of a message (SNS quotas).
const maxNotice = 256 << 10

// toNotice is the sns action: the document goes to a topic's subscribers, or to
// one endpoint.
var toNotice = sentKind{
	name: "sns",
	members: []member{
		{name: "targetArn", required: true},
		{name: "messageFormat", form: choice, choices: []string{"RAW", "JSON"}, standard: "RAW"},
	},
	resource: "targetArn",
	judge: func(d *Delivery) error {
		return d.judge("targetArn", func(target string) error {
			if _, ok := arn.Parse(target); !ok {
				return fmt.Errorf("%.300q is no ARN", target)
			}
			return nil
		})
	},
	stage: func(d *Delivery) error {
		if len(d.Data) == 0 {
			return errors.New("a message of no bytes")
		}
		return d.textData(maxNotice)
	},
}
