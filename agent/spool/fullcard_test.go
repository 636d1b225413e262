package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// damagedOutage writes the file of an outage, with one page damaged, and returns
// what is in it and the batches that are sure to be saved.
func damagedOutage(t *testing.T, path string) (file []byte, sound map[uint64]string) {
	t.Helper()
	whole, _, _ := outage(t)
	file = bytes.Clone(whole)
	clear(file[20*pageSize : 21*pageSize])
	// Elsewhere there is room: what a salvage gives back there.
	other := filepath.Join(t.TempDir(), "spool.db")
	for _, name := range []string{other, path} {
		if err := os.WriteFile(name, file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sound = contents(t, open(t, other, Options{}))
	if len(sound) < 600 {
		t.Fatalf("%d batches", len(sound))
	}
	return file, sound
}

// unsaved checks that a spool counts nothing, says nothing is lost, says what is
// wrong, and left the file as it was.
func unsaved(t *testing.T, s *Spool, path string, file []byte) {
	t.Helper()
	st := s.Stats()
	if st.Batches != 0 || st.Bytes != 0 || st.Dropped != 0 || st.SetAside != 0 || st.Salvage != nil ||
		st.Failure == nil {
		t.Fatalf("%+v, salvage %+v", st, st.Salvage)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, file) {
		t.Fatalf("the damaged file changed: %v", err)
	}
	if aside, _ := filepath.Glob(path + ".corrupt-*"); len(aside) > 0 {
		t.Fatalf("set aside: %v", aside)
	}
}

// saved checks that a spool has all that was sound, and one new reading.
func saved(t *testing.T, s *Spool, sound map[uint64]string) {
	t.Helper()
	got, st := contents(t, s), s.Stats()
	for seq, p := range sound {
		if got[seq] != p {
			t.Fatalf("batch %d is missing", seq)
		}
	}
	if len(got) != len(sound)+1 || st.Batches != uint64(len(got)) || st.SetAside != 1 || st.Failure != nil ||
		st.Salvage == nil || st.Salvage.Saved != uint64(len(sound)) || st.Dropped != st.Salvage.Lost {
		t.Fatalf("%d batches, want %d; %+v, salvage %+v", len(got), len(sound)+1, st, st.Salvage)
	}
}

// hinder lets no salvage write its file.
func hinder(t *testing.T, path string) (mend func()) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path+renewed, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(path + renewed); err != nil {
			t.Fatal(err)
		}
	}
}

// due lets the next flush try again.
func due(s *Spool) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.waits.next = time.Time{}
}

func TestSalvageThatFailsIsTriedAgain(t *testing.T) {
	for _, policy := range []Policy{DropOldest, RefuseNew} {
		path := filepath.Join(t.TempDir(), "spool.db")
		file, sound := damagedOutage(t, path)
		mend := hinder(t, path)
		s := open(t, path, Options{Overflow: policy})
		unsaved(t, s, path, file)
		add(t, s, 1)
		if err := s.Flush(); err == nil {
			t.Fatal("no error")
		}
		due(s)
		if err := s.Flush(); err == nil {
			t.Fatal("no error")
		}
		unsaved(t, s, path, file)
		mend()
		due(s)
		flushed(t, s)
		saved(t, s, sound)
	}
}

// Damage while the agent runs, and no way to save anything: what was counted
// stays, and what was acknowledged before is deleted in the end.
func TestSalvageThatFailsWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{})
	for i := range int64(300) {
		add(t, s, i)
		flushed(t, s)
	}
	for seq := range uint64(100) {
		s.Ack(seq + 1)
	}
	root := branch(t, s.db)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x5A}, pageSize), root*pageSize); err != nil {
		t.Fatal(err)
	}
	mend := hinder(t, path)
	add(t, s, 300)
	for range 3 {
		if err := s.Flush(); err == nil {
			t.Fatal("no error")
		}
		due(s)
		if st := s.Stats(); st.Batches != 200 || st.Acked != 100 || st.Dropped != 0 || st.Unflushed != 1 ||
			st.SetAside != 0 || st.Salvage != nil {
			t.Fatalf("%+v", st)
		}
	}
	mend()
	flushed(t, s)
	got, st := contents(t, s), s.Stats()
	if len(got) != 201 || got[100] != "" || st.Batches != 201 || st.Acked != 100 || st.Dropped != 0 ||
		*st.Salvage != (Salvage{200, 0, true}) {
		t.Fatalf("%d batches, %+v, %+v", len(got), st, st.Salvage)
	}
}

// The damaged file is set aside and the new one cannot take its place: the next
// try takes it. A file that somebody removed is lost, and told so.
func TestSalvagedFileIsTaken(t *testing.T) {
	for _, removed := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "spool.db")
		s := open(t, path, Options{Overflow: RefuseNew, MaxBytes: minMaxBytes})
		add(t, s, 1)
		flushed(t, s)
		db := s.db
		s.mu.Lock()
		s.db = nil
		s.mu.Unlock()
		if err := errors.Join(db.Close(), os.Rename(path, path+renewed)); err != nil {
			t.Fatal(err)
		}
		want := 2
		if removed {
			want = 1
			if err := os.Remove(path + renewed); err != nil {
				t.Fatal(err)
			}
		}
		add(t, s, 2)
		flushed(t, s)
		got, st := contents(t, s), s.Stats()
		if len(got) != want || st.Batches != uint64(want) || st.Dropped != uint64(2-want) || st.Appended != 2 {
			t.Fatalf("removed %t: %d batches, %+v", removed, len(got), st)
		}
	}
}

// A card that has less room left than the spool is large.
func TestSalvageOnFullCard(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("it takes root to mount a card of 1 MiB: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path, filler := filepath.Join(dir, "spool.db"), filepath.Join(dir, "filler")
	file, sound := damagedOutage(t, path)
	if err := os.WriteFile(filler, make([]byte, free(path)-8*pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	unsaved(t, s, path, file)
	add(t, s, 1)
	first := s.waits
	for range 3 {
		if err := s.Flush(); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		due(s)
	}
	unsaved(t, s, path, file)
	if s.waits != first {
		t.Error("it was tried again without more room")
	}
	if err := os.Truncate(filler, 0); err != nil {
		t.Fatal(err)
	}
	flushed(t, s)
	saved(t, s, sound)
}
