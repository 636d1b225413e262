package topic

import "strings"

const (
	rulesPrefix = "$aws/rules/"
	sharePrefix = "$share/"
)

// CutRule takes a topic of Basic Ingest apart, $aws/rules/RULE/REST, which goes
// to one rule alone. The rule sees rest as its topic, which may be empty. ok is
// false for other topics.
func CutRule(name string) (rule, rest string, ok bool) {
	after, ok := strings.CutPrefix(name, rulesPrefix)
	if !ok {
		return "", "", false
	}
	rule, rest, _ = strings.Cut(after, "/")
	return rule, rest, rule != ""
}

// CutShare takes the filter of a shared subscription apart, $share/GROUP/FILTER
// (MQTT 5, 4.8.2). group is "" for any other filter, which is then returned
// whole. ok is false if it is one and malformed.
func CutShare(whole string) (group, filter string, ok bool) {
	rest, is := strings.CutPrefix(whole, sharePrefix)
	if !is {
		return "", whole, true
	}
	group, filter, found := strings.Cut(rest, "/")
	return group, filter, found && group != "" && filter != "" && !strings.ContainsAny(group, "+#")
}
