package firehose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/warehouse"
)

// manifestType is the Failed type of a manifest: objects that are in S3 and could not
// be loaded.
const manifestType = "errors"

// filesTable has the names of objects that were loaded, in the schema of their
// table, so that each is loaded once. It is made where it is not there.
const filesTable = "tidemill_files"

// checkCopy says whether options that Redshift gets as they are can be but options: they
// end no statement and hide nothing of it.
func checkCopy(text string) error {
	quoted := false
	comment := func(text string) bool { return strings.HasPrefix(text, "--") || strings.HasPrefix(text, "/*") }
	for i, c := range text {
		switch {
		case c == '\\' && strings.HasPrefix(text[i+1:], "'"):
			return errors.New("CopyCommand.CopyOptions: a backslash before a quote, which may end it or not: " +
				"want '' in quotes")
		case c == '\'':
			quoted = !quoted
		case c < ' ' && c != '\n' && c != '\t', c == 0x7f:
			return errors.New("CopyCommand.CopyOptions: a control character")
		case !quoted && (c == ';' || c == '"' || comment(text[i:])):
			return errors.New("CopyCommand.CopyOptions: want options alone: no ; -- /* or \" outside of quotes")
		}
	}
	if quoted {
		return errors.New("CopyCommand.CopyOptions: a quote is not closed")
	}
	return nil
}

// check says what cannot be loaded.
func (r *Redshift) check(c *Config) error {
	o, err := parseCopy(r.CopyOptions)
	if !r.Postgres {
		if err := checkCopy(r.CopyOptions); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, errNotServed) && !r.Postgres: // Redshift itself may know it
	case err != nil:
		return err
	case o.gzip != (c.Objects.Compression == compress.Gzip):
		return errors.New("CopyCommand.CopyOptions: GZIP goes with the CompressionFormat GZIP")
	case o.text.Fill && r.Columns == "":
		return errors.New("CopyCommand.DataTableColumns: missing; with FILLRECORD they say how many there are")
	case o.json && o.paths == "" && r.Columns == "":
		return errors.New("CopyCommand.DataTableColumns: missing; with JSON they say which members are loaded")
	}
	if err := warehouse.CheckTable(r.Table); err != nil {
		return fmt.Errorf("CopyCommand.DataTableName: %w", err)
	}
	return nil
}

func (r *Redshift) columns() (all []string) {
	for c := range strings.SplitSeq(r.Columns, ",") {
		if c = strings.TrimSpace(c); c != "" {
			all = append(all, c)
		}
	}
	return all
}

// warehouse is the table of a configuration.
func (d *stream) warehouse(c *Config) (*warehouse.Warehouse, error) {
	r := c.Redshift
	o, unloadable := parseCopy(r.CopyOptions)
	at := url.URL{Scheme: "postgres", User: url.User(r.Username), Host: r.Address, Path: "/" + r.Database}
	if mode := r.Options.Get("sslmode"); mode != "" {
		at.RawQuery = url.Values{"sslmode": {mode}}.Encode()
	} else if r.Options.Get("ssl") == "true" {
		at.RawQuery = "sslmode=require"
	}
	conn, err := pgx.ParseConfig(at.String())
	if err != nil {
		return nil, errors.New("the address of the database is none") // err may show it
	}
	conn.Password = r.Password.Reveal()
	conn.DefaultQueryExecMode = pgx.QueryExecModeExec // each statement is used once
	if d.opts.Dial != nil {
		conn.DialFunc = d.opts.Dial
	}
	store, err := d.objectsAt(c.Objects.place())
	if err != nil {
		return nil, err
	}
	from, ok := store.(warehouse.Store)
	if !ok {
		return nil, errors.New("the object store cannot be read")
	}
	files := filesTable
	if schema, _, ok := strings.Cut(r.Table, "."); ok {
		files = schema + "." + filesTable
	}
	return warehouse.New(warehouse.Options{
		Conn: conn, Table: r.Table, Columns: r.columns(), Files: files, MakeFiles: true,
		JSON: o.json, Delimiter: o.delimiter, Text: o.text, Paths: o.paths, FoldNames: o.fold, Gzip: o.gzip,
		Objects: from, Bucket: c.Objects.Bucket,
		Ask: !r.Postgres, CopyOptions: r.CopyOptions, IAMRole: r.RoleARN, Unloadable: unloadable,
	}), nil
}

