package action

import "regexp"

// The forms of the url, at most 2000 bytes, and the token (SalesforceAction).
var (
	streamURL = regexp.MustCompile(
		`^https://ingestion-[a-zA-Z0-9]{1,12}\.[a-zA-Z0-9]+\.((sfdc-matrix\.net)|(sfdcnow\.com))` +
			`/streams/\w{1,20}/\w{1,20}/event$`)
	streamToken = regexp.MustCompile(`^.{40,}$`)
)

// maxStreamed bounds the document; the service, which has ended, never stated one.
const maxStreamed = 1 << 20

// toSalesforce is the salesforce action: the document is posted to an input stream
// of Salesforce's IoT Cloud.
var toSalesforce = sentKind{
	name: "salesforce",
	members: []member{
		{name: "url", form: text, required: true, pattern: streamURL, most: 2000},
		{name: "token", form: text, required: true, pattern: streamToken, most: 4096, secret: true},
	},
	resource: "url",
	stage:    func(d *Delivery) error { return d.jsonData(maxStreamed) },
}
