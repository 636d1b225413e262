package firehose

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
)

// Redshift is a table that objects are loaded into, of Redshift or PostgreSQL.
type Redshift struct {
	Address  string // host:port
	Database string
	Options  url.Values // of the JDBC URL, such as ssl
	Username string
	Password Secret
	RoleARN  string // by which Redshift reads the bucket
	Postgres bool   // the URL says that it is PostgreSQL; else the database is asked

	Table       string // as it was given: it may have a schema before a dot
	Columns     string // comma-separated; empty: those of the table
	CopyOptions string
}

type redshiftBlock struct {
	RoleARN        string
	ClusterJDBCURL string
	CopyCommand    struct{ DataTableName, DataTableColumns, CopyOptions string }
	Username       string
	Password       Secret
	RetryOptions   *retryBlock

	S3Configuration         *s3Block
	ProcessingConfiguration *processingBlock
	S3BackupMode            string
	S3BackupConfiguration   *s3Block

	CloudWatchLoggingOptions    json.RawMessage
	SecretsManagerConfiguration *secretsManagerBlock
}

type secretsManagerBlock struct {
	option
	SecretARN, RoleARN string
}

// redshift reads a Redshift destination (Firehose API,
// RedshiftDestinationConfiguration; a retry of standard 3,600 s).
func (r *reader) redshift(d *redshiftBlock) {
	r.keepText("RoleARN", d.RoleARN)
	r.keep("CloudWatchLoggingOptions", d.CloudWatchLoggingOptions)
	r.noSecretsManager(d.SecretsManagerConfiguration)
	c := &Redshift{RoleARN: d.RoleARN, Username: d.Username, Password: d.Password, Table: d.CopyCommand.DataTableName,
		Columns: d.CopyCommand.DataTableColumns, CopyOptions: d.CopyCommand.CopyOptions}
	r.c.Redshift = c
	r.jdbc(d.ClusterJDBCURL, c)
	r.length("Username", c.Username, 1, 512)
	r.length("Password", c.Password.Reveal(), 6, 512)
	r.length("CopyCommand.DataTableName", c.Table, 1, 512)
	r.length("CopyCommand.DataTableColumns", c.Columns, 0, 204800)
	r.length("CopyCommand.CopyOptions", c.CopyOptions, 0, 204800)
	r.retry(d.RetryOptions, 3600)
	r.processing("", d.ProcessingConfiguration)
	r.required(d.S3Configuration)
	r.c.Buffer = r.c.Objects.Buffer
	if f := r.c.Objects.Compression; f != compress.None && f != compress.Gzip {
		r.bad("S3Configuration.CompressionFormat: want UNCOMPRESSED or GZIP for Redshift")
	}
	if b := d.S3Configuration; b != nil {
		if r.c.Objects.Prefix.expressions {
			r.bad("S3Configuration.Prefix: no expressions for Redshift")
		}
		if b.ErrorOutputPrefix != "" {
			r.bad("S3Configuration.ErrorOutputPrefix: none for Redshift")
		}
	}
	r.backup(d.S3BackupMode, d.S3BackupConfiguration)
}

// jdbc reads jdbc:redshift://HOST:PORT/DATABASE?OPTION=VALUE. Its errors do not
// show the text, whose options may have a password.
func (r *reader) jdbc(text string, c *Redshift) {
	rest, ok := strings.CutPrefix(text, "jdbc:redshift:")
	if !ok {
		rest, ok = strings.CutPrefix(text, "jdbc:postgresql:")
		c.Postgres = ok
	}
	u, err := url.Parse(rest)
	if !ok || err != nil || u.Host == "" || u.Port() == "" || u.Hostname() == "" || len(u.Path) < 2 || u.User != nil {
		r.bad("ClusterJDBCURL: want jdbc:redshift://HOST:PORT/DATABASE, or jdbc:postgresql:")
		return
	}
	for name := range u.Query() {
		if l := strings.ToLower(name); l == "password" || l == "user" || l == "uid" || l == "pwd" {
			r.bad("ClusterJDBCURL: want the name and the password as Username and Password")
		}
	}
	c.Address, c.Database, c.Options = u.Host, strings.TrimPrefix(u.Path, "/"), u.Query()
}

// noSecretsManager refuses a secret that is kept elsewhere.
func (r *reader) noSecretsManager(b *secretsManagerBlock) {
	if b != nil && r.on("SecretsManagerConfiguration", &b.option) {
		r.bad("SecretsManagerConfiguration: is not served; want Enabled false")
	}
}
