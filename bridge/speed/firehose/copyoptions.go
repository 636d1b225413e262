package firehose

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/sink/warehouse"
)

// A copyOptions are what is understood of CopyOptions (Redshift's guide for developers,
// COPY: data format, conversion and load parameters).
type copyOptions struct {
	json, gzip bool
	delimiter  byte           // of text; COPY's standard is |
	text       warehouse.Text // how lines are read; zero: as PostgreSQL reads CSV
	paths      string         // s3://BUCKET/KEY of a JSONPaths file
	fold       bool           // JSON 'auto ignorecase'
}

// errNotServed says that PostgreSQL's COPY has no such option, or we do not know it.
var errNotServed = errors.New("is not served by PostgreSQL")

// copyFlags are options of a word.
var copyFlags = map[string]func(o *copyOptions){
	"GZIP":             func(o *copyOptions) { o.gzip = true },
	"ESCAPE":           func(o *copyOptions) { o.text.Escape = true },
	"REMOVEQUOTES":     func(o *copyOptions) { o.text.RemoveQuotes = true },
	"BLANKSASNULL":     func(o *copyOptions) { o.text.Blanks = true },
	"TRIMBLANKS":       func(o *copyOptions) { o.text.Trim = true },
	"FILLRECORD":       func(o *copyOptions) { o.text.Fill = true },
	"IGNOREBLANKLINES": func(o *copyOptions) { o.text.SkipBlank = true },
	// What PostgreSQL does anyway.
	"EMPTYASNULL": func(*copyOptions) {}, "EXPLICIT_IDS": func(*copyOptions) {}, "ROUNDEC": func(*copyOptions) {},
}

// hints of Redshift say how it loads, not what: they have no effect.
var copyHints = []string{"COMPUPDATE", "STATUPDATE", "COMPROWS", "READRATIO"}

// copyWords are a text's words, in upper case, and quoted texts, each with a quote before
// it; two quotes within are one.
func copyWords(text string) (all []string, err error) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if text[0] != '\'' {
			n := strings.IndexAny(text, " \t\r\n'")
			if n < 0 {
				n = len(text)
			}
			all, text = append(all, strings.ToUpper(text[:n])), text[n:]
			continue
		}
		quoted := "'"
		for text = text[1:]; ; {
			before, rest, ok := strings.Cut(text, "'")
			if !ok {
				return nil, errors.New("CopyCommand.CopyOptions: a quote is not closed")
			}
			quoted += before
			if text = rest; !strings.HasPrefix(text, "'") {
				break
			}
			quoted, text = quoted+"'", text[1:]
		}
		all = append(all, quoted)
	}
	return all, nil
}

// A copyReader reads words of CopyOptions.
type copyReader struct {
	o       copyOptions
	words   []string
	csv     bool
	refused []string
}

// parseCopy reads CopyOptions. All that PostgreSQL does not do is told together.
func parseCopy(text string) (o copyOptions, err error) {
	words, err := copyWords(text)
	if err != nil {
		return o, err
	}
	r := copyReader{o: copyOptions{delimiter: '|'}, words: words}
	for len(r.words) > 0 {
		if err := r.next(); err != nil {
			return o, fmt.Errorf("CopyCommand.CopyOptions: %w", err)
		}
	}
	switch {
	case len(r.refused) > 0:
		return r.o, fmt.Errorf("CopyCommand.CopyOptions: %.400s: %w", strings.Join(r.refused, ", "), errNotServed)
	case r.o.json && r.o.text != (warehouse.Text{}):
		return r.o, fmt.Errorf("CopyCommand.CopyOptions: options of lines beside JSON: %w", errNotServed)
	}
	if t := &r.o.text; *t != (warehouse.Text{}) {
		if r.csv && (t.Escape || t.RemoveQuotes) {
			return r.o, errors.New("CopyCommand.CopyOptions: ESCAPE and REMOVEQUOTES do not go with CSV")
		}
		t.CSV = r.csv || !t.Escape && !t.RemoveQuotes // fields may be quoted, as without options
		t.Backslash = !r.csv && t.Null == ""          // COPY's standard
	}
	if err := warehouse.CheckText(r.o.text, r.o.delimiter); err != nil {
		return r.o, fmt.Errorf("CopyCommand.CopyOptions: %w", err)
	}
	return r.o, nil
}

