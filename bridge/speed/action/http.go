package action

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// maxPosted is the largest document that the http action posts: the largest message
// of AWS IoT (AWS IoT Core quotas).
const maxPosted = 128 << 10

// toWeb is the http action: the document is posted to a URL.
var toWeb = sentKind{
	name: "http",
	members: []member{
		{name: "url", required: true, most: 2000},
		{name: "confirmationUrl", form: text, most: 2000},
		{name: "headers", form: pairs, nested: &nested{key: "key", count: 100, mostKey: 256,
			value: member{empty: true}}},
		{name: "auth", form: object, nested: &nested{members: []member{
			{name: "sigv4", form: object, required: true, nested: &nested{members: []member{
				{name: "signingRegion", form: text, required: true},
				{name: "serviceName", form: text, required: true},
				{name: "roleArn", form: text, required: true},
			}}},
		}}},
		{name: "enableBatching", form: boolean, standard: "false"},
		{name: "batchConfig", form: object, nested: &nested{members: []member{
			{name: "maxBatchOpenMs", form: number, standard: "20", most: 200, nested: &nested{least: 5}},
			{name: "maxBatchSize", form: number, standard: "10", most: 10, nested: &nested{least: 2}},
			{name: "maxBatchSizeBytes", form: number, standard: "5120", most: 131072, nested: &nested{least: 100}},
			{name: "batchAcrossTopics", form: boolean, standard: "false"},
		}}},
	},
	resource: "url",
	check:    checkWeb,
	judge:    judgeWeb,
	stage:    stageWeb,
}

// checkWeb judges the URLs together: a confirmation is asked for below a URL that
// the one of messages begins with.
func checkWeb(p *parser) {
	to, confirm := p.raw("url"), p.raw("confirmationUrl")
	fixed, _, isTemplate := strings.Cut(to, "${")
	switch {
	case confirm == "" && isTemplate:
		p.bad("confirmationUrl: missing; url has a template")
	case confirm != "" && !strings.HasPrefix(fixed, strings.TrimSuffix(confirm, "/")):
		p.bad("confirmationUrl: want a prefix of url")
	}
	if !isTemplate {
		if err := checkURL(to); err != nil {
			p.bad("url: %w", err)
		}
	}
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return errors.New("want http://HOST/... or https://HOST/..., without a user")
	}
	return nil
}

func judgeWeb(d *Delivery) error {
	if err := d.judge("url", checkURL); err != nil {
		return err
	}
	for _, h := range d.Inner("headers") {
		if !httpguts.ValidHeaderFieldName(h.Name) || !httpguts.ValidHeaderFieldValue(h.Value) {
			return fmt.Errorf("headers: %.100q: a header cannot have this name or value", h.Name)
		}
	}
	return nil
}

func stageWeb(d *Delivery) error {
	if len(d.Data) > maxPosted {
		return fmt.Errorf("document of %d bytes, want at most %d", len(d.Data), maxPosted)
	}
	if d.Parameter("enableBatching") == "true" && (!utf8.Valid(d.Data) || !json.Valid(d.Data)) {
		return errForm("JSON, for messages go together")
	}
	return nil
}
