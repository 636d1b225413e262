package vault

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/tidemill/tidemill/agent/durable"
)

// An index is what the writer knows of the repository's content, in a file of its
// own machine. It is a cache: lost or damaged, it begins empty.
//
// In memory a piece takes some 120 bytes.
type index struct {
	path       string
	repository [16]byte
	readers    Digest   // of the recipients: packs of before are not for new ones
	key        [32]byte // of the pieces' names
	packs      map[Digest]int64
	pieces     map[mac]place
	files      map[string]indexFile // by FileMeta.Same
}

// An indexFile is a file whose content never changes.
type indexFile struct {
	size   int64
	sum    Digest
	pieces []mac
}

// indexMagic begins the file; the last byte is the number of its layout.
const indexMagic = "TMVAULT\x01"

// indexHead is the length of what is before the records: the repository's ID, the digest of
// the recipients, the key, and a checksum, without which a flipped bit of the key would name
// every piece wrongly.
const indexHead = len(indexMagic) + 16 + 32 + 32 + 4

// Kinds of records.
const (
	indexPack = 1
	indexSame = 2
)

// maxRecord bounds a record that is read, bytes.
const maxRecord = 256 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors that begin the index anew.
var (
	errIndex   = errors.New("no index of this repository, or a damaged one")
	errReaders = errors.New("the recipients are others than of the packs that are there")
)

// readersOf is the digest of a set of recipients. One that does not tell its name is never the
// same as another.
func readersOf(recipients []age.Recipient) Digest {
	var names []string
	for _, r := range recipients {
		if s, ok := r.(fmt.Stringer); ok {
			names = append(names, s.String())
		} else {
			names = append(names, randomHex(16))
		}
	}
	slices.Sort(names)
	return sha256.Sum256([]byte(strings.Join(slices.Compact(names), "\n")))
}

// openIndex reads the index of a repository in folder, or begins one. why tells that
// one could not be used.
func openIndex(folder string, repository [16]byte, readers Digest) (x *index, why, err error) {
	return openIndexAt(filepath.Join(folder, fmt.Sprintf("%x.index", repository)), repository, readers)
}

func openIndexAt(path string, repository [16]byte, readers Digest) (x *index, why, err error) {
	x = &index{path: path, repository: repository, readers: readers}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = fmt.Errorf("%s: there is none", path)
	case err != nil:
		return nil, nil, err
	default:
		var good int
		if good, why = x.parse(data); why == nil && good < len(data) {
			err = os.Truncate(path, int64(good))
		}
		if why == nil || err != nil {
			return x, nil, err
		}
		why = fmt.Errorf("%s: %w", path, why)
	}
	x.packs, x.pieces, x.files = map[Digest]int64{}, map[mac]place{}, map[string]indexFile{}
	_, _ = rand.Read(x.key[:]) // it never fails
	return x, why, x.save()
}

// parse reads the file's bytes, up to the first record that is not whole, and says
// how many those are.
func (x *index) parse(data []byte) (good int, err error) {
	x.packs, x.pieces, x.files = map[Digest]int64{}, map[mac]place{}, map[string]indexFile{}
	if len(data) < indexHead || string(data[:len(indexMagic)]) != indexMagic ||
		!bytes.Equal(data[len(indexMagic):len(indexMagic)+16], x.repository[:]) ||
		crc32.Checksum(data[:indexHead-4], castagnoli) != binary.LittleEndian.Uint32(data[indexHead-4:]) {
		return 0, errIndex
	}
	if head := data[len(indexMagic)+16:]; !bytes.Equal(head[:32], x.readers[:]) {
		return 0, errReaders
	}
	copy(x.key[:], data[len(indexMagic)+16+32:])
	good = indexHead
	for {
		kind, payload, n := nextRecord(data[good:])
		if n == 0 {
			return good, nil
		}
		if !x.record(kind, payload) {
			return 0, errIndex // its checksum is right, and it makes no sense
		}
		good += n
	}
}

// nextRecord is the record at the beginning of data, n bytes long; 0: it is not whole.
func nextRecord(data []byte) (kind byte, payload []byte, n int) {
	if len(data) < 9 {
		return 0, nil, 0
	}
	size := binary.LittleEndian.Uint32(data[1:])
	if size > maxRecord || len(data) < 9+int(size) {
		return 0, nil, 0
	}
	n = 5 + int(size)
	if crc32.Checksum(data[:n], castagnoli) != binary.LittleEndian.Uint32(data[n:]) {
		return 0, nil, 0
	}
	return data[0], data[5:n], n + 4
}

