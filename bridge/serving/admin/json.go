package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func readJSON(r *http.Request, v any) error {
	if err := decodeStrict(r.Body, v); err != nil {
		return badRequest{err}
	}
	return nil
}

// decodeStrict reads one JSON value and nothing else, of members known to v.
func decodeStrict(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("want one JSON value and no more")
	}
	return nil
}

// pages calls page with the after of each page until there is no next.
func pages(page func(after string) (next string, err error)) error {
	for after := ""; ; {
		next, err := page(after)
		if err != nil || next == "" {
			return err
		}
		after = next
	}
}
