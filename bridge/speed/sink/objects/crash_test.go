package objects

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// In TestKill's child: TIDEMILL_OBJECTS_CHILD is "DIR SEED".
func TestMain(m *testing.M) {
	if dir, seed, ok := strings.Cut(os.Getenv("TIDEMILL_OBJECTS_CHILD"), " "); ok {
		n, _ := strconv.ParseUint(seed, 10, 64)
		fmt.Fprintln(os.Stderr, change(dir, n))
		os.Exit(1) // it is killed before
	}
	os.Exit(m.Run())
}

// change changes objects until it is killed, and says before and after each what
// it does: "+ KEY TEXT", "- KEY", and then "ok".
func change(dir string, seed uint64) error {
	s, err := Open(dir, Options{MinPart: 1})
	if err != nil {
		return err
	}
	if err := s.CreateBucket("bucket"); err != nil && !errors.Is(err, ErrBucketExists) {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; ; i++ {
		key := crashKeys[r.IntN(len(crashKeys))]
		text := fmt.Sprintf("%d.%d.%s", seed, i, strings.Repeat("x", r.IntN(9000)))
		switch r.IntN(4) {
		case 0:
			fmt.Printf("- %s\n", key)
			err = s.Delete("bucket", key, Condition{})
		case 1:
			fmt.Printf("+ %s %s\n", key, text)
			err = inParts(s, key, text)
		default:
			fmt.Printf("+ %s %s\n", key, text)
			err = write(s, key, text)
		}
		if err != nil {
			return err
		}
		fmt.Println("ok")
	}
}

var crashKeys = []string{"a", "a/b", "a/b/c", "a/", "d//e", "f", "..", strings.Repeat("l", 300)}

func write(s *Store, key, text string) error {
	w, err := s.Create("bucket", 0)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	_, err = w.Commit(key, Attributes{User: map[string]string{"is": text[:8]}}, Condition{})
	return err
}

func inParts(s *Store, key, text string) error {
	u, err := s.Begin("bucket", Upload{Key: key, Attributes: Attributes{User: map[string]string{"is": text[:8]}}})
	if err != nil {
		return err
	}
	var parts []Part
	half := len(text) / 2
	for i, part := range []string{text[:half], text[half:]} {
		w, err := s.Create("bucket", 0)
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, part)
		var info Info
		if err == nil {
			info, err = w.CommitPart(u, i+1)
		}
		w.Close()
		if err != nil {
			return err
		}
		parts = append(parts, Part{Number: i + 1, ETag: info.ETag})
	}
	_, err = s.Complete(context.Background(), "bucket", u, parts, nil, Condition{})
	return err
}

// Killed at any instant, the store has what was acknowledged, and what was under
// way as a whole or not at all, each with its own metadata.
func TestKill(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	dir, seed := t.TempDir(), rand.Uint64N(1<<40)
	t.Log("seed", seed)
	model := map[string]string{}
	for i := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("TIDEMILL_OBJECTS_CHILD=%s %d", dir, seed+uint64(i)))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(50+rand.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		doing, done := follow(out, model)
		kill.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Logf("round %d: %d changes", i, done)
		afterKill(t, dir, model, doing)
	}
}

// follow applies what was acknowledged to model, and returns what was not.
func follow(out io.Reader, model map[string]string) (doing string, done int) {
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return doing, done
		}
		if line = strings.TrimSuffix(line, "\n"); line != "ok" {
			doing = line
			continue
		}
		fields := strings.Split(doing, " ")
		if delete(model, fields[1]); fields[0] == "+" {
			model[fields[1]] = fields[2]
		}
		doing, done = "", done+1
	}
}

func afterKill(t *testing.T, dir string, model map[string]string, doing string) {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := Verify(dir, func(int) {}, func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
	for _, key := range crashKeys {
		o, err := s.Open("bucket", key)
		var got string
		if err == nil {
			b, failed := io.ReadAll(o)
			if got = string(b); failed != nil || !o.Kept || o.User["is"] != got[:8] {
				t.Errorf("%q: %.20q has %+v, %v", key, got, o.Info, failed)
			}
			o.Close()
		} else if !errors.Is(err, sink.ErrNotFound) {
			t.Error(err)
		}
		fields := strings.Split(doing, " ")
		switch want := model[key]; {
		case got == want:
		case doing != "" && fields[1] == key && (fields[0] == "-" && got == "" || fields[0] == "+" && got == fields[2]):
			if delete(model, key); got != "" {
				model[key] = got
			}
		default:
			t.Errorf("%q is %.40q, want %.40q; under way was %.40q", key, got, want, doing)
		}
	}
}
