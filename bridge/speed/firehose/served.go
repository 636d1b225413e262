package firehose

import "fmt"

// unserved is what documents may ask for that is not delivered yet, by the
// member that asks for it. An entry leaves with what serves it.
var unserved = []struct {
	member string
	asked  func(*Config) bool
}{
	{"DataFormatConversionConfiguration without Tidemill.Table", func(c *Config) bool {
		return c.Conversion != nil && c.Conversion.Schema == nil
	}},
}

// served names what a configuration asks for that is not delivered.
func served(c *Config) (errs []error) {
	for _, u := range unserved {
		if u.asked(c) {
			errs = append(errs, fmt.Errorf("%s: is not served", u.member))
		}
	}
	if c.Redshift != nil {
		if err := c.Redshift.check(c); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
