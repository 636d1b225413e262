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
		{"the group may replace it", 0o600, 0o770,
			"mode 0770 lets others put another file in its place, run: chmod go-w "},
		{"all may replace it", 0o600, 0o707, "mode 0707"},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		path := filepath.Join(dir, "key")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, []byte("secret"), 0o600), os.Chmod(path, c.file),
			os.Chmod(dir, c.folder)); err != nil {
			t.Fatal(err)
		}
		text, err := Read(path)
		switch {
		case c.want == "" && (err != nil || string(text) != "secret"):
			t.Errorf("%s: %q, %v", c.name, text, err)
		case c.want != "" && (!errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), c.want) || len(text) > 0):
			t.Errorf("%s: %q, %v", c.name, text, err)
		}
		if err := Folder(dir); (err == nil) != (c.folder&0o022 == 0) || err != nil &&
			!strings.Contains(err.Error(), "run: chmod go-w ") {
			t.Errorf("%s: folder: %v", c.name, err)
		}
	}
}

func TestReadOddFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a folder")
	path := filepath.Join(dir, "key")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, []byte("secret"), 0o600),
		os.Symlink("key", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if text, err := Read(filepath.Join(dir, "link")); !errors.Is(err, ErrExposed) ||
		!strings.Contains(err.Error(), "is a symbolic link") || len(text) > 0 {
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

// What is another user's is not read, nor what is on a way that others can change.
func TestOwnersAndWays(t *testing.T) {
	top := t.TempDir()
	uid := uint32(os.Geteuid())
	path := filepath.Join(top, "above", "folder", "key")
	restore := func() {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("secret"), 0o600),
			os.Chmod(top, 0o755), os.Chmod(filepath.Join(top, "above"), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	restore()
	// to whom this user's links are root's
	own, system := reader{uid: uid, owner: uid}, reader{uid: 0, owner: uid, root: uid}
	other := reader{uid: uid + 1, owner: uid + 1}
	if uid == 0 { // whose files are anybody's to trust
		other.root = uid + 1
	}
	refused := func(r reader, path, want string) {
		t.Helper()
		if text, err := r.read(path); !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), want) ||
			len(text) > 0 {
			t.Errorf("%q, %v, want %s", text, err, want)
		}
	}
	taken := func(r reader, path string) {
		t.Helper()
		if text, err := r.read(path); err != nil || string(text) != "secret" {
			t.Errorf("%q, %v", text, err)
		}
	}
	taken(own, path)
	refused(other, path, "belongs to user ")
	if own.trusts(uid+1) || !own.trusts(0) ||
		!(reader{uid: uid + 1, owner: uid + 1, root: uid + 1}).forOwnerOf(path).trusts(uid) {
		t.Error("wrong users are trusted")
	}

	above := filepath.Join(top, "above")
	for mode, want := range map[fs.FileMode]string{0o777: "mode 0777", 0o775: "mode 0775", 0o777 | fs.ModeSticky: ""} {
		if err := os.Chmod(above, mode); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			refused(own, path, "folder "+above+": "+want+" lets others put another file in its place, run: chmod go-w "+
				above)
		} else {
			taken(own, path)
		}
	}
	restore()

	links := map[string]string{"absolute": above, "relative": "above", "around": "above/../above/",
		"through": "relative", "loop": "loop"}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
		by := filepath.Join(top, name, "folder", "key")
		if name == "loop" {
			refused(system, by, "is a symbolic link")
			continue
		}
		if uid != 0 { // who made it is not root
			refused(own, by, "folder "+filepath.Join(top, name)+" is a symbolic link: name the folder that it leads to")
		}
	}
	for name := range links {
		if name != "loop" {
			taken(system, filepath.Join(top, name, "folder", "key")) // the system's
		}
	}
	if err := os.Chmod(above, 0o777); err != nil {
		t.Fatal(err)
	}
	refused(system, filepath.Join(top, "through", "folder", "key"), "mode 0777") // where it leads
}

// With the rights of root, files are really given away.
func TestGivenAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	const nobody = 65534
	dir := filepath.Join(t.TempDir(), "d")
	path := filepath.Join(dir, "key")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{path, dir} {
		if err := os.Chown(given, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		if text, err := Read(path); !errors.Is(err, ErrExposed) ||
			!strings.Contains(err.Error(), given+" belongs to user 65534") && given == path || len(text) > 0 {
			t.Errorf("%s: %q, %v", given, text, err)
		}
		if given == path {
			if text, err := ReadConfig(path); err != nil || string(text) != "secret" {
				t.Errorf("%q, %v", text, err)
			}
			if err := os.Chown(given, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := Folder(dir); err != nil {
		t.Error(err)
	}
	link := dir + "-link"
	if err := errors.Join(os.Chown(dir, 0, 0), os.Symlink(dir, link), os.Lchown(link, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	if text, err := Read(filepath.Join(link, "key")); !errors.Is(err, ErrExposed) || len(text) > 0 {
		t.Errorf("by another's link: %q, %v", text, err)
	}
}
