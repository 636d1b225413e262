package topic

import "testing"

func TestCutRule(t *testing.T) {
	for name, want := range map[string]string{"$aws/rules/r/a/b": "r|a/b", "$aws/rules/r": "r|", "$aws/rules/": "",
		"$aws/rules//a": "", "a": ""} {
		rule, rest, ok := CutRule(name)
		if got := rule + "|" + rest; ok != (want != "") || ok && got != want {
			t.Errorf("CutRule(%q) = %q, %v", name, got, ok)
		}
	}
}

func TestCutShare(t *testing.T) {
	for whole, want := range map[string]struct {
		group, filter string
		ok            bool
	}{
		"a/#":            {"", "a/#", true},
		"$share":         {"", "$share", true},
		"$share/g/a/+":   {"g", "a/+", true},
		"$share/g/":      {"g", "", false},
		"$share/g":       {"g", "", false},
		"$share//a":      {"", "a", false},
		"$share/g+/a":    {"g+", "a", false},
		"$share/#/a":     {"#", "a", false},
		"$share/g/$aws/": {"g", "$aws/", true},
	} {
		if group, filter, ok := CutShare(whole); group != want.group || filter != want.filter || ok != want.ok {
			t.Errorf("CutShare(%q) = %q, %q, %v", whole, group, filter, ok)
		}
	}
}
