// Package blueprint is the functions that AWS published for delivery streams to
// be transformed by, built in.
package blueprint

// Prefix is what the names of blueprints begin with where a function's ARN is
// wanted.
const Prefix = "tidemill:blueprint:"

// names are the blueprints.
var names = map[string]bool{"general-processing": true, "apachelog-to-json": true, "apachelog-to-csv": true,
	"syslog-to-json": true, "syslog-to-csv": true, "syslog-to-csv-clean": true}

// Has says whether there is a blueprint of that name, without its Prefix.
func Has(name string) bool { return names[name] }
