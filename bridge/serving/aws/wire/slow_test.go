package wire

import (
	"encoding/xml"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The client of an operation that takes long hears white space each 10 s, and then
// the answer or the error in a document; that of a quick one sees a status.
func TestSlowly(t *testing.T) {
	wrong := &Error{Code: "InvalidPart", Status: 400, Message: "part 7 is missing"}
	for _, c := range []struct {
		name   string
		takes  time.Duration
		fails  error
		status int
		spaces int
	}{
		{"quick", 9 * time.Second, nil, 200, 0},
		{"quick and wrong", 9 * time.Second, wrong, 400, 0},
		{"slow", 35 * time.Second, nil, 200, 2},
		{"slow and wrong", 35 * time.Second, wrong, 200, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := httptest.NewRecorder()
				x := &exchange{intake: intake{w: w, r: httptest.NewRequest("POST", "/b/k?uploadId=1", nil)}}
				x.x = x
				p := &restXML{service: &service{Service: &Service{}}}
				err := x.Slowly(func() error { time.Sleep(c.takes); return c.fails })
				if !errors.Is(err, c.fails) {
					t.Fatal(err)
				}
				begun := c.spaces > 0
				if w.Flushed != begun {
					t.Errorf("the client heard something: %v", w.Flushed)
				}
				want := `<Done><Key>k</Key></Done>`
				if err == nil {
					p.answer(x, &Reply{XML: &struct {
						XMLName xml.Name `xml:"Done"`
						Key     string
					}{Key: "k"}})
				} else {
					p.fail(x, x.errorOf(err))
					want = `<Error><Code>InvalidPart</Code><Message>part 7 is missing</Message>` +
						`<Resource>/b/k</Resource><RequestId></RequestId></Error>`
				}
				if w.Code != c.status || w.Header().Get("Content-Type") != "application/xml" {
					t.Errorf("status %d, %v", w.Code, w.Header())
				}
				if got := w.Body.String(); got != xml.Header+strings.Repeat(" ", c.spaces)+want {
					t.Errorf("%q", got)
				}
				if (w.Header().Get("Content-Length") == "") != begun {
					t.Errorf("length %q", w.Header().Get("Content-Length"))
				}
			})
		})
	}
}

// What a slow operation returns when the client is gone is its error.
func TestSlowlyOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &exchange{intake: intake{w: broken{httptest.NewRecorder()}, r: httptest.NewRequest("POST", "/b/k", nil)}}
		x.x = x
		gone := errors.New("gone")
		if err := x.Slowly(func() error { time.Sleep(time.Minute); return gone }); err != gone {
			t.Error(err)
		}
	})
}

// broken is the answer of a client that is gone.
type broken struct{ *httptest.ResponseRecorder }

func (broken) Write([]byte) (int, error)       { return 0, errors.New("broken pipe") }
func (broken) WriteString(string) (int, error) { return 0, errors.New("broken pipe") }
