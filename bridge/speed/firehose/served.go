package firehose

import (
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/firehose/convert"
)

// served names what a configuration asks for that is not delivered.
func served(c *Config) (errs []error) {
	if c.Redshift != nil {
		if err := c.Redshift.check(c); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Tables finds the schema that a SchemaConfiguration names, of the version or LATEST.
type Tables interface {
	Schema(database, name, version string) (*convert.Table, error)
}

// Check says whether what a configuration names is there: the table of a conversion.
func (s *Service) Check(c *Config) error {
	if c.Conversion == nil {
		return nil
	}
	_, err := c.Conversion.with(s.opts.Tables)
	return err
}

// with is the conversion with its schema: the one that it has, or the catalogue's.
func (v *Conversion) with(all Tables) (*Conversion, error) {
	if v == nil || v.Schema != nil {
		return v, nil
	}
	if all == nil {
		return nil, errors.New("SchemaConfiguration: there is no catalogue of tables")
	}
	schema, err := all.Schema(v.Table.Database, v.Table.Name, v.Table.VersionID)
	if err != nil {
		return nil, fmt.Errorf("SchemaConfiguration: %w", err)
	}
	known := *v
	known.Schema = schema
	return &known, nil
}
