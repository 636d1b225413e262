package warehouse

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A Manifest tells Redshift's COPY … MANIFEST which objects to load.
type Manifest struct {
	Entries []ManifestEntry `json:"entries"`
}

// A ManifestEntry is one of the objects.
type ManifestEntry struct {
	URL       string `json:"url"`
	Mandatory bool   `json:"mandatory"` // without it the load fails
}

// ManifestOf is the text of a manifest of objects of a bucket.
func ManifestOf(bucket string, keys ...string) ([]byte, error) {
	var m Manifest
	for _, k := range keys {
		m.Entries = append(m.Entries, ManifestEntry{"s3://" + bucket + "/" + k, true})
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	err := enc.Encode(m)
	return text.Bytes(), err
}

// copyManifest puts a manifest beside the objects and lets Redshift load them.
func (w *Warehouse) copyManifest(ctx context.Context, tx pgx.Tx, name string, keys []string) error {
	text, err := ManifestOf(w.Bucket, keys...)
	if err != nil {
		return err
	}
	at := "manifests/" + name
	err = w.Objects.Put(ctx, w.Bucket, at, func(to io.Writer) error {
		_, err := to.Write(text)
		return err
	})
	if err == nil {
		_, err = tx.Exec(ctx, w.copyStatement(at), pgx.QueryExecModeSimpleProtocol)
	}
	return err
}

// copyStatement is Redshift's COPY of what the manifest names.
func (w *Warehouse) copyStatement(manifest string) string {
	var b strings.Builder
	b.WriteString("COPY " + quoteTable(w.Table) + w.columns() + " FROM " + literal("s3://"+w.Bucket+"/"+manifest))
	if w.Ask { // of a delivery stream, in the words of the Firehose developer guide
		b.WriteString(" CREDENTIALS " + literal("aws_iam_role="+w.IAMRole) + " MANIFEST")
		if w.CopyOptions != "" {
			b.WriteString(" " + w.CopyOptions)
		}
		return b.String()
	}
	if w.IAMRole == "default" {
		b.WriteString(" IAM_ROLE default")
	} else {
		b.WriteString(" IAM_ROLE " + literal(w.IAMRole))
	}
	if w.JSON {
		b.WriteString(" FORMAT AS JSON 'auto'")
	} else {
		b.WriteString(" FORMAT AS CSV DELIMITER " + literal(string(w.Delimiter)))
	}
	if w.Region != "" {
		b.WriteString(" REGION " + literal(w.Region))
	}
	if w.Gzip {
		b.WriteString(" GZIP")
	}
	b.WriteString(" TIMEFORMAT 'auto' MANIFEST")
	return b.String()
}
