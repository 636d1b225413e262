package wire_test

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
)

var errNoMill = errors.New("there is no such mill")

// A service in REST with one operation, and one in JSON.
func Example() {
	arn := func(name string) string { return "arn:aws:mills:eu-test-7:000000000000:mill/" + name }
	rest := &wire.Service{
		Name: "mills", Signing: []string{"mills"}, Protocol: wire.RESTJSON{},
		MaxBody: 64 << 10, Concurrent: 64,
		Errors: []wire.Rule{wire.Is(errNoMill, "ResourceNotFoundException", http.StatusNotFound)},
		Operations: []wire.Operation{{
			Name: "DescribeMill", Method: "GET", Path: "/mills/:millName",
			Resource: func(r *wire.Request) string { return arn(r.Path("millName")) },
			Run: func(r *wire.Request) (any, error) {
				if r.Path("millName") != "tide" {
					return nil, errNoMill
				}
				return map[string]string{"millArn": arn("tide")}, nil
			},
		}},
	}
	type input struct {
		MillName *string `aws:"required,min=1,max=8"`
	}
	type output struct{ Level int32 }
	inJSON := &wire.Service{
		Name: "levels", Signing: []string{"levels"}, Protocol: wire.JSON{Target: "Levels_2020", Version: "1.1"},
		MaxBody: 64 << 10, Concurrent: 64,
		Operations: []wire.Operation{
			wire.Query("GetLevel", nil, func(_ *wire.Request, in *input) (*output, error) {
				return &output{Level: 3}, nil
			}),
		},
	}
	h := wire.New(wiretest.Options(rest, inJSON))

	for _, name := range []string{"tide", "wind"} {
		a := wiretest.Ask(h, "mills", "GET", "/mills/"+name, "")
		fmt.Println(a.Status, a.Code, a.Body)
	}
	for _, body := range []string{`{"MillName":"tide"}`, `{}`} {
		a := wiretest.AskTarget(h, "levels", "Levels_2020.GetLevel", body)
		fmt.Println(a.Status, a.Body)
	}
	// Output:
	// 200  {"millArn":"arn:aws:mills:eu-test-7:000000000000:mill/tide"}
	//
	// 404 ResourceNotFoundException {"message":"there is no such mill"}
	//
	// 200 {"Level":3}
	// 400 {"__type":"ValidationException","message":"1 validation error detected: Value null at 'millName' failed to satisfy constraint: Member must not be null"}
}
