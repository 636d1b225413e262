package emit

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

func TestDynamoDB(t *testing.T) {
	amazon(t)
	url := counterpart.Dynalite(t)
	c, err := awsapi.Place{EndpointURL: url}.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db := dynamodb.NewFromConfig(c)
	_, err = db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("readings"), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("device"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("t"), AttributeType: types.ScalarAttributeTypeN}},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("device"), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String("t"), KeyType: types.KeyTypeRange}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := newEmitter(t, "DynamoDB", Env{}, `{"TableName":"readings","EndpointURL":%q}`, url)
	var data, want []string
	add := func(item, outcome string) { data, want = append(data, item), append(want, outcome) }
	add(`{"device":"a","t":1,"v":"first"}`, "")
	add(`{"device":"a","t":1.0,"v":12345678901234567890.123456789012345678}`, "") // the same key, and it wins
	add(`{"device":"a","t":1}x`, "never")
	add(`{"device":"a"}`, "never")
	add(`{"device":"","t":1}`, "never")
	add(`{"device":1,"t":1}`, "never")
	add(`{"device":"b","t":2,"n":null,"l":[1,"x",{"y":true}],"m":{"k":""}}`, "")
	add(`{"device":"b","t":2,"v":1.00000000000000000000000000000000000000001}`, "never") // the one before is put
	add(`{"device":"c","t":1,"v":1e126}`, "never")
	add(fmt.Sprintf(`{"device":"c","t":1,"v":%q}`, strings.Repeat("x", 400<<10)), "never")
	for i := 1; i <= 60; i++ { // some requests by their number, and some by their bytes
		add(fmt.Sprintf(`{"device":"many","t":%d,"v":%q}`, i, strings.Repeat("ä", i*3000)), "")
	}
	for range 2 { // the second attempt changes nothing
		same(t, "outcome", outcome(t, e, batch(data...)), want)
		out, err := db.Query(t.Context(),
			&dynamodb.QueryInput{TableName: aws.String("readings"), Select: types.SelectCount,
				KeyConditionExpression:    aws.String("device = :d"),
				ExpressionAttributeValues: map[string]types.AttributeValue{":d": &types.AttributeValueMemberS{Value: "a"}}})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "items of a", out.Count, int32(1))
	}
	key := func(device, at string) map[string]types.AttributeValue {
		return map[string]types.AttributeValue{"device": &types.AttributeValueMemberS{Value: device},
			"t": &types.AttributeValueMemberN{Value: at}}
	}
	got, err := db.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("readings"), Key: key("a", "1")})
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := got.Item["v"].(*types.AttributeValueMemberN); !ok ||
		n.Value != "12345678901234567890.123456789012345678" {
		t.Errorf("v = %#v", got.Item["v"])
	}
	got, err = db.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("readings"), Key: key("b", "2")})
	if l, ok := got.Item["l"].(*types.AttributeValueMemberL); err != nil || !ok || len(l.Value) != 3 {
		t.Errorf("b = %v, %v", got.Item, err)
	}
	for i := 1; i <= 60; i++ { // dynalite gives an empty text no size
		out, err := db.Query(t.Context(),
			&dynamodb.QueryInput{TableName: aws.String("readings"), Select: types.SelectCount,
				KeyConditionExpression: aws.String("device = :d AND t = :t"),
				FilterExpression:       aws.String("size(v) = :n"),
				ExpressionAttributeValues: map[string]types.AttributeValue{
					":d": &types.AttributeValueMemberS{Value: "many"},
					":t": &types.AttributeValueMemberN{Value: fmt.Sprint(i)},
					":n": &types.AttributeValueMemberN{Value: fmt.Sprint(i * 3000)}}})
		if err != nil {
			t.Fatal(err)
		}
		if out.Count != 1 {
			t.Errorf("item %d is not what was put", i)
		}
	}
	gone := newEmitter(t, "DynamoDB", Env{}, `{"TableName":"missing","EndpointURL":%q}`, url)
	if failed, err := gone.Emit(t.Context(), batch(`{}`)); err == nil {
		t.Errorf("no table: %v", failed)
	}
}

