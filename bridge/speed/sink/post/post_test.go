package post

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const secret = "?key=hidden"

// No error says the URL, which may have a key in it; the cause stays to be asked for.
func TestErrorsHaveNoURL(t *testing.T) {
	_, err := Request(t.Context(), "POST", "http://h:x/"+secret, nil, nil)
	check(t, "a URL that is none", err)
	r := request(t, t.Context(), "http://127.0.0.1:1/"+secret)
	err = Do(http.DefaultClient, r)
	check(t, "nobody there", err)
	if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Errorf("%#v has not its cause", err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	err = Do(http.DefaultClient, request(t, ctx, "http://127.0.0.1:1/"+secret))
	if check(t, "late", err); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%#v has not its cause", err)
	}
}

func request(t *testing.T, ctx context.Context, url string) *http.Request {
	t.Helper()
	r, err := Request(ctx, "POST", url, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func check(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%s: %v", name, err)
	}
}

// So much of an answer is read and no more, and its status is known where it breaks off.
func TestRead(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X", "y")
		if r.URL.Path == "/breaks" {
			w.Header().Set("Content-Length", "100")
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "0123456789")
	}))
	defer srv.Close()
	a, err := Read(srv.Client(), request(t, t.Context(), srv.URL), 4)
	if err != nil || a.Status != http.StatusTeapot || string(a.Body) != "0123" || a.Header.Get("X") != "y" {
		t.Errorf("%+v %v", a, err)
	}
	a, err = Read(srv.Client(), request(t, t.Context(), srv.URL+"/breaks"), 100)
	if err == nil || a.Status != http.StatusTeapot {
		t.Errorf("%+v %v", a, err)
	}
}
