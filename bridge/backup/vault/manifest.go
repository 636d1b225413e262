package vault

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// The bounds of a manifest that is read.
const (
	maxLine   = 16 << 20 // bytes of a line: about has most
	maxAbout  = 8 << 20  // bytes
	maxName   = 1024     // bytes of a file's name
	maxFiles  = 4 << 20
	maxPacks  = 1 << 20
	maxPieces = 16 << 20 // 48 bytes each in memory: 768 MB, for 16 TB in pieces of 1 MiB
	// maxWindow is the largest window of zstd that is taken, bytes.
	maxWindow = 8 << 20
)

// A line of a manifest has one of these.
type line struct {
	Head  *head         `json:"head,omitempty"`
	Pack  *Object       `json:"pack,omitempty"`
	File  *fileLine     `json:"file,omitempty"`
	Piece *pieceLine    `json:"piece,omitempty"`
	End   *manifestEnds `json:"end,omitempty"`
}

type head struct {
	Format     int             `json:"format"`
	ID         string          `json:"id"`
	Repository string          `json:"repository"`
	Time       time.Time       `json:"time"`
	Key        Digest          `json:"key"` // of the pieces' names
	About      json.RawMessage `json:"about"`
}

type fileLine struct {
	Name string      `json:"name"`
	Size int64       `json:"size"`
	Mode fs.FileMode `json:"mode"` // permissions, a decimal number
	Sum  Digest      `json:"sha256"`
	Part string      `json:"part,omitempty"`
}

// A pieceLine is the next piece of the file before it: the pack's place among the
// packs of the manifest, the frame's offset and length in the decrypted pack, the
// piece's length and its HMAC.
type pieceLine struct {
	Pack   uint32 `json:"pack"`
	Offset uint32 `json:"offset"`
	Stored uint32 `json:"stored"`
	Size   uint32 `json:"size"`
	Mac    mac    `json:"mac"`
}

type manifestEnds struct {
	Files  int `json:"files"`
	Pieces int `json:"pieces"`
}

// A manifest is all that a backup has.
type manifest struct {
	head   head
	packs  []Object
	files  []FileInfo
	pieces []pieceLine
}

// A FileInfo is a file of a backup.
type FileInfo struct {
	Name string // slashes between folders, as of fs.ValidPath
	Size int64  // bytes
	Mode fs.FileMode
	Sum  Digest // SHA-256
	Part string

	first, pieces int // of manifest.pieces
}

// write writes the manifest as lines of JSON, compressed.
func (m *manifest) write(w io.Writer) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxWindow/2))
	if err != nil {
		return err
	}
	return errors.Join(m.writeLines(z), z.Close())
}

// writeLines writes the manifest, not compressed.
func (m *manifest) writeLines(w io.Writer) (err error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	put := func(l line) {
		if err == nil {
			err = enc.Encode(l)
		}
	}
	put(line{Head: &m.head})
	for i := range m.packs {
		put(line{Pack: &m.packs[i]})
	}
	for _, f := range m.files {
		put(line{File: &fileLine{f.Name, f.Size, f.Mode, f.Sum, f.Part}})
		for i := range m.pieces[f.first : f.first+f.pieces] {
			put(line{Piece: &m.pieces[f.first+i]})
		}
	}
	put(line{End: &manifestEnds{len(m.files), len(m.pieces)}})
	return err
}

// readManifest reads what write wrote. All that is wrong with it is ErrDamaged, or
// ErrVersion.
func readManifest(r io.Reader) (*manifest, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return readLines(z)
}