// toWarehouse writes the object and has it loaded. What cannot be loaded in the time
// of the retry window stays in S3, and a manifest names it.
func (d *stream) toWarehouse(ctx context.Context, c *Config, p *plan) (*delivery.Job, error) {
	w, err := d.warehouse(c)
	if err != nil {
		return nil, err
	}
	outputs, n, err := d.outputs(ctx, c, p)
	if err != nil {
		return nil, err
	}
	var failing time.Time // since when it cannot be loaded
	return &delivery.Job{
		Items: 1, OutagesCount: true,
		Send: func(ctx context.Context, _ []int) ([]sink.Refusal, error) {
			if err := d.putPlanned(ctx, p, outputs); err != nil {
				return nil, err
			}
			if n().records == 0 {
				return nil, nil
			}
			err := w.Load(ctx, p.loadName(c), []string{p.Key})
			if err != nil && failing.IsZero() {
				failing = time.Now()
			}
			if bad, ever := warehouse.Bad(err); bad {
				return []sink.Refusal{{Err: err, Permanent: ever}}, nil
			}
			return nil, err
		},
		Enough: func(int, *delivery.Failing) bool { return !failing.IsZero() && time.Since(failing) >= c.Retry },
		Settle: func(ctx context.Context, _ int, given []sink.Refusal) error {
			var kept []Failed
			done := n()
			if len(given) > 0 {
				if kept, err = d.skip(ctx, c, p, done, given[0].Err); err != nil {
					return err
				}
				done.failed, done.records = done.failed+done.records, 0
			}
			return d.settle(ctx, p, done, outputs, kept)
		},
	}, nil
}

// loadName names the manifest of a load, below manifests/: the hour of the plan, the
// delivery stream and the plan's id.
func (p *plan) loadName(c *Config) string {
	return time.UnixMilli(p.At).UTC().Format("2006/01/02/15/") + c.Name + "-" + p.ID
}

// skip writes a manifest of what is not loaded. It waits for as long as that cannot
// be written.
func (d *stream) skip(ctx context.Context, c *Config, p *plan, n counts, why error) ([]Failed, error) {
	raw, err := warehouse.ManifestOf(p.Bucket, p.Key)
	if err != nil {
		return nil, err
	}
	key := "errors/manifests/" + p.loadName(c)
	write := func(_ context.Context, w io.Writer) error { _, err := w.Write(raw); return err }
	o := []output{{place: c.Objects.place(), bucket: p.Bucket, key: key, kind: manifestType, records: n.records,
		bytes: int64(len(raw)), write: write}}
	if err := d.Persist(ctx, "writing the manifest", abandoned, func(ctx context.Context) error {
		return d.putPlanned(ctx, p, o)
	}); err != nil {
		return nil, err
	}
	d.log.Error("an object could not be loaded and is skipped", "key", p.Key, "manifest", key, "err", why)
	return d.ofOutputs(p, o, map[string]string{manifestType: why.Error()}), nil
}

// driveManifest loads what a manifest names.
func (d *stream) driveManifest(ctx context.Context, c *Config, f Failed) error {
	if c.Redshift == nil {
		return errors.New("the delivery stream loads no warehouse any more")
	}
	at := *c
	at.Objects.Bucket, at.Objects.Region, at.Objects.EndpointURL = f.Bucket, f.Region, f.EndpointURL
	w, err := d.warehouse(&at)
	if err != nil {
		return err
	}
	store, err := d.objectsAt(f.Place)
	if err != nil {
		return err
	}
	from, ok := store.(sink.Getter)
	if !ok {
		return errors.New("the object store cannot be read")
	}
	raw, _, err := from.Get(ctx, f.Bucket, f.Key, 1<<20)
	if err != nil {
		return err
	}
	var m warehouse.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", f.Key, err)
	}
	var keys []string
	for _, e := range m.Entries {
		key, ok := strings.CutPrefix(e.URL, "s3://"+f.Bucket+"/")
		if !ok {
			return fmt.Errorf("manifest %s: %.200q is in another bucket", f.Key, e.URL)
		}
		keys = append(keys, key)
	}
	if err := w.Load(ctx, f.ID, keys); err != nil {
		return err
	}
	return d.forget(ctx, f)
}