func TestSearch(t *testing.T) {
	amazon(t)
	url := counterpart.OpenSearch(t)
	ask := func(method, path, body string) map[string]any {
		t.Helper()
		var out map[string]any
		until(t, func() error {
			r, err := http.NewRequest(method, url+path, strings.NewReader(body))
			if err != nil {
				return err
			}
			r.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode >= 300 {
				err = fmt.Errorf("%s %s: %s", method, path, text)
			}
			if err != nil {
				return err
			}
			return json.Unmarshal(text, &out)
		})
		return out
	}
	ask("GET", "/_cluster/health?wait_for_status=yellow", "")
	ask("PUT", "/readings-2026.03.01", `{"settings":{"number_of_replicas":0},"mappings":{"properties":{"c":{"type":"double"}}}}`)
	ask("PUT", "/readings-2026.03.02", `{"settings":{"number_of_replicas":0},"mappings":{"properties":{"c":{"type":"double"}}}}`)
	e := newEmitter(t, "Search", Env{}, `{"URL":%q,"Index":"readings-!{timestamp:yyyy.MM.dd}","Gzip":true,"MaxBytes":200}`,
		url)
	b := batch(`{"c":1.5}`, "{\n\"c\": 2 }", `{"c":"warm secret-value"}`, `[1]`, `nothing`, `{"c":5}`)
	b.Items[5].Sub = 3
	for range 2 {
		same(t, "outcome", outcome(t, e, b), []string{"", "", "never", "never", "never", ""})
	}
	failed, err := e.Emit(t.Context(), b)
	for _, f := range failed {
		if err != nil || strings.Contains(f.Err.Error(), "secret-value") {
			t.Errorf("the reason quotes the document: %v, %v", f.Err, err)
		}
	}
	ask("POST", "/_refresh", "")
	same(t, "first day", ask("GET", "/readings-2026.03.01/_count", "")["count"], any(1.0))
	same(t, "second day", ask("GET", "/readings-2026.03.02/_count", "")["count"], any(2.0))
	doc := ask("GET", "/readings-2026.03.02/_doc/readings:shardId-000000000001:105.3", "")
	same(t, "version", doc["_version"], any(3.0))
	same(t, "source", doc["_source"], any(map[string]any{"c": 5.0}))

	create := newEmitter(t, "Search", Env{}, `{"URL":%q,"Index":"readings-2026.03.02","Operation":"create"}`, url)
	same(t, "created before", outcome(t, create, batch(`{"c":7}`, `{"c":8}`)), []string{"", ""})
	same(t, "created again", outcome(t, create, batch(`{"c":9}`, `{"c":9}`)), []string{"", ""})
	doc = ask("GET", "/readings-2026.03.02/_doc/readings:shardId-000000000001:100", "")
	same(t, "unchanged", doc["_source"], any(map[string]any{"c": 7.0}))

	ask("PUT", "/readings-2026.03.02/_settings", `{"index.blocks.write":true}`)
	same(t, "blocked", outcome(t, e, b), []string{"", "again", "again", "never", "never", "again"})
}

