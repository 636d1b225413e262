// Package convert makes Parquet of records of JSON
// (DataFormatConversionConfiguration).
package convert

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/javatime"
)

// JSON is how records are read.
type JSON struct {
	OpenX           bool              // else Hive's reader
	Dots            bool              // of OpenX: dots in names become underscores
	CaseInsensitive bool              // names are compared in lower case
	Keys            map[string]string // of OpenX: column to the name it has in records
	Timestamps      []string          // of Hive: patterns of a date and time, or "millis"
}

// Check says what cannot be used.
func (j JSON) Check() error {
	for _, pattern := range j.Timestamps {
		if pattern == "millis" {
			continue
		}
		if err := javatime.CheckRead(pattern); err != nil {
			return fmt.Errorf("TimestampFormats: %w", err)
		}
	}
	return nil
}

// Parquet is how files are written.
type Parquet struct {
	Block, Page int    // bytes
	Compression string // SNAPPY, GZIP or UNCOMPRESSED
	Dictionary  bool
	Version2    bool // of data pages
}