// next reads one option.
func (r *copyReader) next() error {
	word := r.words[0]
	r.words = r.words[1:]
	if set := copyFlags[word]; set != nil {
		set(&r.o)
		return nil
	}
	switch word {
	case "FORMAT", "AS":
		return nil
	case "CSV":
		r.o.delimiter, r.csv = ',', true
		return r.quote()
	case "JSON":
		return r.json()
	case "DELIMITER":
		d, err := r.character(word)
		r.o.delimiter = d
		return err
	case "NULL":
		text, err := r.quoted(word)
		r.o.text.Null = text
		return err
	case "IGNOREHEADER":
		n, err := strconv.Atoi(r.value())
		if err != nil || n < 0 || n > 1<<20 {
			return fmt.Errorf("IGNOREHEADER wants a number of lines")
		}
		r.o.text.Header = n
		return nil
	case "ACCEPTINVCHARS":
		return r.invalid()
	case "ENCODING", "DATEFORMAT", "TIMEFORMAT":
		return r.usual(word)
	}
	value := ""
	if len(r.words) > 0 && (r.words[0][0] == '\'' || r.words[0][0] >= '0' && r.words[0][0] <= '9' ||
		slices.Contains([]string{"ON", "OFF", "PRESET", "TRUE", "FALSE"}, r.words[0])) {
		value = " " + strings.TrimPrefix(r.value(), "'")
	}
	if !slices.Contains(copyHints, word) {
		r.refused = append(r.refused, strings.TrimPrefix(word, "'")+value)
	}
	return nil
}

// value is the word after an option, and after AS.
func (r *copyReader) value() string {
	if len(r.words) > 0 && r.words[0] == "AS" {
		r.words = r.words[1:]
	}
	if len(r.words) == 0 {
		return ""
	}
	word := r.words[0]
	r.words = r.words[1:]
	return word
}

// quoted is the text in quotes after an option.
func (r *copyReader) quoted(option string) (string, error) {
	text, ok := strings.CutPrefix(r.value(), "'")
	if !ok {
		return "", fmt.Errorf("%s wants a text in quotes", option)
	}
	return text, nil
}

// character is the character in quotes after an option; \t, and \ with three digits of
// octal, are one.
func (r *copyReader) character(option string) (byte, error) {
	text, err := r.quoted(option)
	if err != nil {
		return 0, err
	}
	text = strings.ReplaceAll(text, `\t`, "\t")
	octal, ok := strings.CutPrefix(text, `\`)
	if n, err := strconv.ParseUint(octal, 8, 7); ok && err == nil && len(octal) == 3 {
		text = string(rune(n))
	}
	if len(text) != 1 || text[0] == 0 || text[0] > '~' ||
		strings.ContainsAny(text, "\n\r\"\\") && option == "DELIMITER" {
		return 0, fmt.Errorf("%s %.20q, want one character of ASCII", option, text)
	}
	return text[0], nil
}

// quote reads QUOTE, which may follow CSV.
func (r *copyReader) quote() error {
	if len(r.words) == 0 || r.words[0] != "QUOTE" {
		return nil
	}
	r.words = r.words[1:]
	c, err := r.character("QUOTE")
	r.o.text.Quote = c
	return err
}

// json reads what JSON is read by.
func (r *copyReader) json() error {
	r.o.json = true
	if len(r.words) == 0 || r.words[0] != "AS" && r.words[0][0] != '\'' {
		return nil // 'auto'
	}
	text, err := r.quoted("JSON")
	if err != nil {
		return err
	}
	switch at, ok := strings.CutPrefix(text, "s3://"); {
	case strings.EqualFold(text, "auto"):
	case strings.EqualFold(text, "auto ignorecase"):
		r.o.fold = true
	case ok && strings.Contains(strings.Trim(at, "/"), "/"):
		r.o.paths = text
	default:
		r.refused = append(r.refused, fmt.Sprintf("JSON '%.100s'", text))
	}
	return nil
}

// invalid reads what stands for bytes that are no UTF-8: ? where nothing is said.
func (r *copyReader) invalid() error {
	r.o.text.Invalid = '?'
	if len(r.words) == 0 || r.words[0] != "AS" && r.words[0][0] != '\'' {
		return nil
	}
	c, err := r.character("ACCEPTINVCHARS")
	r.o.text.Invalid = c
	return err
}

// usual reads an option of which PostgreSQL does what is usual: UTF-8, and times and
// dates as ISO 8601 has them.
func (r *copyReader) usual(option string) error {
	text := r.value()
	switch strings.ToUpper(strings.TrimPrefix(text, "'")) {
	case "AUTO", "UTF8", "YYYY-MM-DD", "YYYY-MM-DD HH:MI:SS", "YYYY-MM-DDTHH:MI:SS":
		return nil
	}
	r.refused = append(r.refused, fmt.Sprintf("%s %.60s", option, strings.TrimPrefix(text, "'")))
	return nil
}
