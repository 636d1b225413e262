package firehose

import (
	"bytes"
	"context"
	"io"

	"github.com/tidemill/tidemill/bridge/speed/firehose/convert"
)

// converted is an object of parts as a file of Parquet, which is in memory: what
// cannot be a row of the table is known before the object has a byte. m has a line
// for each such record. An object without rows is not written: ok is false.
func (p *plan) converted(c *Config, key string, parts []piece, m *made) (o output, ok bool, err error) {
	v := c.Conversion
	var file bytes.Buffer
	out := convert.NewWriter(&file, v.Schema, v.JSON, v.Parquet)
	o = output{place: c.Objects.place(), bucket: p.Bucket, key: key, records: int64(len(parts)), bytes: p.size(parts)}
	err = out.AddAll(len(parts), func(i int) []byte { return parts[i].Data }, func(i int, why *convert.Failure) {
		x := &parts[i]
		o.records--
		o.bytes -= int64(len(x.Data) + len(p.Delim))
		m.counts.notConverted.add(1, int64(len(x.Data)))
		m.fail(conversionFailed, newConversionFailure(v.Table, x.offset, x.Arrived.UnixMilli(), p.At, why.Code,
			why.Message, x.Data))
	})
	if err == nil {
		err = out.Close()
	}
	m.counts.converted.add(o.records, o.bytes-o.records*int64(len(p.Delim)))
	o.write = func(_ context.Context, w io.Writer) error { _, err := w.Write(file.Bytes()); return err }
	return o, o.records > 0, err
}
