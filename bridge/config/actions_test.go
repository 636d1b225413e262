package config

import (
	"strings"
	"testing"
)

func TestActions(t *testing.T) {
	c, err := load(t, `
[[actions]]
kind = "sns"
endpoint_url = "http://127.0.0.1:9324"
region = "us-east-1"
[[actions]]
kind = "s3"
remote = true
[[actions]]
kind = "openSearch"
auth = "basic"
username = "u"
password_file = "p"
endpoint_url = "https://search.example.org"
[[actions]]
kind = "salesforce"
endpoint_url = "https://events.example.org"
`)
	if err != nil || len(c.Actions) != 4 || c.Actions[0].Region != "us-east-1" || !c.Actions[1].Remote {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]bool{"": false, "remote = true": true, "region = \"eu-west-1\"": true,
		"endpoint_url = \"http://x\"": true, "profile = \"plant\"": true} {
		c, err := load(t, "[[actions]]\nkind = \"cloudwatchMetric\"\n"+text)
		if err != nil || c.Elsewhere("cloudwatchMetric") != want || c.Elsewhere("s3") {
			t.Errorf("cloudwatchMetric with %q: %v, want elsewhere %v", text, err, want)
		}
	}
	for text, want := range map[string]string{
		`kind = "ftp"`: `kind: "ftp", want one of cloudwatchAlarm`,
		"kind = \"sns\"\n[[actions]]\nkind = \"sns\"":     `actions[1].kind: "sns" stands twice`,
		"kind = \"sns\"\nremote = true":                   "remote: sns is always elsewhere",
		"kind = \"sns\"\nendpoint_url = \"ftp://x\"":      "endpoint_url: want http",
		"kind = \"sns\"\nendpoint_url = \"http://u@x\"":   "neither user",
		"kind = \"s3\"\nendpoint_url = \"http://x\"":      "unless remote = true",
		"kind = \"sns\"\nauth = \"none\"":                 "only elasticsearch",
		"kind = \"sns\"\naccount = \"123456789012\"":      "account:",
		"kind = \"stepFunctions\"\naccount = \"12\"":      "want 12 digits",
		"kind = \"salesforce\"\nregion = \"us-east-1\"":   "only endpoint_url acts",
		"kind = \"openSearch\"\nauth = \"key\"":           `auth: "key", want aws`,
		"kind = \"openSearch\"\nauth = \"basic\"":         "basic needs username",
		"kind = \"openSearch\"\nusername = \"u\"":         `it is for auth = "basic"`,
		"kind = \"openSearch\"\npassword = \"u\"":         "password: unknown key",
		"kind = \"openSearch\"\nendpoint_url = \"x:y\"":   "endpoint_url",
		"kind = \"openSearch\"\nendpoint_url = \"http:\"": "endpoint_url",
	} {
		if _, err := load(t, "[[actions]]\n"+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want word of %q", text, err, want)
		}
	}
}
