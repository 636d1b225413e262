package vault

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/tidemill/tidemill/deploy/nightly"
)

// In TestKill's child: TIDEMILL_VAULT_CHILD is the folder that it works in.
func TestMain(m *testing.M) {
	if folder := os.Getenv("TIDEMILL_VAULT_CHILD"); folder != "" {
		fmt.Fprintln(os.Stderr, work(folder))
		os.Exit(1) // it is killed before
	}
	os.Exit(m.Run())
}

// work backs up and prunes until it is killed.
func work(folder string) error {
	b, err := crashBench(folder)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for {
		fmt.Println("next")
		n, err := next(ctx, b)
		if err == nil {
			_, err = b.numbered(ctx, n)
		}
		if err == nil && n%2 == 0 {
			_, err = Prune(ctx, b.target, Keep{Last: 1 + n%3}, b.folder)
		}
		if err != nil {
			return err
		}
	}
}

// crashBench is the bench of a folder that has a key.
func crashBench(folder string) (*bench, error) {
	key, err := os.ReadFile(filepath.Join(folder, "key"))
	if err != nil {
		return nil, err
	}
	b := &bench{url: filepath.Join(folder, "target"), folder: filepath.Join(folder, "backup")}
	if b.key, err = age.ParseX25519Identity(string(key)); err != nil {
		return nil, err
	}
	b.target, err = Open(context.Background(), b.url, TargetOptions{})
	return b, err
}

// next is a number that no backup in the repository has.
func next(ctx context.Context, b *bench) (n int, err error) {
	infos, err := List(ctx, b.target)
	if err != nil {
		return 0, err
	}
	for _, i := range infos {
		var m int
		if _, err := fmt.Sscan(i.Version, &m); err != nil {
			return 0, err
		}
		n = max(n, m)
	}
	return n + 1, nil
}

// numberedContent is what the backup n has: some tables come, some go, and a database changes
// in places.
func numberedContent(n int) content {
	c := content{}
	for i := max(0, n-5); i < n; i++ {
		c[fmt.Sprintf("log/%06d.sst", i)] = noise(uint64(i), 50_000+i*7%90_000)
	}
	db := noise(0xffff, 700<<10)
	for i := range n {
		copy(db[i*37_777%(len(db)-10):], fmt.Sprint(i))
	}
	c["registry.db"] = db
	return c
}

// numbered makes the backup n, in packs of some 200 KB.
func (b *bench) numbered(ctx context.Context, n int) (Info, error) {
	o := b.options()
	o.packSize, o.Version = 200_000, fmt.Sprint(n)
	w, err := NewWriter(ctx, b.target, o)
	if err != nil {
		return Info{}, err
	}
	defer w.Close()
	for name, data := range numberedContent(n) {
		meta := FileMeta{Size: int64(len(data))}
		if strings.HasSuffix(name, ".sst") {
			meta.Same = name
		}
		if err := w.File(ctx, name, meta, bytes.NewReader(data)); err != nil {
			return Info{}, err
		}
	}
	return w.Commit(ctx, json.RawMessage(`{}`))
}

// A process that backs up and prunes is killed again and again. Each backup that is
// listed restores what it was made of, the next process goes on, and in the end
// nothing is left that no backup needs.
func TestKill(t *testing.T) {
	kills := nightly.Or(40, 400)
	if testing.Short() {
		kills = 6
	}
	key, err := age.GenerateX25519Identity()
	must(t, err)
	folder, seed := t.TempDir(), uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	must(t, os.WriteFile(filepath.Join(folder, "key"), []byte(key.String()), 0o600))
	b, err := crashBench(folder)
	must(t, err)
	r, restored := rand.New(rand.NewPCG(seed, 0)), 0
	for range kills {
		killOne(t, folder, 1+r.IntN(3), time.Duration(r.IntN(120))*time.Millisecond)
		restored += checkAll(t, b)
		if t.Failed() {
			t.FailNow()
		}
	}
	n, err := next(t.Context(), b)
	must(t, err)
	if _, err := b.numbered(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	checkAll(t, b)
	checkTidy(t, b)
	t.Logf("%d kills, %d backups made, %d restores", kills, n, restored)
}

// killOne starts a child and kills it some time after it has said "next" so often.
func killOne(t *testing.T, folder string, nexts int, after time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "TIDEMILL_VAULT_CHILD="+folder)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for range nexts {
		lines.Scan()
	}
	time.Sleep(after) // a random instant is what the test is about
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if said.Len() > 0 {
		t.Fatalf("the child ended by itself: %s", said.String())
	}
}

// checkAll restores every backup that is listed.
func checkAll(t *testing.T, b *bench) int {
	t.Helper()
	infos, err := List(t.Context(), b.target)
	if err != nil {
		t.Error(err)
	}
	for _, i := range infos {
		var n int
		_, err := fmt.Sscan(i.Version, &n)
		must(t, err)
		got, err := b.restore(t.Context(), i.ID)
		if err = errors.Join(err, same(got, numberedContent(n))); err != nil {
			t.Errorf("backup %s, number %d: %v", i.ID, n, err)
		}
		if _, err := Verify(t.Context(), b.target, i.ID, nil, nil); err != nil {
			t.Error(err)
		}
	}
	return len(infos)
}

// checkTidy finds objects that no backup needs.
func checkTidy(t *testing.T, b *bench) {
	t.Helper()
	infos, err := List(t.Context(), b.target)
	must(t, err)
	want := map[string]bool{repositoryName: true}
	for _, i := range infos {
		want[infoName(i.ID)], want[manifestName(i.ID)] = true, true
		for _, p := range i.Packs {
			want[packName(p.Sum)] = true
		}
	}
	for e, err := range b.target.List(t.Context(), "") {
		must(t, err)
		if !want[e.Name] {
			t.Errorf("%s is left", e.Name)
		}
		delete(want, e.Name)
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}
