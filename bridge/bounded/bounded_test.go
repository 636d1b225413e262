package bounded

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadAll(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		r    io.Reader
		most int64
		want string
		err  error
	}{
		"nothing":       {strings.NewReader(""), 0, "", nil},
		"one too many":  {strings.NewReader("x"), 0, "", ErrTooLong},
		"all":           {strings.NewReader("abc"), 3, "abc", nil},
		"longer":        {strings.NewReader("abcdef"), 3, "abc", ErrTooLong},
		"in bytes":      {iotest.OneByteReader(strings.NewReader("abc")), 3, "abc", nil},
		"broken":        {io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(broken)), 3, "ab", broken},
		"broken beyond": {io.MultiReader(strings.NewReader("abcd"), iotest.ErrReader(broken)), 3, "abc", ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadAll(c.r, c.most)
			if string(got) != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q, %v, want %q, %v", got, err, c.want, c.err)
			}
		})
	}
	rest := strings.NewReader("abcdef")
	if _, err := ReadAll(rest, 3); err == nil || rest.Len() != 2 {
		t.Errorf("%v, and %d bytes are left, want 2", err, rest.Len())
	}
}
