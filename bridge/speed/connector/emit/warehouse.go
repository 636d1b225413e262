package emit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/s3"
	"github.com/tidemill/tidemill/bridge/speed/sink/warehouse"
)

// A warehouseEmitter loads the objects that its items name.
type warehouseEmitter struct {
	open
	warehouse *warehouse.Warehouse
}

var roleForm = regexp.MustCompile(
	`^(default|arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+(,arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+)*)$`)
var regionForm = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// A warehouseJSON is what a file says of a warehouse.
type warehouseJSON struct {
	Dialect     string
	URL         string
	Password    secret
	Table       string
	Columns     []string
	FilesTable  string
	Format      string
	Delimiter   string
	Compression string
	Bucket      string
	Region      string
	EndpointURL string
	IAMRole     string
}

func newWarehouse(p *parse) connector.Emitter {
	var doc warehouseJSON
	p.into(&doc)
	o := doc.options(p)
	p.want("URL", doc.URL, databaseURL)
	password := p.secret("Password", doc.Password)
	if len(p.errs) > 0 {
		return nil
	}
	at := awsapi.Place{Region: doc.Region, EndpointURL: doc.EndpointURL}
	if o.Redshift {
		o.Objects = s3.New(p.aws(at)) // it reads no other
	} else if store, ok := p.objects(at).(warehouse.Store); ok {
		o.Objects = store
	} else {
		p.bad("Bucket: the object store cannot be read")
	}
	var err error
	if o.Conn, err = pgx.ParseConfig(doc.URL); err != nil {
		p.bad("URL: %w", err)
		return nil
	}
	o.Conn.DefaultQueryExecMode = pgx.QueryExecModeExec // each statement is used once
	if password != "" {
		o.Conn.Password = password
	}
	return &warehouseEmitter{warehouse: warehouse.New(o)}
}

// options checks what does not need another service.
func (doc *warehouseJSON) options(p *parse) warehouse.Options {
	o := warehouse.Options{
		Redshift: doc.Dialect == "redshift", Table: doc.Table, Columns: doc.Columns, Files: doc.FilesTable,
		JSON: doc.Format == "json", Delimiter: ',', Gzip: doc.Compression == "GZIP", Bucket: doc.Bucket,
		IAMRole: doc.IAMRole, Region: doc.Region,
	}
	if doc.Dialect != "redshift" && doc.Dialect != "postgres" {
		p.bad("Dialect: %q, want postgres or redshift", doc.Dialect)
	}
	p.want("Table", doc.Table, warehouse.CheckTable)
	p.want("FilesTable", doc.FilesTable, warehouse.CheckTable)
	p.want("Bucket", doc.Bucket, sink.CheckBucket)
	for i, c := range doc.Columns {
		if err := warehouse.CheckName(c); err != nil {
			p.bad("Columns[%d]: %w", i, err)
		}
	}
	switch f := doc.Format; {
	case f != "csv" && f != "json":
		p.bad("Format: %q, want csv or json", f)
	case f == "json" && len(doc.Columns) == 0:
		p.bad("Columns: missing; they say which members are loaded")
	}
	if d := doc.Delimiter; d != "" {
		if len(d) != 1 || d[0] < '\t' || d[0] > '~' || d == "\n" || d == "\r" || d == `"` || d == `\` ||
			doc.Format == "json" {
			p.bad("Delimiter: %q, want one character of ASCII, for csv", d)
		} else {
			o.Delimiter = d[0]
		}
	}
	if c := doc.Compression; c != "" && c != "GZIP" && c != "UNCOMPRESSED" {
		p.bad("Compression: %q, want GZIP or UNCOMPRESSED", c)
	}
	if o.Redshift {
		p.want("IAMRole", doc.IAMRole, func(s string) error {
			if !roleForm.MatchString(s) {
				return fmt.Errorf("%q, want default or a role's ARN", s)
			}
			return nil
		})
		if doc.Region != "" && !regionForm.MatchString(doc.Region) {
			p.bad("Region: %q is no region", doc.Region)
		}
	} else if doc.IAMRole != "" {
		p.bad("IAMRole: it is redshift's")
	}
	return o
}

// databaseURL wants postgres://USER@HOST/DATABASE and no password.
func databaseURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.User.Username() == "" {
		return errors.New("want postgres://USER@HOST:PORT/DATABASE") // what it is may hold a password
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return errors.New("it holds a password; use Password")
	}
	return nil
}

// Emit implements connector.Emitter. All objects are loaded in one transaction.
// If one of them is at fault, halves are loaded each in its own, so that the
// others get in.
func (e *warehouseEmitter) Emit(ctx context.Context, b *connector.Batch) ([]connector.Failure, error) {
	var failed []connector.Failure
	var idx []int
	for i := range b.Items {
		if n := len(b.Items[i].Data); n == 0 || n > 1024 {
			failed = append(failed, connector.Failure{Index: i, Err: fmt.Errorf("%d bytes are no object's key", n),
				Permanent: true})
			continue
		}
		idx = append(idx, i)
	}
	if len(idx) == 0 {
		return failed, nil
	}
	w := sink.Writer{
		Most: len(idx), Size: func(int) int { return 0 },
		Refused: func(err error) bool { bad, _ := warehouse.Bad(err); return bad },
		Put: func(ctx context.Context, part []int) ([]connector.Failure, error) {
			name := b.First + "-" + b.Last
			if len(part) < len(b.Items) {
				name += fmt.Sprintf(".%d-%d", part[0], part[len(part)-1])
			}
			keys := make([]string, len(part))
			for n, i := range part {
				keys[n] = string(b.Items[i].Data)
			}
			err := e.warehouse.Load(ctx, name, keys)
			if bad, ever := warehouse.Bad(err); bad && len(part) == 1 {
				return []connector.Failure{{Index: part[0], Err: err, Permanent: ever}}, nil
			}
			return nil, err
		},
	}
	more, err := w.Write(ctx, idx)
	if err != nil {
		return nil, err
	}
	return append(failed, more...), nil
}
