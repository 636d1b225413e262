package convert

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/snappy"
)

// A Writer writes one file of Parquet from records of JSON. One goroutine uses it.
type Writer struct {
	table   *Table
	json    JSON
	parquet Parquet
	block   int
	out     *parquet.GenericWriter[any]
	column  []*parquet.ColumnWriter

	parser *parser // of Add
	held   int     // bytes of records that it has, not handed to the columns yet
	size   int     // bytes of records in the block, which bound it from above
	rows   int64
}

// fastSnappy compresses as fast as the reference does. The library's own codec makes
// pages some per cent smaller and takes twice as long.
type fastSnappy struct{ snappy.Codec }

// Encode implements compress.Codec.
func (*fastSnappy) Encode(dst, src []byte) ([]byte, error) {
	return s2.EncodeSnappy(dst[:cap(dst)], src), nil
}

// codecs are the compressions of ParquetSerDe.
var codecs = map[string]compress.Codec{"SNAPPY": &fastSnappy{}, "GZIP": &parquet.Gzip,
	"UNCOMPRESSED": &parquet.Uncompressed}

// NewWriter returns a writer of t's columns. The same records give the same bytes.
func NewWriter(w io.Writer, t *Table, j JSON, p Parquet) *Writer {
	parser, s := newParser(t, j, p)
	version := 1
	if p.Version2 {
		version = 2
	}
	out := parquet.NewGenericWriter[any](w, s, parquet.Compression(codecs[p.Compression]),
		parquet.PageBufferSize(p.Page),
		parquet.DataPageVersion(version), parquet.CreatedBy("tidemill", "1", ""))
	return &Writer{table: t, json: j, parquet: p, block: p.Block, out: out, column: out.ColumnWriters(), parser: parser}
}

func newParser(t *Table, j JSON, p Parquet) (*parser, *parquet.Schema) {
	root, s, columns := schema(t, j, p)
	return &parser{json: j, root: root, values: make([][]parquet.Value, columns), marks: make([]int, columns)}, s
}

// A Failure is why a record is not in the file: Code and Message go into its line
// (the service's own codes as far as they are known).
type Failure struct{ Code, Message string }

// Codes of failures.
const (
	codeParse = "DataFormatConversion.ParseError"
	codeData  = "DataFormatConversion.MalformedData"
)

func failureOf(err error) *Failure {
	for _, e := range []error{errJSON, errDepth, errUTF8} {
		if errors.Is(err, e) {
			return &Failure{codeParse, "Encountered " + err.Error()}
		}
	}
	return &Failure{codeData, "Data does not match the schema: " + err.Error()}
}

// chunk is how many bytes of records are handed to the columns at a time. Their
// values, of 24 bytes each, are about as much again, and stay in a core's cache.
const chunk = 256 << 10

// Add writes a record's rows: one or more objects of JSON, after one another. One
// that cannot be a row makes the whole record fail, and none of it is written. The
// error is of the file. Add keeps nothing of record.
func (w *Writer) Add(record []byte) (*Failure, error) {
	if f := w.parser.read(record); f != nil {
		return f, nil
	}
	if w.held += len(record); w.held >= chunk {
		return nil, w.hand(w.parser, w.held)
	}
	return nil, nil
}

// AddAll writes the records of 0 to n, as Add does one by one, on as many cores as
// there are. It tells failed of each record that cannot be a row, in their order.
func (w *Writer) AddAll(n int, record func(i int) []byte, failed func(i int, f *Failure)) error {
	if err := w.hand(w.parser, w.held); err != nil {
		return err
	}
	workers := min(runtime.GOMAXPROCS(0), maxParsers)
	free := make(chan *parser, workers+1) // one is handed over while the others read
	for range cap(free) {
		p, _ := newParser(w.table, w.json, w.parquet)
		free <- p
	}
	parts := make(chan *part, workers)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(parts)
		for from := 0; from < n; {
			p := &part{from: from, done: make(chan struct{})}
			for p.size < chunk && from < n {
				p.size += len(record(from))
				from++
			}
			p.to = from
			select {
			case p.parser = <-free:
			case <-stop:
				return
			}
			wg.Go(func() { p.read(record) })
			parts <- p // at most as many as there are parsers
		}
	})
	var err error
	for p := range parts {
		<-p.done
		if err != nil {
			continue
		}
		for _, f := range p.failed {
			failed(f.i, f.Failure)
		}
		if err = w.hand(p.parser, p.size); err != nil {
			close(stop)
		}
		free <- p.parser
	}
	wg.Wait()
	return err
}

// maxParsers bounds how many cores one file takes.
const maxParsers = 4

// A part is records that are read at once.
type part struct {
	from, to int
	size     int // bytes
	parser   *parser
	failed   []partFailure
	done     chan struct{}
}

type partFailure struct {
	i int
	*Failure
}

func (p *part) read(record func(i int) []byte) {
	defer close(p.done)
	for i := p.from; i < p.to; i++ {
		if f := p.parser.read(record(i)); f != nil {
			p.failed = append(p.failed, partFailure{i, f})
		}
	}
}

// hand gives what was read of size bytes to the columns, and ends a block that is
// full.
func (w *Writer) hand(p *parser, size int) error {
	for i, v := range p.values {
		if len(v) == 0 {
			continue
		}
		if _, err := w.column[i].WriteRowValues(v); err != nil {
			return fmt.Errorf("parquet: %w", err)
		}
	}
	w.rows += p.rows
	p.clear()
	w.held = 0
	if w.size += size; w.size < w.block {
		return nil
	}
	w.size = 0
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

// Close ends the file. What it is written to stays open.
func (w *Writer) Close() error {
	if err := w.hand(w.parser, w.held); err != nil {
		return err
	}
	if err := w.out.Close(); err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}
