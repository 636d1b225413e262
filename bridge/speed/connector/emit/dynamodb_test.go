package emit

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// A table without capacity, which dynalite never is: what it leaves over
// is put again, and then is what failed, with the items that it replaced.
func TestDynamoDBUnprocessed(t *testing.T) {
	amazon(t)
	type put struct {
		PutRequest struct {
			Item map[string]map[string]string
		}
	}
	calls, busy := 0, "b"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "DescribeTable") {
			fmt.Fprint(w, `{"Table":{"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],`+
				`"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}`)
			return
		}
		calls++
		var in struct{ RequestItems map[string][]put }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		left := map[string][]put{}
		for _, p := range in.RequestItems["readings"] {
			if id := p.PutRequest.Item["id"]["S"]; id == busy || id == "c" && calls == 1 {
				left["readings"] = append(left["readings"], p)
			}
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"UnprocessedItems": left}); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	e := newEmitter(t, "DynamoDB", Env{}, `{"TableName":"readings","EndpointURL":%q}`, srv.URL)
	b := batch(`{"id":"a"}`, `{"id":"b","v":1}`, `{"id":"c"}`, `{"id":"b","v":2}`)
	same(t, "outcome", outcome(t, e, b), []string{"", "again", "", "again"})
	same(t, "calls", calls, 2+sink.Fruitless)
	busy = ""
	b.Items = append(b.Items[1:2:2], b.Items[3])
	same(t, "the rest", outcome(t, e, b), []string{"", ""})
}

// What the table refuses, which dynalite would take: an attribute without a name.
// It alone fails, and the item of its key before it is put.
func TestDynamoDBRefused(t *testing.T) {
	amazon(t)
	put := map[string]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "DescribeTable") {
			fmt.Fprint(w, `{"Table":{"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],`+
				`"AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}`)
			return
		}
		var in struct {
			RequestItems map[string][]struct {
				PutRequest struct {
					Item map[string]map[string]string
				}
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		for _, p := range in.RequestItems["readings"] {
			if _, ok := p.PutRequest.Item[""]; ok {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"__type":"com.amazon.coral.validate#ValidationException","message":"an attribute without a name"}`)
				return
			}
		}
		for _, p := range in.RequestItems["readings"] {
			put[p.PutRequest.Item["id"]["S"]] = p.PutRequest.Item["v"]["N"]
		}
		fmt.Fprint(w, `{"UnprocessedItems":{}}`)
	}))
	defer srv.Close()
	e := newEmitter(t, "DynamoDB", Env{}, `{"TableName":"readings","EndpointURL":%q}`, srv.URL)
	b := batch(`{"id":"a","v":1}`, `{"id":"b","v":2}`, `{"id":"b","":1}`, `{"id":"c","v":3}`)
	same(t, "outcome", outcome(t, e, b), []string{"", "", "never", ""})
	same(t, "put", put, map[string]string{"a": "1", "b": "2", "c": "3"})
}
