// Package compress writes objects in the formats that a delivery stream's
// CompressionFormat names. The same bytes in, cut into writes however they come,
// give the same bytes out, so that an object that is written again is the same.
package compress

import (
	"fmt"
	"io"
)

// A Format is how an object is compressed.
type Format int

// The formats of Firehose's API, CompressionFormat.
const (
	None         Format = iota // UNCOMPRESSED
	Gzip                       // GZIP
	Zip                        // ZIP: one file, named as the object
	Snappy                     // Snappy: the framing format
	HadoopSnappy               // HADOOP_SNAPPY: Hadoop's BlockCompressorStream
)

// A format says what a Format is called and how it is written.
var formats = [...]struct {
	name, extension string
	open            func(w io.Writer) io.WriteCloser
}{
	None:         {"UNCOMPRESSED", "", plain},
	Gzip:         {"GZIP", ".gz", openGzip},
	Zip:          {"ZIP", ".zip", openZip},
	Snappy:       {"Snappy", ".snappy", openSnappy},
	HadoopSnappy: {"HADOOP_SNAPPY", ".snappy", openHadoopSnappy},
}

// Parse returns the format of a CompressionFormat; "" is UNCOMPRESSED.
func Parse(name string) (Format, error) {
	if name == "" {
		return None, nil
	}
	var names []string
	for f, is := range formats {
		if is.name == name {
			return Format(f), nil
		}
		names = append(names, is.name)
	}
	return None, fmt.Errorf("%.100q, want one of %q", name, names)
}

// String returns the CompressionFormat.
func (f Format) String() string { return formats[f].name }

// MarshalText implements encoding.TextMarshaler.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Format) UnmarshalText(name []byte) (err error) {
	*f, err = Parse(string(name))
	return err
}

// Extension is what object keys end in: real delivery streams add .gz; the
// others are Firehose's developer guide's.
func (f Format) Extension() string { return formats[f].extension }

// NewWriter returns a writer that compresses into w. Close ends the format and
// leaves w open. Both keep to the one goroutine.
func (f Format) NewWriter(w io.Writer) io.WriteCloser { return formats[f].open(w) }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func plain(w io.Writer) io.WriteCloser { return nopCloser{w} }
