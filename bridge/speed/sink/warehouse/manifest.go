package warehouse

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A manifest tells Redshift which objects to load.
type manifest struct {
	Entries []entry `json:"entries"`
}

type entry struct {
	URL       string `json:"url"`
	Mandatory bool   `json:"mandatory"` // without it the load fails
}

// copyManifest puts a manifest beside the objects and lets Redshift load them.
func (w *Warehouse) copyManifest(ctx context.Context, tx pgx.Tx, name string, keys []string) error {
	var m manifest
	for _, k := range keys {
		m.Entries = append(m.Entries, entry{"s3://" + w.Bucket + "/" + k, true})
	}
	at := "manifests/" + name
	err := w.Objects.Put(ctx, w.Bucket, at, func(to io.Writer) error {
		enc := json.NewEncoder(to)
		enc.SetEscapeHTML(false)
		return enc.Encode(m)
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
