package warehouse

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// one is a store whose every object is the same.
type one struct{ data []byte }

func (o one) Put(context.Context, string, string, func(io.Writer) error) error { return nil }

func (o one) Get(context.Context, string, string, int) ([]byte, string, error) {
	return o.data, "", nil
}

// BenchmarkLoad loads objects of 50,000 readings in JSON, 5 MB, into a table of
// PostgreSQL without indexes, by COPY. The server does not sync.
//
//	go test ./bridge/speed/sink/warehouse -run '^$' -bench Load
func BenchmarkLoad(b *testing.B) {
	const rows = 50_000
	address, passwordFile := counterpart.PostgreSQL(b)
	c, err := pgx.ParseConfig(address)
	if err != nil {
		b.Fatal(err)
	}
	password, err := os.ReadFile(passwordFile)
	if err != nil {
		b.Fatal(err)
	}
	c.Password = strings.TrimSpace(string(password))
	conn, err := pgx.ConnectConfig(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(b.Context()))
	_, err = conn.Exec(b.Context(),
		"CREATE TABLE readings (device text, ts bigint, temp double precision, hum double precision)")
	if err != nil {
		b.Fatal(err)
	}
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, `{"device":"plant-7/line-%d","ts":%d,"temp":%d.25,"hum":%d.5,"site":"north"}`+"\n", i%100,
			1_790_000_000_000+i, 20+i%10, 40+i%20)
	}
	w := New(Options{Conn: c, Table: "readings", Columns: []string{"device", "ts", "temp", "hum"}, Files: "files",
		MakeFiles: true, JSON: true, Objects: one{[]byte(text.String())}})
	b.SetBytes(int64(text.Len()))
	n := 0
	for b.Loop() {
		if err := w.Load(b.Context(), "bench", []string{fmt.Sprint(n)}); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n*rows)/b.Elapsed().Seconds(), "rows/s")
}
