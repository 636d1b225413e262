package vault

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// FileMeta describes a file that is written.
type FileMeta struct {
	Size int64       // bytes that will come; negative: unknown
	Mode fs.FileMode // permissions alone count
	Part string      // the part of the backup to which Info counts it; seen by anyone
	// Same names content that never changes, "log/000123.sst 81922": what was stored
	// once under this name is taken from the repository without being read. "" is
	// content that may change.
	Same string
}

// maxSame bounds FileMeta.Same, bytes.
const maxSame = 1 << 12

type writtenFile struct {
	FileInfo
	macs []mac
}

// File stores a file. r is not read if meta.Same is known. An error of r, or a wrong
// size, concerns this file alone, which is then not in the backup; after any other
// error the Writer can only be closed.
func (w *Writer) File(ctx context.Context, name string, meta FileMeta, r io.Reader) error {
	if w.err != nil {
		return w.err
	}
	err := CheckFileName(name)
	if err == nil && (w.names[name] || len(meta.Same) > maxSame || len(meta.Part) > maxName) {
		err = errors.New("twice, or with too long a description")
	}
	if err != nil {
		return fmt.Errorf("backup of %.200q: %w", name, err)
	}
	f, ok := w.unchanged(meta)
	if !ok {
		if f, err = w.read(ctx, name, meta, r); err != nil {
			return fmt.Errorf("backup of %s: %w", name, err)
		}
		if meta.Same != "" {
			w.index.files[meta.Same] = indexFile{f.Size, f.Sum, f.macs}
		}
	}
	f.Name, f.Mode, f.Part = name, meta.Mode.Perm(), meta.Part
	w.names[name], w.same[meta.Same] = true, true
	w.files = append(w.files, f)
	if ok {
		w.done += f.Size
		w.progress(name)
	}
	return nil
}

// unchanged is a file of which the repository has all pieces.
func (w *Writer) unchanged(meta FileMeta) (f writtenFile, ok bool) {
	x, ok := w.index.files[meta.Same]
	if meta.Same == "" || !ok || meta.Size >= 0 && meta.Size != x.size {
		return f, false
	}
	return writtenFile{FileInfo{Size: x.size, Sum: x.sum}, x.pieces}, true
}

func (w *Writer) progress(file string) {
	if w.o.Progress != nil {
		w.o.Progress(Progress{file, w.done, w.o.Total, w.sent})
	}
}

// read stores the pieces of r.
func (w *Writer) read(ctx context.Context, name string, meta FileMeta, r io.Reader) (f writtenFile, err error) {
	size := pieceChanging
	if meta.Same != "" {
		size = pieceFixed
	}
	if cap(w.buf) < size {
		w.buf = make([]byte, size)
	}
	sum := sha256.New()
	for ended := false; !ended; {
		if err := context.Cause(ctx); err != nil {
			return f, err
		}
		n, err := io.ReadFull(r, w.buf[:size])
		ended = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return f, err
		}
		if n == 0 {
			break
		}
		piece := w.buf[:n]
		sum.Write(piece)
		m := w.packer.name(piece)
		f.macs, f.Size = append(f.macs, m), f.Size+int64(n)
		if w.err = w.store(ctx, m, piece); w.err != nil {
			return f, w.err
		}
		w.done += int64(n)
		w.progress(name)
	}
	if meta.Size >= 0 && f.Size != meta.Size {
		return f, fmt.Errorf("%d bytes came, want %d", f.Size, meta.Size)
	}
	sum.Sum(f.Sum[:0])
	return f, nil
}

// store puts a piece into the pack, unless the repository has it, and begins to send
// the pack when it is large enough.
func (w *Writer) store(ctx context.Context, m mac, piece []byte) error {
	if err := w.lock.renew(ctx); err != nil {
		return err
	}
	if _, ok := w.index.pieces[m]; ok || w.fresh[m] {
		return nil
	}
	if err := w.packer.add(m, piece); err != nil {
		return err
	}
	w.fresh[m] = true
	if w.packer.offset < cmp.Or(w.o.packSize, packTarget) {
		return nil
	}
	return w.send(ctx)
}

// send waits for the pack that is on its way, and sends the one that is filled.
func (w *Writer) send(ctx context.Context) error {
	if err := w.sentOne(); err != nil {
		return err
	}
	if w.spare == nil {
		w.spare = newPackBuffer()
	}
	p, err := w.packer.seal(w.spare)
	if err != nil {
		return err
	}
	w.spare, w.onWay = nil, p
	result := make(chan error, 1) // the goroutine ends, whoever takes the result
	w.sending = result
	go func() { result <- putPack(ctx, w.t, p) }()
	return nil
}

// sentOne waits for the pack that is on its way and notes it.
func (w *Writer) sentOne() error {
	if w.sending == nil {
		return nil
	}
	err := <-w.sending
	w.sending = nil
	if err != nil {
		return err
	}
	p := w.onWay
	w.sent += p.Size
	if err := w.index.stored(p.Object, p.pieces); err != nil {
		w.o.Log.Warn("a pack is not noted on the disk: the next backup may store it again", "err", err)
	}
	for _, e := range p.pieces {
		delete(w.fresh, e.mac)
	}
	w.spare, w.onWay = p.data, pack{}
	return nil
}