// What the search service cannot be brought to do: refuse whole requests, and
// be asked who it is that asks.
func TestSearchRequests(t *testing.T) {
	amazon(t)
	t.Setenv("PASSWORD", "p:w")
	var auth []string
	status := func(int) int { return 201 }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth = append(auth, r.Header.Get("Authorization"))
		body, _ := io.ReadAll(r.Body)
		lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
		if strings.Contains(string(body), "down") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if len(lines) > 4 || strings.Contains(string(body), "huge") {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		var items []string
		for i := 0; i < len(lines); i += 2 {
			items = append(items, fmt.Sprintf(`{"index":{"status":%d,"error":{"type":"x","reason":"y"}}}`,
				status(len(auth))))
		}
		fmt.Fprintf(w, `{"errors":true,"items":[%s]}`, strings.Join(items, ","))
	}))
	defer srv.Close()
	with := func(members string) connector.Emitter {
		return newEmitter(t, "Search", Env{}, `{"URL":%q,"Index":"i"%s}`, srv.URL, members)
	}
	e := with("")
	same(t, "halved", outcome(t, e, batch(`{"a":1}`, `{"a":2}`, `{"a":"huge"}`, `{"a":4}`, `{"a":5}`)),
		[]string{"", "", "never", "", ""})
	status = func(n int) int { return map[bool]int{true: 429, false: 200}[n%2 == 1] }
	auth = nil
	same(t, "busy", outcome(t, e, batch(`{"a":1}`)), []string{""})
	same(t, "requests", len(auth), 2)
	if failed, err := e.Emit(t.Context(), batch(`{"a":"down"}`)); err == nil {
		t.Errorf("down: %v", failed)
	}
	status = func(int) int { return 200 }
	for members, want := range map[string]string{
		`,"Username":"u","Password":{"Env":"PASSWORD"}`: "Basic dTpwOnc=",
		`,"APIKey":{"Env":"PASSWORD"}`:                  "ApiKey p:w",
		`,"SigV4":{"Service":"aoss"}`:                   "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/",
	} {
		auth = nil
		same(t, "authorized", outcome(t, with(members), batch(`{"a":1}`)), []string{""})
		if len(auth) != 1 || !strings.HasPrefix(auth[0], want) || want[0] == 'A' && want[1] == 'W' &&
			!strings.Contains(auth[0], "/eu-central-1/aoss/aws4_request") {
			t.Errorf("%s: %q", members, auth)
		}
	}
}

func TestSearchTrustsItsAuthorityAlone(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"items":[{"index":{"status":200}}]}`)
	}))
	defer srv.Close()
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	e := newEmitter(t, "Search", Env{}, `{"URL":%q,"Index":"i","CAFile":%q}`, srv.URL, ca)
	same(t, "trusted", outcome(t, e, batch(`{}`)), []string{""})
	e = newEmitter(t, "Search", Env{}, `{"URL":%q,"Index":"i"}`, srv.URL)
	if _, err := e.Emit(t.Context(), batch(`{}`)); err == nil {
		t.Error("a certificate of nobody's was trusted")
	}
}

func TestStream(t *testing.T) {
	amazon(t)
	var requests []int
	var put []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			StreamARN string
			Records   []struct {
				PartitionKey string
				Data         []byte
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.StreamARN == "" {
			t.Errorf("%v, %v", in, err)
		}
		// The SDK closes a request's body when the answer's header is there; if
		// net/http then still looks for the body's end, it drops the connection.
		time.Sleep(20 * time.Millisecond)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		var out []string
		total := 0
		for i, rec := range in.Records {
			total += len(rec.Data)
			if len(rec.Data) > 1<<20 {
				w.WriteHeader(400)
				fmt.Fprint(w, `{"__type":"ValidationException","message":"too long"}`)
				return
			}
			if len(requests) == 0 && i%2 == 1 {
				out = append(out, `{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"slow"}`)
				continue
			}
			put = append(put, string(rec.Data[:min(8, len(rec.Data))]))
			out = append(out, `{"SequenceNumber":"1","ShardId":"s"}`)
		}
		if len(in.Records) > 500 || total > 10<<20 {
			t.Errorf("%d records, %d bytes", len(in.Records), total)
		}
		requests = append(requests, len(in.Records))
		fmt.Fprintf(w, `{"FailedRecordCount":0,"Records":[%s]}`, strings.Join(out, ","))
	}))
	defer srv.Close()
	e := newEmitter(t, "Stream", Env{}, `{"StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/there","EndpointURL":%q}`,
		srv.URL)
	data := make([]string, 600)
	want := make([]string, 600)
	for i := range data {
		data[i] = fmt.Sprint(i)
	}
	data[599] = ""
	same(t, "outcome", outcome(t, e, batch(data...)), want)
	same(t, "requests", requests, []int{500, 100, 250})
	same(t, "put", len(put), 600)

	requests = []int{1}
	big := strings.Repeat("x", 1<<20)
	data = []string{big, big, big, big + "x", big, big, big, big, big, big, big, big}
	want = make([]string, 12)
	want[3] = "never"
	same(t, "large", outcome(t, e, batch(data...)), want)
}
