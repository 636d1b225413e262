package vault

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func newDecoder(r io.Reader) (io.Reader, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
}

func compressLines(w io.Writer, lines []string) error {
	z, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if _, err := io.WriteString(z, l+"\n"); err != nil {
			return err
		}
	}
	return z.Close()
}

// Whatever is read as a manifest is written back to one that reads the same, all its names stay
// in a folder, and its files have the pieces of their sizes.
func FuzzManifest(f *testing.F) {
	m := manifest{head: head{Format, "20261130T000000Z-00000000", "00000000000000000000000000000000",
		time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC), Digest{1}, json.RawMessage(`{"a":1}`)},
		packs:  []Object{{100, Digest{2}}},
		files:  []FileInfo{{"a/b", 5, 0o640, Digest{3}, "a", 0, 1}, {"c", 0, 0o600, Digest{4}, "", 1, 0}},
		pieces: []pieceLine{{0, 0, 14, 5, mac{5}}}}
	text := func(m *manifest) []byte {
		var b bytes.Buffer
		if err := m.writeLines(&b); err != nil {
			panic(err)
		}
		return b.Bytes()
	}
	f.Add(text(&m))
	f.Fuzz(func(t *testing.T, plain []byte) {
		m, err := readLines(bytes.NewReader(plain))
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Fatalf("%v: no kind", err)
			}
			return
		}
		for _, file := range m.files {
			var size int64
			for _, p := range m.pieces[file.first : file.first+file.pieces] {
				size += int64(p.Size)
			}
			if !filepath.IsLocal(file.Name) || size != file.Size || file.Mode&^fs.ModePerm != 0 {
				t.Fatalf("%+v with pieces of %d bytes", file, size)
			}
		}
		again, err := readLines(bytes.NewReader(text(m)))
		must(t, err)
		if !bytes.Equal(text(again), text(m)) {
			t.Fatal("it reads otherwise when it is written back")
		}
	})
}

// Bytes that are no manifest at all, not even compressed, end in an error of a kind.
func FuzzManifestBytes(f *testing.F) {
	var b bytes.Buffer
	must(f, compressLines(&b, []string{`{"head":{}}`}))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := readManifest(bytes.NewReader(data)); err != nil && !errors.Is(err, ErrDamaged) &&
			!errors.Is(err, ErrVersion) {
			t.Fatalf("%v: no kind", err)
		}
	})
}

// A description or a repository that is taken names itself and has sizes that can be.
func FuzzInfo(f *testing.F) {
	const id = "20261130T000000Z-00000000"
	sound, err := json.Marshal(Info{Format: 1, ID: id, Repository: "00000000000000000000000000000000",
		Manifest: Object{1, Digest{}}, Packs: []Object{{1, Digest{}}}})
	must(f, err)
	f.Add(sound)
	f.Add([]byte(`{"format":1,"id":"00000000000000000000000000000000","account":"a"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := parseInfo(id, data)
		if err == nil && (i.ID != id || i.Manifest.Size <= 0) ||
			err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Fatalf("%+v, %v", i, err)
		}
		r, err := parseRepository(data)
		if err == nil && len(r.ID) != 32 || err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

// What is read of an index is the same after it was saved.
func FuzzIndex(f *testing.F) {
	empty := append([]byte(indexMagic), make([]byte, 80)...)
	empty = binary.LittleEndian.AppendUint32(empty, crc32.Checksum(empty, castagnoli))
	data := packRecord(bytes.Clone(empty), Object{1000, Digest{1}}, []packed{{mac{2}, 0, 10, 20}, {mac{3}, 10, 10, 20}})
	f.Add(sameRecord(data, "log/1.sst 40", indexFile{40, Digest{4}, []mac{{2}, {3}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := &index{}
		good, err := x.parse(data)
		if err != nil {
			return
		}
		if good > len(data) {
			t.Fatalf("%d bytes of %d are good", good, len(data))
		}
		x.keep(x.packs) // a piece of a pack that another record replaced
		x.path = filepath.Join(t.TempDir(), "index")
		must(t, x.save())
		again, why, err := openIndexAt(x.path, x.repository, x.readers)
		if err != nil || why != nil {
			t.Fatalf("%v, %v", why, err)
		}
		if again.key != x.key || !maps.Equal(again.packs, x.packs) || !maps.Equal(again.pieces, x.pieces) ||
			len(again.files) != len(x.files) {
			t.Fatal("it reads otherwise when it is saved")
		}
	})
}

// A frame that is taken for a piece is the piece.
func FuzzPiece(f *testing.F) {
	p, err := newPacker(nil, [32]byte{1})
	must(f, err)
	piece := []byte("a piece of a file, a piece of a file")
	want := p.name(piece)
	f.Add(p.zstd.EncodeAll(piece, nil))
	u, err := newUnpacker([32]byte{1})
	must(f, err)
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, err := u.piece(want, uint32(len(piece)), frame, nil)
		if err == nil && !bytes.Equal(got, piece) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}
