package action

import (
	"encoding/base64"
	"fmt"
)

// maxQueued is the most bytes that a message of SQS has (SQS quotas, since 2025).
const maxQueued = 1 << 20

// toQueue is the sqs action: the document becomes a message of a queue.
var toQueue = sentKind{
	name: "sqs",
	members: []member{
		{name: "queueUrl", required: true},
		{name: "useBase64", form: boolean, standard: "false"},
	},
	resource: "queueUrl",
	stage: func(d *Delivery) error {
		if d.Parameter("useBase64") == "true" {
			d.Data = base64.StdEncoding.AppendEncode(nil, d.Data)
		}
		if len(d.Data) == 0 {
			return fmt.Errorf("a message of no bytes, want 1 to %d", maxQueued)
		}
		if err := d.textData(maxQueued); err != nil {
			return err
		}
		for i, r := range string(d.Data) {
			// SQS takes the characters of XML 1.0 (SendMessage).
			if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
				return fmt.Errorf("character %U at byte %d, which SQS does not take; useBase64 does", r, i)
			}
		}
		return nil
	},
}
