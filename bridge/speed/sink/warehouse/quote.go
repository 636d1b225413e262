package warehouse

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxName is the longest identifier, bytes: Redshift's; PostgreSQL has 63.
const maxName = 127

// CheckName says whether a column could have a name.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%q, want a name of 1 to %d bytes", name, maxName)
	}
	return nil
}

// CheckTable says whether a table could have a name, SCHEMA.TABLE or TABLE.
func CheckTable(name string) error {
	parts := strings.Split(name, ".")
	if len(parts) > 2 {
		return fmt.Errorf("%q, want SCHEMA.TABLE or TABLE", name)
	}
	var errs []error
	for _, p := range parts {
		errs = append(errs, CheckName(p))
	}
	return errors.Join(errs...)
}

// quote writes a name so that it means itself, whatever is in it.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func quoteTable(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = quote(p)
	}
	return strings.Join(parts, ".")
}

// literal writes text as a string of SQL; what comes here has no backslash,
// which Redshift would take for an escape.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
