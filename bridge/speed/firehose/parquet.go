package firehose

import (
	"fmt"
	"io"

	"github.com/tidemill/tidemill/bridge/speed/firehose/convert"
)

// convertible takes the records out of m that cannot be rows of the table, and has
// a line for each.
func convertible(c *Config, p *plan, m *made) {
	v := c.Conversion
	check := convert.NewWriter(io.Discard, v.Schema, v.JSON, v.Parquet)
	kept := m.parts[:0]
	for _, x := range m.parts {
		why := check.Check(x.Data)
		if why == nil {
			kept = append(kept, x)
			continue
		}
		m.fail(ConversionFailed, NewConversionFailure(v.Table, x.offset, x.Arrived.UnixMilli(), p.At, why.Code,
			why.Message, x.Data))
	}
	m.parts = kept
}

// write writes records as a file of Parquet; convertible let them through.
func (v *Conversion) write(w io.Writer, parts []piece) error {
	out := convert.NewWriter(w, v.Schema, v.JSON, v.Parquet)
	for i := range parts {
		f, err := out.Add(parts[i].Data)
		if err != nil {
			return err
		}
		if f != nil {
			return fmt.Errorf("record %d is no row any more: %s", parts[i].offset, f.Message)
		}
	}
	return out.Close()
}
