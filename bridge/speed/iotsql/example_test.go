package iotsql_test

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// A statement is compiled once and evaluated for each message on its topics.
func Example() {
	rule, err := iotsql.Compile(`SELECT temp, topic(2) AS thing FROM 'dt/+/climate' WHERE temp > 26`, "2016-03-23")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, payload := range []string{`{"temp":27.5}`, `{"temp":20}`} {
		m := &iotsql.Input{Message: message.Message{Topic: "dt/pi-1/climate", Payload: []byte(payload)}}
		doc, fired, err := rule.Eval(context.Background(), nil, m)
		fmt.Println(rule.Matches(m.Topic), fired, string(doc), err)
	}
	// Output:
	// true true {"temp":27.5,"thing":"pi-1"} <nil>
	// true false  <nil>
}

// What is wrong with a statement is told with its place.
func ExampleCompile() {
	_, err := iotsql.Compile(`SELECT temp FORM 'dt/#'`, "2016-03-23")
	fmt.Println(err)
	// Output:
	// line 1, column 13: unexpected "FORM"; expected ",", AS, FROM, WHERE, an operator or the end
	//     SELECT temp FORM 'dt/#'
	//                 ^
}
