package admin

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/tidemill/tidemill/bridge/strictjson"
)

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func readJSON(r *http.Request, v any) error {
	doc, err := io.ReadAll(r.Body)
	if err == nil {
		err = strictjson.Decode(doc, v)
	}
	if err != nil {
		return badRequest{err}
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
