package machine

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// A reply is told from what kernel and agent print beside it, and from that of another
// command.
func TestReply(t *testing.T) {
	part := func(n int, text string) string {
		return fmt.Sprintf("@%d> %s", n, base64.StdEncoding.EncodeToString([]byte(text)))
	}
	for name, c := range map[string]struct {
		lines []string
		code  int
		text  string
		wrong string
	}{
		"beside others": {[]string{"[ 4.2] usb: x", part(6, "old"), "@6= 0", part(7, "one\n"), "level=INFO", part(7, "two"),
			"@7= 3", part(7, "late")}, 3, "one\ntwo", ""},
		"with line ends of a terminal": {[]string{part(7, "x") + "\r", "@7= 0\r"}, 0, "x", ""},
		"torn by a kernel's line":      {[]string{"@7> eHg[ 5.1] oops", "@7= 0"}, 0, "", "illegal base64"},
		"no number":                    {[]string{"@7= x"}, 0, "", "invalid syntax"},
		"no end":                       {[]string{part(7, "x")}, 0, "", "it ended"},
	} {
		code, text, err := reply(bufio.NewScanner(strings.NewReader(strings.Join(c.lines, "\n"))), 7)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v, want %s", name, err, c.wrong)
			}
			continue
		}
		if err != nil || code != c.code || text != c.text {
			t.Errorf("%s: %d, %q, %v", name, code, text, err)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add("@1> eA==\n@1= 0\n")
	f.Add("@1= -1\n@1> \n")
	f.Fuzz(func(t *testing.T, in string) {
		// What is before the command's own lines changes nothing.
		code, text, err := reply(bufio.NewScanner(strings.NewReader(in)), 1)
		code2, text2, err2 := reply(bufio.NewScanner(strings.NewReader("[ 0.1] x\n"+in)), 1)
		if code != code2 || text != text2 || (err == nil) != (err2 == nil) {
			t.Fatalf("%d %q %v, and %d %q %v", code, text, err, code2, text2, err2)
		}
	})
}
