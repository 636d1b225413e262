package vault

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// The sizes of pieces and packs, in bytes. README.md has the measurements.
const (
	// pieceChanging is of files that may change in place: a database changes by pages,
	// and a larger piece would nearly always have a changed page.
	pieceChanging = 64 << 10
	// pieceFixed is of files that have a FileMeta.Same.
	pieceFixed = 1 << 20
	maxPiece   = 4 << 20 // that is read
	// packTarget is what a pack has before it is encrypted; one piece may be over.
	packTarget = 16 << 20
	maxPack    = 64 << 20 // that is read
)

// A mac names a piece: the HMAC-SHA256 of its bytes under the repository's key.
type mac = Digest

// A place is where a piece is.
type place struct {
	pack   Digest
	offset uint32 // in the decrypted pack
	stored uint32 // bytes, compressed
	size   uint32 // bytes
}

// A packed piece is one of a pack that is being filled.
type packed struct {
	mac                  mac
	offset, stored, size uint32
}

// A packer fills a pack in memory: pieces, each a frame of zstd, one after the other,
// and around them the encryption.
type packer struct {
	recipients []age.Recipient
	zstd       *zstd.Encoder
	mac        hash.Hash

	out    *bytes.Buffer
	in     io.WriteCloser // encrypts into out; nil: there is no pack yet
	offset uint32
	pieces []packed
	scrap  []byte
}

func newPacker(recipients []age.Recipient, key [32]byte) (*packer, error) {
	// The default level takes 40 % more processor time, and makes readings in JSON no smaller, tables of the
	// log 6 % (README.md).
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(pieceFixed),
		zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, err
	}
	return &packer{recipients: recipients, zstd: z, mac: hmac.New(sha256.New, key[:]), out: new(bytes.Buffer)}, nil
}

// name is the piece's.
func (p *packer) name(piece []byte) (m mac) {
	p.mac.Reset()
	p.mac.Write(piece)
	p.mac.Sum(m[:0])
	return m
}

// add puts a piece into the pack.
func (p *packer) add(m mac, piece []byte) error {
	if p.in == nil {
		in, err := age.Encrypt(p.out, p.recipients...)
		if err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		p.in = in
	}
	p.scrap = p.zstd.EncodeAll(piece, p.scrap[:0])
	if _, err := p.in.Write(p.scrap); err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	p.pieces = append(p.pieces, packed{m, p.offset, uint32(len(p.scrap)), uint32(len(piece))})
	p.offset += uint32(len(p.scrap))
	return nil
}

// A pack is ready to be put.
type pack struct {
	Object
	data   *bytes.Buffer
	pieces []packed
}

// seal ends the pack, and begins the next in the buffer next.
func (p *packer) seal(next *bytes.Buffer) (pack, error) {
	if err := p.in.Close(); err != nil {
		return pack{}, fmt.Errorf("encrypt: %w", err)
	}
	done := pack{Object{int64(p.out.Len()), sha256.Sum256(p.out.Bytes())}, p.out, p.pieces}
	next.Reset()
	p.out, p.in, p.offset, p.pieces = next, nil, 0, nil
	return done, nil
}

// An unpacker reads pieces.
type unpacker struct {
	zstd *zstd.Decoder
	mac  hash.Hash
}

func newUnpacker(key [32]byte) (*unpacker, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPiece))
	if err != nil {
		return nil, err
	}
	return &unpacker{z, hmac.New(sha256.New, key[:])}, nil
}

// piece decompresses a piece into buf and checks that it is the one meant.
func (u *unpacker) piece(want mac, size uint32, frame, buf []byte) ([]byte, error) {
	piece, err := u.zstd.DecodeAll(frame, buf[:0])
	if err != nil {
		return nil, fmt.Errorf("%w: piece: %v", ErrDamaged, err)
	}
	u.mac.Reset()
	u.mac.Write(piece)
	if len(piece) != int(size) || !hmac.Equal(u.mac.Sum(nil), want[:]) {
		return nil, fmt.Errorf("%w: another piece is in its place", ErrDamaged)
	}
	return piece, nil
}

// putPack stores a pack. One of the same name has the same bytes.
func putPack(ctx context.Context, t Target, p pack) error {
	return ignoreExists(t.Put(ctx, packName(p.Sum), bytes.NewReader(p.data.Bytes()), p.Size))
}
