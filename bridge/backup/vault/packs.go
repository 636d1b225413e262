package vault

import (
	"context"
	"fmt"
	"io"

	"filippo.io/age"
)

// packs keeps packs of the target open whose pieces are read: their headers are read
// and their keys unwrapped.
type packs struct {
	open  map[uint32]*openPack
	order []uint32 // that were opened, oldest first
	buf   []byte
	ahead []byte // of a pack, encrypted
}

// maxOpen is how many packs are kept open, of some 70 KB each.
const maxOpen = 64

// An openPack reads from a pack at any place.
type openPack struct {
	src   *source
	plain io.ReaderAt
	size  int64 // bytes, decrypted
}

// read returns length bytes of the decrypted pack at an offset, until the next call.
func (p *packs) read(ctx context.Context, r *Reader, pack uint32, offset, length int64) ([]byte, error) {
	o, err := p.get(ctx, r, pack)
	if err != nil {
		return nil, err
	}
	name := packName(r.m.packs[pack].Sum)
	if offset+length > o.size {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, want %d at %d", name, ErrDamaged, o.size, length, offset)
	}
	if p.ahead, err = o.src.ahead(ctx, o.size, offset, length, p.ahead); err != nil {
		return nil, err
	}
	if int64(cap(p.buf)) < length {
		p.buf = make([]byte, length)
	}
	buf := p.buf[:length]
	if _, err := o.plain.ReadAt(buf, offset); err != nil && err != io.EOF {
		if o.src.err != nil {
			return nil, o.src.err
		}
		return nil, fmt.Errorf("%s: %w", name, damaged("%v", err))
	}
	o.src.window = nil
	return buf, nil
}

func (p *packs) get(ctx context.Context, r *Reader, pack uint32) (*openPack, error) {
	if o := p.open[pack]; o != nil {
		return o, nil
	}
	object := r.m.packs[pack]
	name := packName(object.Sum)
	src := &source{ctx: ctx, t: r.t, name: name, size: object.Size}
	plain, size, err := age.DecryptReaderAt(src, object.Size, r.identities...)
	if src.err != nil {
		return nil, src.err
	}
	if err != nil { // the manifest was opened by the same identities
		return nil, fmt.Errorf("%s: %w", name, damaged("%v", err))
	}
	if len(p.order) == maxOpen {
		delete(p.open, p.order[0])
		p.order = p.order[1:]
	}
	if p.open == nil {
		p.open = map[uint32]*openPack{}
	}
	o := &openPack{src, plain, size}
	p.open[pack], p.order = o, append(p.order, pack)
	return o, nil
}

// A source reads an object of the target at any place. It lives as long as a call,
// whose context it keeps.
type source struct {
	ctx    context.Context
	t      Target
	name   string
	size   int64
	window []byte // of the object, at start
	start  int64
	err    error // of the target, not of what it has
}

// The layout of age's payload (age-encryption.org/v1): chunks of 64 KiB, each with a
// tag of 16 bytes.
const (
	chunk    = 64 << 10
	chunkTag = 16
)

// ahead reads into buf, or a longer one, all that decrypting length bytes at an offset will ask
// for. plain is the length of the decrypted object.
func (s *source) ahead(ctx context.Context, plain, offset, length int64, buf []byte) ([]byte, error) {
	chunks := max((plain+chunk-1)/chunk, 1)
	begin := s.size - plain - chunks*chunkTag // of the payload
	first, last := offset/chunk, (offset+length-1)/chunk
	from := begin + first*(chunk+chunkTag)
	to := min(begin+(last+1)*(chunk+chunkTag), s.size)
	s.ctx, s.window, s.start = ctx, nil, 0
	if int64(cap(buf)) < to-from {
		buf = make([]byte, to-from)
	}
	window := buf[:to-from]
	if n, err := s.ReadAt(window, from); n < len(window) {
		return buf, err
	}
	s.window, s.start = window, from
	return buf, nil
}

// ReadAt implements io.ReaderAt.
func (s *source) ReadAt(p []byte, at int64) (int, error) {
	if at >= s.start && at+int64(len(p)) <= s.start+int64(len(s.window)) {
		return copy(p, s.window[at-s.start:]), nil
	}
	if at >= s.size {
		return 0, io.EOF
	}
	want := min(int64(len(p)), s.size-at)
	r, err := s.t.Get(s.ctx, s.name, at, want)
	if err != nil {
		s.err = err
		return 0, err
	}
	n, err := io.ReadFull(r, p[:want])
	if e := r.Close(); err == nil {
		err = e
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%s: %w: it is cut off", s.name, ErrDamaged)
	}
	if err != nil {
		s.err = err
		return n, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
