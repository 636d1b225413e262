package cli

import "strings"

// A remedy is the next command after a refusal.
type remedy struct {
	of   string   // what the message begins with
	says []string // what else is in it
	next string
}

// remedies are searched in order; the first that applies counts.
var remedies = []remedy{
	{"policy ", []string{" at cert/", "not found"},
		"it is not attached there; tidemill-bridge cert show CERTIFICATE-ID lists what is"},
	{"policy ", []string{"not found"}, "tidemill-bridge policy show lists the policies"},
	{"policy ", []string{"still attached"}, "tidemill-bridge policy detach NAME CERTIFICATE-ID"},
	{"policy ", []string{"versions"}, "tidemill-bridge policy versions NAME lists them, and policy delete NAME " +
		"-version N deletes one"},
	{"certificate ", []string{"not found"}, "tidemill-bridge cert list lists the certificates"},
	{"certificate ", []string{"still attached"}, "tidemill-bridge cert delete ID -force detaches them first"},
	{"certificate ", []string{"is active"}, "tidemill-bridge cert deactivate ID"},
	{"CA ", []string{"not found"}, "tidemill-bridge cert ca list lists the CAs"},
	{"CA ", []string{"is active"}, "tidemill-bridge cert ca deactivate ID"},
	{"thing ", []string{"not found"}, "tidemill-bridge thing list lists the things"},
	{"rule ", []string{"not found"}, "tidemill-bridge rule list lists the rules"},
	{"alarm ", []string{"no such alarm"}, "tidemill-bridge alarm list lists the alarms"},
	{"channel ", []string{"not found"}, "tidemill-bridge channel list lists the channels"},
	{"streams: no such stream", nil, "tidemill-bridge stream list lists the streams"},
}

// worded is a bridge's message for a person: without the name of the package that
// it comes from, and with the next command.
func worded(message string) string {
	for _, r := range remedies {
		if !strings.HasPrefix(message, r.of) {
			continue
		}
		all := true
		for _, part := range r.says {
			all = all && strings.Contains(message, part)
		}
		if all {
			message += "; " + r.next
			break
		}
	}
	return strings.ReplaceAll(strings.ReplaceAll(message, "registry: ", ""), "streams: ", "")
}
