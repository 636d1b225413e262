// Package restjson writes answers as AWS's REST services do: a body of JSON, and
// of an error its code in a header.
package restjson

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// Encode returns out as JSON, of nil nothing. Characters of HTML stay as they are:
// SQL has < and >.
func Encode(out any) ([]byte, error) {
	if out == nil {
		return nil, nil
	}
	if doc, ok := out.(json.RawMessage); ok {
		return doc, nil
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// Write answers with a body that Encode made.
func Write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone if this fails
}

// SetError names the error that an answer is.
func SetError(h http.Header, code string) { h.Set("X-Amzn-Errortype", code) }

// WriteError answers with an error that has a message and nothing else.
func WriteError(w http.ResponseWriter, status int, code, message string) {
	SetError(w.Header(), code)
	body, _ := Encode(struct { // a text is always JSON
		Message string `json:"message"`
	}{message})
	Write(w, status, body)
}
