package post

import "testing"

func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"table":                         "table",
		"arn:aws:sns:eu-west-1:1:topic": "arn:aws:sns:eu-west-1:1:topic",
		"http://h:1/p?k=SECRET":         "http://h:1",
		"hTTps://me:SECRET@h/p":         "https://h",
		" https://h?SECRET":             "https://h",
		"https://${x}/SECRET":           "https://",
	} {
		if got := Shown(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
