package lookup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/sink/post"
)

// Models are a service that speaks Amazon Machine Learning's Predict, at a URL.
type Models struct {
	URL   string // {model} in it stands for the model's id
	Token string // of a bearer; "": none
	HTTP  *http.Client
}

// modelPattern is that of a model's id (Amazon Machine Learning API reference,
// Predict), without those that would be another path.
var modelPattern = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,63}$`)

var errNoPrediction = errors.New("the answer has no Prediction")

// Predict implements iotsql.Models. All values of the record go as texts, as the
// service wants it.
func (x Models) Predict(ctx context.Context, model string, record []byte) ([]byte, error) {
	if !modelPattern.MatchString(model) {
		return nil, fmt.Errorf("model %.64q, want 1 to 64 of A-Z a-z 0-9 - . _", model)
	}
	texts, err := recordOf(record)
	if err != nil {
		return nil, err
	}
	at := strings.ReplaceAll(x.URL, "{model}", url.PathEscape(model))
	body, err := json.Marshal(map[string]any{"MLModelId": model, "Record": texts, "PredictEndpoint": at})
	if err != nil {
		return nil, err
	}
	headers := map[string]string{"Content-Type": "application/x-amz-json-1.1",
		"X-Amz-Target": "AmazonML_20141212.Predict"}
	if x.Token != "" {
		headers["Authorization"] = "Bearer " + x.Token
	}
	r, err := post.Request(ctx, http.MethodPost, at, body, headers)
	if err != nil {
		return nil, err
	}
	var out struct{ Prediction json.RawMessage }
	if err := post.Answer(x.HTTP, r, &out); err != nil {
		return nil, err
	}
	if out.Prediction == nil {
		return nil, errNoPrediction
	}
	return out.Prediction, nil
}

// recordOf is a record with texts alone.
func recordOf(record []byte) (map[string]string, error) {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(record, &in); err != nil {
		return nil, err
	}
	texts := make(map[string]string, len(in))
	for name, v := range in {
		var text string
		if v[0] != '"' {
			text = string(v)
		} else if err := json.Unmarshal(v, &text); err != nil {
			return nil, err
		}
		texts[name] = text
	}
	return texts, nil
}
