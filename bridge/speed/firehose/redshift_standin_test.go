package firehose

import (
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/tidemill/tidemill/bridge/speed/sink/warehouse"
)

// A redshiftStandIn speaks PostgreSQL's protocol and says that it is Redshift, which
// cannot be had here. It checks no more than what is sent: the order of the statements,
// the text of COPY, and that the objects of its manifest are there. It keeps the table of
// files, and a COPY that fails leaves nothing.
type redshiftStandIn struct {
	t       *testing.T
	objects *bucket
	fail    func(copies int) string // why a COPY fails; "" it does not

	mu     sync.Mutex
	copies []string // statements
	loaded []string // objects, by their URLs
	files  map[string]bool
}

// listen serves until the test ends, and returns its address.
func (r *redshiftStandIn) listen() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); _ = r.serve(c) }) // it ends with the connection
		}
	})
	r.t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// serve is one connection.
func (r *redshiftStandIn) serve(c net.Conn) error {
	b := pgproto3.NewBackend(c, c)
	for {
		m, err := b.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		if _, ok := m.(*pgproto3.StartupMessage); ok {
			break
		}
		if _, err := c.Write([]byte("N")); err != nil { // no TLS
			return err
		}
	}
	b.Send(&pgproto3.AuthenticationCleartextPassword{})
	if err := errors.Join(b.Flush(), b.SetAuthType(pgproto3.AuthTypeCleartextPassword)); err != nil {
		return err
	}
	m, err := b.Receive()
	if p, ok := m.(*pgproto3.PasswordMessage); err != nil || !ok || p.Password != "hidden-pw" {
		return errors.New("wrong password")
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	var sql string
	var arguments [][]byte
	for {
		if err := b.Flush(); err != nil {
			return err
		}
		m, err := b.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.Query:
			r.statement(b, m.String, nil)
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'T'})
		case *pgproto3.Parse:
			sql = m.Query
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Bind:
			arguments = nil
			for _, a := range m.Parameters {
				arguments = append(arguments, append([]byte(nil), a...))
			}
			b.Send(&pgproto3.BindComplete{})
		case *pgproto3.Describe:
			describe(b, sql)
		case *pgproto3.Execute:
			r.run(b, sql, arguments)
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'T'})
		case *pgproto3.Terminate:
			return nil
		}
	}
}

func describe(b *pgproto3.Backend, sql string) {
	if !strings.HasPrefix(sql, "SELECT") {
		b.Send(&pgproto3.NoData{})
		return
	}
	b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("c"), DataTypeOID: 25}}})
}

// statement is a simple query.
func (r *redshiftStandIn) statement(b *pgproto3.Backend, sql string, arguments [][]byte) {
	if strings.HasPrefix(sql, "SELECT") {
		describe(b, sql)
	}
	r.run(b, sql, arguments)
}

func (r *redshiftStandIn) run(b *pgproto3.Backend, sql string, arguments [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	verb, _, _ := strings.Cut(strings.ToUpper(sql), " ")
	switch {
	case strings.HasPrefix(sql, "SELECT version()"):
		b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("PostgreSQL 8.0.2 on i686-pc-linux-gnu, Redshift 1.0.12103")}})
	case verb == "SELECT":
		for _, a := range arguments {
			if r.files[string(a)] {
				b.Send(&pgproto3.DataRow{Values: [][]byte{a}})
			}
		}
	case verb == "INSERT":
		for _, a := range arguments {
			r.files[string(a)] = true
		}
	case verb == "COPY":
		r.copies = append(r.copies, sql)
		why := r.fail(len(r.copies))
		if why == "" {
			why = r.load(sql)
		}
		if why != "" {
			b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX000", Message: why})
			return
		}
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte(verb)})
}

// load reads the manifest of a COPY and looks for its objects.
func (r *redshiftStandIn) load(sql string) string {
	_, rest, _ := strings.Cut(sql, " FROM 's3://")
	at, _, _ := strings.Cut(rest, "'")
	r.objects.mu.Lock()
	defer r.objects.mu.Unlock()
	var m warehouse.Manifest
	if err := json.Unmarshal(r.objects.objects[at], &m); err != nil {
		return "S3ServiceException: the manifest " + at + ": " + err.Error()
	}
	for _, e := range m.Entries {
		if _, ok := r.objects.objects[strings.TrimPrefix(e.URL, "s3://")]; !ok || !e.Mandatory {
			return "S3ServiceException: " + e.URL + " is not there"
		}
		r.loaded = append(r.loaded, e.URL)
	}
	return ""
}
