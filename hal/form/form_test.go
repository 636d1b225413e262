package form

import (
	"regexp"
	"testing"
)

// What is told of a text is what the expression tells.
func FuzzForms(f *testing.F) {
	for _, text := range []string{"", "a", "A", "a9_", "9a", "_", "a-b:c", "ä", "a\n", "0f-A", "a b  c", "\xff--x"} {
		f.Add(text)
	}
	thing, channel := regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`), regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	hex, outside := regexp.MustCompile(`^[0-9a-fA-F]{64}$`), regexp.MustCompile(`[^A-Za-z0-9_-]+`)
	f.Fuzz(func(t *testing.T, text string) {
		for what, same := range map[string]bool{
			"thing":   Thing.Is(text, 1, 128) == thing.MatchString(text),
			"channel": Channel(text) == channel.MatchString(text),
			"hex":     Hex.Is(text, 64, 64) == hex.MatchString(text),
			"replace": Name.Replace(text, '-') == outside.ReplaceAllString(text, "-"),
		} {
			if !same {
				t.Errorf("%s: %q", what, text)
			}
		}
	})
}
