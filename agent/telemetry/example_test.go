package telemetry_test

import (
	"fmt"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// Readings are gathered, encoded as one batch, and come back as JSON.
func Example() {
	channels := []telemetry.Channel{
		{Name: "temperature", Unit: "°C", Kind: telemetry.Float},
		{Name: "door", Kind: telemetry.Text},
	}
	var b telemetry.Builder
	for i, t := range []float64{21.5, 21.75} {
		values := []telemetry.Value{telemetry.FloatValue(t), telemetry.TextValue("open")}
		if err := b.Add("climate", channels, 1700000000000+int64(i)*1000, values); err != nil {
			fmt.Println(err)
			return
		}
	}
	wire, err := telemetry.Append(nil, b.Batch(telemetry.Header{Seq: 1}))
	if err != nil {
		fmt.Println(err)
		return
	}
	batch, err := telemetry.Decode(wire)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range batch.Series {
		for i := range s.Times {
			fmt.Println(s.Sensor, string(s.AppendJSON(nil, i, telemetry.Doubt{})))
		}
	}
	// Output:
	// climate {"ts":1700000000000,"temperature":21.5,"door":"open"}
	// climate {"ts":1700000001000,"temperature":21.75,"door":"open"}
}