// readLines reads what writeLines wrote.
func readLines(r io.Reader) (*manifest, error) {
	p := manifestParser{names: map[string]bool{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := p.line(lines.Bytes()); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !p.ended {
		return nil, fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	return &p.m, nil
}

// A manifestParser takes the lines of a manifest, in their order.
type manifestParser struct {
	m       manifest
	begun   bool
	ended   bool
	missing int64 // bytes of the last file that no piece has yet
	names   map[string]bool
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

func (p *manifestParser) line(data []byte) error {
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return damaged("%v", err)
	}
	switch {
	case p.ended || (l.Head == nil) != p.begun:
		return damaged("a line where none belongs: %.100q", data)
	case l.Head != nil:
		return p.head(*l.Head)
	case l.Pack != nil:
		return p.pack(*l.Pack)
	case l.File != nil:
		return p.file(*l.File)
	case l.Piece != nil:
		return p.piece(*l.Piece)
	case l.End != nil:
		return p.end(*l.End)
	default:
		return damaged("a line of an unknown kind: %.100q", data)
	}
}

func (p *manifestParser) head(h head) error {
	if h.Format > Format {
		return fmt.Errorf("format %d, this program knows %d: %w", h.Format, Format, ErrVersion)
	}
	if h.Format < 1 || !idPattern.MatchString(h.ID) || !repositoryID.MatchString(h.Repository) ||
		len(h.About) > maxAbout {
		return damaged("format %d, id %.40q of repository %.40q, %d bytes about it", h.Format, h.ID, h.Repository,
			len(h.About))
	}
	p.m.head, p.begun = h, true
	return nil
}

func (p *manifestParser) pack(o Object) error {
	if len(p.m.files) > 0 || len(p.m.packs) >= maxPacks || o.Size <= 0 || o.Size > maxPack {
		return damaged("pack %v of %d bytes", o.Sum, o.Size)
	}
	p.m.packs = append(p.m.packs, o)
	return nil
}

func (p *manifestParser) file(f fileLine) error {
	if err := p.fileEnds(); err != nil {
		return err
	}
	if err := CheckFileName(f.Name); err != nil {
		return damaged("%v", err)
	}
	if p.names[f.Name] || f.Size < 0 || f.Mode&^fs.ModePerm != 0 || len(p.m.files) >= maxFiles ||
		len(f.Part) > maxName {
		return damaged("file %.200q: twice, or with size %d, mode %v", f.Name, f.Size, f.Mode)
	}
	p.names[f.Name] = true
	p.missing = f.Size
	p.m.files = append(p.m.files, FileInfo{Name: f.Name, Size: f.Size, Mode: f.Mode, Sum: f.Sum, Part: f.Part,
		first: len(p.m.pieces)})
	return nil
}

func (p *manifestParser) piece(e pieceLine) error {
	if len(p.m.files) == 0 || len(p.m.pieces) >= maxPieces || int(e.Pack) >= len(p.m.packs) || e.Size == 0 ||
		e.Size > maxPiece || e.Stored == 0 || e.Stored > maxPiece+maxPiece/8 || int64(e.Size) > p.missing ||
		int64(e.Offset)+int64(e.Stored) > maxPack {
		return damaged("piece of pack %d at %d, %d bytes for %d", e.Pack, e.Offset, e.Stored, e.Size)
	}
	p.missing -= int64(e.Size)
	p.m.pieces = append(p.m.pieces, e)
	p.m.files[len(p.m.files)-1].pieces++
	return nil
}

// fileEnds checks the file before: its pieces must make its size.
func (p *manifestParser) fileEnds() error {
	if p.missing != 0 {
		return damaged("file %.200q lacks %d bytes", p.m.files[len(p.m.files)-1].Name, p.missing)
	}
	return nil
}

func (p *manifestParser) end(e manifestEnds) error {
	if err := p.fileEnds(); err != nil {
		return err
	}
	if e.Files != len(p.m.files) || e.Pieces != len(p.m.pieces) {
		return damaged("%d files and %d pieces, want %d and %d", len(p.m.files), len(p.m.pieces), e.Files, e.Pieces)
	}
	for name := range p.names {
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			if p.names[name[:i]] {
				return damaged("%.200q is a file and a folder", name[:i])
			}
		}
	}
	p.ended = true
	return nil
}

// CheckFileName says why name is none of a file in a backup. Names are relative paths
// with slashes, without "." and "..", of at most 1024 bytes of printable UTF-8.
func CheckFileName(name string) error {
	bad := func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == utf8.RuneError }
	if len(name) > maxName || name == "." || !fs.ValidPath(name) || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%.200q is no name of a file in a backup", name)
	}
	return nil
}