func appendRecord(dst []byte, kind byte, fill func([]byte) []byte) []byte {
	begin := len(dst)
	dst = fill(append(dst, kind, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(dst[begin+1:], uint32(len(dst)-begin-5))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[begin:], castagnoli))
}

const packedSize = 32 + 4 + 4 + 4

// record takes a record into memory.
func (x *index) record(kind byte, p []byte) bool {
	switch {
	case kind == indexPack && len(p) >= 40 && (len(p)-40)%packedSize == 0:
		o := Object{Sum: Digest(p[:32]), Size: int64(binary.LittleEndian.Uint64(p[32:]))}
		pieces := make([]packed, 0, (len(p)-40)/packedSize)
		for p = p[40:]; len(p) > 0; p = p[packedSize:] {
			pieces = append(pieces, packed{mac(p[:32]), binary.LittleEndian.Uint32(p[32:]),
				binary.LittleEndian.Uint32(p[36:]), binary.LittleEndian.Uint32(p[40:])})
		}
		x.add(o, pieces)
		return o.Size > 0 && o.Size <= maxPack
	case kind == indexSame && len(p) >= 42:
		f := indexFile{size: int64(binary.LittleEndian.Uint64(p)), sum: Digest(p[8:40])}
		n := int(binary.LittleEndian.Uint16(p[40:]))
		if p = p[42:]; f.size < 0 || len(p) < n || (len(p)-n)%32 != 0 {
			return false
		}
		name := string(p[:n])
		for p = p[n:]; len(p) > 0; p = p[32:] {
			f.pieces = append(f.pieces, mac(p[:32]))
		}
		x.files[name] = f
		return true
	}
	return false
}

func (x *index) add(o Object, pieces []packed) {
	x.packs[o.Sum] = o.Size
	for _, p := range pieces {
		x.pieces[p.mac] = place{o.Sum, p.offset, p.stored, p.size}
	}
}

func packRecord(dst []byte, o Object, pieces []packed) []byte {
	return appendRecord(dst, indexPack, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint64(append(b, o.Sum[:]...), uint64(o.Size))
		for _, p := range pieces {
			b = append(b, p.mac[:]...)
			b = binary.LittleEndian.AppendUint32(b, p.offset)
			b = binary.LittleEndian.AppendUint32(b, p.stored)
			b = binary.LittleEndian.AppendUint32(b, p.size)
		}
		return b
	})
}

func sameRecord(dst []byte, name string, f indexFile) []byte {
	return appendRecord(dst, indexSame, func(b []byte) []byte {
		b = append(binary.LittleEndian.AppendUint64(b, uint64(f.size)), f.sum[:]...)
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(name))), name...)
		for _, m := range f.pieces {
			b = append(b, m[:]...)
		}
		return b
	})
}

// stored notes a pack that the target has, in memory and at the file's end. It is not
// synced: what a power cut takes is stored once more.
func (x *index) stored(o Object, pieces []packed) error {
	x.add(o, pieces)
	f, err := os.OpenFile(x.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(packRecord(nil, o, pieces))
	return errors.Join(err, f.Close())
}

// keep forgets the packs that are not in the target with their length, all pieces in
// them, and the files that had one of these.
func (x *index) keep(there map[Digest]int64) {
	for sum, size := range x.packs {
		if n, ok := there[sum]; !ok || n != size {
			delete(x.packs, sum)
		}
	}
	for m, p := range x.pieces {
		if _, ok := x.packs[p.pack]; !ok {
			delete(x.pieces, m)
		}
	}
	for name, f := range x.files {
		for _, m := range f.pieces {
			if _, ok := x.pieces[m]; !ok {
				delete(x.files, name)
				break
			}
		}
	}
}

// save writes the whole index anew.
func (x *index) save() error {
	byPack := make(map[Digest][]packed, len(x.packs))
	for m, p := range x.pieces {
		byPack[p.pack] = append(byPack[p.pack], packed{m, p.offset, p.stored, p.size})
	}
	data := slices.Concat([]byte(indexMagic), x.repository[:], x.readers[:], x.key[:])
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	for sum, pieces := range byPack {
		data = packRecord(data, Object{x.packs[sum], sum}, pieces)
	}
	for name, f := range x.files {
		data = sameRecord(data, name, f)
	}
	return durable.Write(x.path, data, 0o600)
}
