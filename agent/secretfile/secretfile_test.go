package secretfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name         string
		file, folder fs.FileMode
		want         string // of the error; "": it is read
	}{
		{"its owner's", 0o600, 0o700, ""},
		{"to read alone", 0o400, 0o700, ""},
		{"in a folder that others see", 0o600, 0o755, ""},
		{"the group reads it", 0o640, 0o700, "mode 0640 lets others read or write it, run: chmod 600 "},
		{"all read it", 0o604, 0o700, "mode 0604"},
		{"the group writes it", 0o620, 0o700, "mode 0620"},
		{"all write it", 0o602, 0o700, "mode 0602"},
		{"the group may replace it", 0o600, 0o770, "mode 0770 lets others put another file in its place, run: chmod go-w "},
		{"all may replace it", 0o600, 0o707, "mode 0707"},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		path := filepath.Join(dir, "key")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, []byte("secret"), 0o600), os.Chmod(path, c.file), os.Chmod(dir, c.folder)); err != nil {
			t.Fatal(err)
		}
		text, err := Read(path)
		switch {
		case c.want == "" && (err != nil || string(text) != "secret"):
			t.Errorf("%s: %q, %v", c.name, text, err)
		case c.want != "" && (!errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), c.want) || len(text) > 0):
			t.Errorf("%s: %q, %v", c.name, text, err)
		}
		if err := Folder(dir); (err == nil) != (c.folder&0o022 == 0) || err != nil && !strings.Contains(err.Error(), "run: chmod go-w ") {
			t.Errorf("%s: folder: %v", c.name, err)
		}
	}
}

func TestReadOddFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder")
	path := filepath.Join(dir, "key")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, []byte("secret"), 0o600), os.Symlink("key", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if text, err := Read(filepath.Join(dir, "link")); !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "is a symbolic link") || len(text) > 0 {
		t.Errorf("a link: %q, %v", text, err)
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Read(dir); err == nil {
		t.Error("a folder is read")
	}
	if err := os.WriteFile(path, make([]byte, maxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("any size is read")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.HasSuffix(err.Error(), `run: chmod 600 "`+path+`"`) {
		t.Errorf("the command is not for a shell: %v", err)
	}
}
