package boot

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"testing"
)

// TestInitramfs has the archive listed by GNU cpio, where it is installed, and compares
// its first bytes with the form that the kernel documents.
func TestInitramfs(t *testing.T) {
	var out bytes.Buffer
	if err := WriteInitramfs(&out, []File{
		{Name: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Name: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
		{Name: "init", Mode: 0o755, Data: []byte("#!x")},
	}); err != nil {
		t.Fatal(err)
	}
	zr, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	const dev = "070701" + "00000001" + "000041ED" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000004" + "00000000" + "dev\x00\x00\x00"
	if !bytes.HasPrefix(plain, []byte(dev)) {
		t.Errorf("the archive begins with %q", plain[:min(len(plain), len(dev))])
	}
	if len(plain)%4 != 0 || !bytes.Contains(plain, []byte("TRAILER!!!\x00")) {
		t.Errorf("%d bytes, %q", len(plain), plain[max(0, len(plain)-130):])
	}
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("there is no cpio to list it")
	}
	cmd := exec.Command(cpio, "-tv", "--quiet")
	cmd.Stdin = bytes.NewReader(plain)
	list, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"drwxr-xr-x", "crw-------", "5,   1", "crw-rw-rw-", "-rwxr-xr-x"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("cpio lists no %q:\n%s", want, list)
		}
	}
}

func TestInitramfsRefusesLinks(t *testing.T) {
	if err := WriteInitramfs(io.Discard, []File{{Name: "x", Mode: fs.ModeSymlink}}); err == nil {
		t.Error("a link was taken")
	}
}
