package shape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

type inner struct {
	Key  *string `aws:"required,min=1,max=4"`
	Data []byte  `aws:"required,max=5"`
	Hash *string `aws:"pattern=digits"`
}

type ref struct {
	StreamName *string `aws:"min=1,max=8,pattern=name"`
}

type request struct {
	ref
	Flag  *bool
	Limit *int32 `aws:"min=1,max=10000"`
	Long  *int64
	At    *time.Time
	Mode  *string           `aws:"enum=ON|OFF"`
	Items []inner           `aws:"min=1,max=3"`
	Names []string          `aws:"max=2" each:"min=1,max=3"`
	Tags  map[string]string `aws:"max=2" key:"min=1,max=3" each:"max=2"`
	One   *inner
	Blob  []byte
}

var of = Of[request](map[string]string{"name": "[a-z]+", "digits": "0|([1-9]\\d{0,2})"})

func ptr[T any](v T) *T { return &v }

// TestTypes: what is not of its type is told in AWS's words.
func TestTypes(t *testing.T) {
	const date = "2015-02-08T20:31:50.5Z"
	at, _ := time.Parse(time.RFC3339, date)
	for _, c := range []struct {
		body string
		want any // a *request or an error's text
	}{
		{`{}`, &request{}},
		{` { "StreamName" : "s", "Nobody": [1, {"a": [null, true]}, "x"], "Limit": null } `,
			&request{ref: ref{ptr("s")}}},
		{`{"StreamName":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83dé"}`,
			&request{ref: ref{ptr("a\"\\/\b\f\n\r\té😀\ufffdé")}}},
		{`{"Flag":true,"Limit":-3,"Long":9007199254740993,"At":1423427510.5}`,
			&request{Flag: ptr(true), Limit: ptr(int32(-3)), Long: ptr(int64(9007199254740993)), At: &at}},
		{`{"Flag":"no","Limit":1.9e1,"Long":1e300,"At":1423427510.4999}`,
			&request{Flag: ptr(false), Limit: ptr(int32(19)), Long: ptr(int64(1<<63 - 1)), At: ptr(at)}},
		{`{"Limit":99999999999,"Items":[],"Names":[],"Tags":{}}`,
			&request{Limit: ptr(int32(1<<31 - 1)), Items: []inner{}, Names: []string{}, Tags: map[string]string{}}},
		{`{"Items":[{"Data":"YWJj","Key":"k"},{"Data":""}],"One":{"Data":"YQ=="}}`,
			&request{Items: []inner{{Key: ptr("k"), Data: []byte("abc")}, {Data: []byte{}}},
				One: &inner{Data: []byte("a")}}},
		{`{"Items":[{"Key":"1"}],"Items":[{"Key":"2"}]}`, &request{Items: []inner{{Key: ptr("2")}}}},
		{`{"Names":["1","2","3","4","5"]}`, &request{Names: []string{"1", "2", "3"}}},
		{`{"Names":["a",null],"Tags":{"a":"b"}}`,
			&request{Names: []string{"a", ""}, Tags: map[string]string{"a": "b"}}},

		{`{"Flag":1}`, "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an Boolean"},
		{`{"Flag":"maybe"}`, "'MAYBE' can not be converted to an Boolean"},
		{`{"Limit":true}`, "class java.lang.Boolean can not be converted to an Integer"},
		{`{"Limit":"1"}`, "class java.lang.String can not be converted to an Integer"},
		{`{"Long":"1"}`, "class java.lang.String can not be converted to an Long"},
		{`{"Limit":[]}`, "Start of list found where not expected"},
		{`{"Limit":{}}`, "Start of structure or map found where not expected."},
		{`{"StreamName":1}`, "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String"},
		{`{"StreamName":false}`, "class java.lang.Boolean can not be converted to an String"},
		{`{"StreamName":["x"],"Limit":"1"}`, "Start of list found where not expected"},
		{`{"At":"` + date + `"}`, "class java.lang.String can not be converted to milliseconds since epoch"},
		{`{"Items":"x"}`, "Expected list or null"},
		{`{"Items":{}}`, "Start of structure or map found where not expected."},
		{`{"Items":[1]}`, "Expected null"},
		{`{"Tags":1}`, "Expected map or null"},
		{`{"Tags":[]}`, "Start of list found where not expected"},
		{`{"One":[]}`, "Start of list found where not expected"},
		{`{"Blob":true}`, "class java.lang.Boolean can not be converted to a Blob"},
		{`{"Blob":"a"}`, "'a' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 1"},
		{`{"Blob":"=abc"}`, "'=abc' can not be converted to a Blob: Invalid Base64 character: '='"},
		{`{"Blob":"YWI\n"}`, "'YWI\n' can not be converted to a Blob: Invalid Base64 character: '\n'"},
		{`{"Blob":"YWH="}`, "'YWH=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},
		{`[]`, "Start of list found where not expected"},

		{``, ErrSyntax.Error()}, {`1`, ErrSyntax.Error()}, {`null`, ErrSyntax.Error()}, {`{`, ErrSyntax.Error()},
		{`{} {}`, ErrSyntax.Error()},
		{`{"Limit":"1"`, ErrSyntax.Error()}, {`{"a":01}`, ErrSyntax.Error()}, {`{"a":1,}`, ErrSyntax.Error()},
		{`{"a" 1}`, ErrSyntax.Error()}, {`{a:1}`, ErrSyntax.Error()},
		{"{\"a\":\"\xff\"}", ErrSyntax.Error()}, {"{\"a\":\"\n\"}", ErrSyntax.Error()},
		{`{"a":"\x"}`, ErrSyntax.Error()}, {`{"a":"\u12"}`, ErrSyntax.Error()},
		{`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, ErrSyntax.Error()},
	} {
		got, err := of.Decode(JSON, []byte(c.body))
		if want, ok := c.want.(string); ok {
			if err == nil || err.Error() != want {
				t.Errorf("%s: %v\n%v\nwant\n%s", c.body, got, err, want)
			}
		} else if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.body, got, err)
		}
		if valid := Valid(JSON, []byte(c.body)); valid == errors.Is(err, ErrSyntax) {
			t.Errorf("%s: valid %v, but %v", c.body, valid, err)
		}
	}
}

// TestConstraints: what breaks its constraints is told in AWS's words and order.
func TestConstraints(t *testing.T) {
	for body, want := range map[string]string{
		`{}`: "",
		`{"StreamName":"abc","Limit":1,"Mode":"ON","Items":[{"Key":"ä😀","Data":"","Hash":"999"}]}`: "",
		`{"StreamName":""}`: "2 validation errors detected: Value '' at 'streamName' failed to satisfy " +
			"constraint: Member must satisfy regular expression pattern: [a-z]+; " +
			"Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1",
		`{"StreamName":"abcdefghi"}`: "1 validation error detected: Value 'abcdefghi' at 'streamName' failed to " +
			"satisfy constraint: Member must have length less than or equal to 8",
		`{"StreamName":"ab1"}`: "1 validation error detected: Value 'ab1' at 'streamName' failed to satisfy " +
			"constraint: Member must satisfy regular expression pattern: [a-z]+",
		`{"Limit":0}`: "1 validation error detected: Value '0' at 'limit' failed to satisfy " +
			"constraint: Member must have value greater than or equal to 1",
		`{"Limit":10001}`: "1 validation error detected: Value '10001' at 'limit' failed to satisfy " +
			"constraint: Member must have value less than or equal to 10000",
		`{"Mode":"on"}`: "1 validation error detected: Value 'on' at 'mode' failed to satisfy " +
			"constraint: Member must satisfy enum value set: [ON, OFF]",
		`{"Items":[]}`: "1 validation error detected: Value '[]' at 'items' failed to satisfy " +
			"constraint: Member must have length greater than or equal to 1",
		`{"Items":[{"Key":"k","Data":""},{"Key":"😀😀😀","Data":"YWJjZGVm"}]}`: "2 validation errors detected: " +
			"Value 'java.nio.HeapByteBuffer[pos=0 lim=6 cap=6]' at 'items.2.member.data' failed to satisfy " +
			"constraint: Member must have length less than or equal to 5; " +
			"Value '😀😀😀' at 'items.2.member.key' failed to satisfy constraint: Member must have length less than or equal to 4",
		`{"One":{"Hash":"01"}}`: "3 validation errors detected: Value '01' at 'one.hash' failed to satisfy constraint: " +
			"Member must satisfy regular expression pattern: 0|([1-9]\\d{0,2}); " +
			"Value null at 'one.data' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'one.key' failed to satisfy constraint: Member must not be null",
		`{"Names":["a","abcd"]}`: "1 validation error detected: Value '[a, abcd]' at 'names' failed to satisfy constraint: " +
			"Member must satisfy constraint: [Member must have length less than or equal to 3, Member must have " +
			"length greater than or equal to 1]",
		`{"Tags":{"":"","b":"ccc"}}`: "2 validation errors detected: Value '{=, b=ccc}' at 'tags' failed to satisfy constraint: " +
			"Map keys must satisfy constraint: [Member must have length less than or equal to 3, Member must have " +
			"length greater than or equal to 1]; " +
			"Value '{=, b=ccc}' at 'tags' failed to satisfy constraint: " +
			"Map value must satisfy constraint: [Member must have length less than or equal to 2, Member must " +
			"have length greater than or equal to 0]",
		`{"Tags":{"a":"","b":"","c":"","d":""}}`: "1 validation error detected: Value '{a=, b=, c=}' at 'tags' " +
			"failed to satisfy constraint: Member must have length less than or equal to 2",
	} {
		in, err := of.Decode(JSON, []byte(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if got := fmt.Sprint(of.Check(in)); got != want && (want != "" || got != "<nil>") {
			t.Errorf("%s:\n%s\nwant\n%s", body, got, want)
		}
	}
	// A long value is cut, and no more than ten are told.
	in, _ := of.Decode(JSON, []byte(`{"StreamName":"`+strings.Repeat("A", 1<<20)+
		`","Items":[{},{},{},{}],"One":{},"Limit":0,"Mode":""}`))
	if got := of.Check(in).Error(); len(got) > 8<<10 || !strings.HasPrefix(got, "10 validation errors") {
		t.Errorf("%d bytes: %.100s", len(got), got)
	}
}

// A client's CBOR may have lengths or not, and other widths than the least.
func TestCBOR(t *testing.T) {
	at := time.UnixMilli(1423427510500).UTC()
	want := &request{ref: ref{ptr("sé")}, Flag: ptr(true), Limit: ptr(int32(-70000)), Long: ptr(int64(1 << 40)),
		At:    &at,
		Items: []inner{{Key: ptr("k"), Data: []byte{0, 255}}}, Names: []string{}, Tags: map[string]string{"a": "b"},
		Blob: []byte{}}
	said := map[string]any{"StreamName": "sé", "Flag": true, "Limit": -70000, "Long": 1 << 40,
		"At":    cbor.Tag{Number: 1, Content: 1423427510500},
		"Items": []any{map[string]any{"Key": "k", "Data": []byte{0, 255}, "New": []any{1.5, float32(2), nil}}},
		"Names": []string{}, "Tags": map[string]string{"a": "b"}, "Blob": []byte{}}
	plain, err := cbor.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(CBOR, nil)
	of.Encode(w, want)
	for _, body := range [][]byte{plain, w.Bytes()} {
		got, err := of.Decode(CBOR, body)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%x: %+v, %v", body, got, err)
		}
	}
	var back map[string]any
	if err := cbor.Unmarshal(w.Bytes(), &back); err != nil || !reflect.DeepEqual(back["Blob"], []byte{}) ||
		back["Limit"] != int64(-70000) {
		t.Errorf("%v %v", back, err)
	}
	if !bytes.Contains(w.Bytes(), []byte("bAt\xc1\x1b\x00\x00\x01\x4b")) {
		t.Errorf("no tag 1 with whole milliseconds in %x", w.Bytes())
	}
	for text, want := range map[string]string{
		"\xa1\x6aStreamName\x7f\x61a\x61b\xff":              `ab`, // text in parts
		"\xbf\x6aStreamName\x61x\xff":                       `x`,  // map without length
		"\xa1\x6aStreamName\x41x":                           `class java.nio.HeapByteBuffer can not be converted to an String`,
		"\xa1\x64Blob\x64YWJj":                              `class java.lang.String can not be converted to a Blob`,
		"\xa1\x65Limit\xf6":                                 ``,
		"\xa1\x65Limit\xf9\x7e\x00":                         ErrSyntax.Error(), // not a number
		"\xa1\x65Limit\x1c":                                 ErrSyntax.Error(),
		"\xbb\xff\xff\xff\xff\xff\xff\xff\xff":              ErrSyntax.Error(), // so many elements
		"\xa1\x5b\x7f\xff\xff\xff\xff\xff\xff\xff":          ErrSyntax.Error(), // so long a name
		"\xa1\x01\x01":                                      ErrSyntax.Error(), // a name that is no text
		"\xa0\x00":                                          ErrSyntax.Error(),
		"\xa1\x61x" + strings.Repeat("\xc1", 1000) + "\x00": ErrSyntax.Error(),
		"\xa1\x61x" + strings.Repeat("\x81", 1000) + "\x00": ErrSyntax.Error(),
		"\xa1\x61x\x5f\x5f\x41a\xff\xff":                    ErrSyntax.Error(), // parts in parts
		"\xa1\x61x\xff":                                     ErrSyntax.Error(),
	} {
		got, err := of.Decode(CBOR, []byte(text))
		said := fmt.Sprint(err)
		if r, ok := got.(*request); ok && err == nil {
			if said = ""; r.StreamName != nil {
				said = *r.StreamName
			}
		}
		if said != want {
			t.Errorf("%x: %s, want %s", text, said, want)
		}
	}
}

// Answers have what clients count on, and nothing that is absent.
func TestEncode(t *testing.T) {
	type answer struct {
		Must, May []string `aws:"required"`
		Left      []string
		Empty     []string
		Text      string
		None      *string
		At        time.Time
		Inner     struct{ N int32 }
		Blob      []byte
	}
	typ := Of[answer](nil)
	v := &answer{May: []string{"a\"\\\x01\n\xff<é😀"}, Empty: []string{}, At: time.UnixMilli(1459799926480),
		Blob: []byte("ab")}
	w := NewWriter(JSON, nil)
	typ.Encode(w, v)
	const want = `{"Must":[],"May":["a\"\\\u0001\n` + "\ufffd" +
		`<é😀"],"Empty":[],"Text":"","At":1459799926.480,"Inner":{"N":0},"Blob":"YWI="}`
	if string(w.Bytes()) != want || !json.Valid(w.Bytes()) {
		t.Errorf("%s\nwant\n%s", w.Bytes(), want)
	}
	var out bytes.Buffer
	w = NewWriter(JSON, nil)
	w.To = &out
	v.May = []string{strings.Repeat("x", 2*flushAt)}
	typ.Encode(w, v)
	if out.Len() < flushAt || w.Flush() != nil || !json.Valid(out.Bytes()) {
		t.Errorf("%d bytes written", out.Len())
	}
}

// What a body makes in memory is bounded by its length, not by what it says.
func TestMemory(t *testing.T) {
	for c, body := range map[Codec]string{JSON: `{"Items":[` + strings.Repeat("{},", 1<<20) + `{}],"Tags":{"":"` +
		strings.Repeat(`","":"`, 1<<18) + `"}}`,
		CBOR: "\xbf\x65Items\x9f" + strings.Repeat("\xa0", 1<<20) + "\xff\xff"} {
		var before, after runtime.MemStats
		in := []byte(body)
		runtime.ReadMemStats(&before)
		if _, err := of.Decode(c, in); err != nil && c == CBOR {
			t.Error(err)
		}
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; made > uint64(len(body)) {
			t.Errorf("%d bytes made of %d", made, len(body))
		}
	}
}

func fuzz(f *testing.F, c Codec) {
	f.Fuzz(func(t *testing.T, body []byte) {
		valid := Valid(c, bytes.Clone(body))
		in, err := of.Decode(c, bytes.Clone(body))
		if valid == errors.Is(err, ErrSyntax) {
			t.Fatalf("valid: %v, but %v", valid, err)
		}
		if err != nil {
			return
		}
		_ = of.Check(in)
		for _, other := range []Codec{JSON, CBOR} {
			w := NewWriter(other, nil)
			of.Encode(w, in)
			if other == JSON && !json.Valid(w.Bytes()) {
				t.Fatalf("not JSON: %s", w.Bytes())
			} else if other == CBOR && cbor.Wellformed(w.Bytes()) != nil {
				t.Fatalf("not CBOR: %x", w.Bytes())
			}
			back, err := of.Decode(other, w.Bytes())
			if err != nil || !reflect.DeepEqual(in, back) {
				t.Fatalf("%+v\n%+v\n%v", in, back, err)
			}
		}
	})
}

// Whatever decodes, encodes in either way and decodes to the same.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"StreamName":"a\"\ud83d\ude00","Flag":true,"Limit":-1.5e1,"Long":12345678901,"At":1423427510.5,` +
		`"Items":[{"Key":"k","Data":"YQ=="}],"Tags":{"a":"b"}}`))
	f.Add([]byte(`{"Names":["a",null],"One":{"Hash":"1"},"Blob":"","x":[{}]}`))
	fuzz(f, JSON)
}

func FuzzCBOR(f *testing.F) {
	f.Add([]byte("\xbf\x6aStreamName\x7f\x61a\xff\x64Blob\x41x\x62At\xc1\x1a\x00\x00\x00\x01\xff"))
	f.Add([]byte("\xa2\x65Limit\xf9\x3c\x00\x65Items\x81\xa1\x64Data\x40"))
	fuzz(f, CBOR)
}
