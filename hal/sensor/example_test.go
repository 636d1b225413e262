package sensor_test

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// A sensor is opened by its driver's name on any board, here a simulated one.
func Example() {
	ctx := context.Background()
	board := sim.New(sim.Options{Air: sim.Room(0)})
	defer board.Close()
	climate, err := sensor.Open(ctx, "bme280", board, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer climate.Close()
	values, err := climate.Read(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, c := range climate.Channels() {
		fmt.Println(c.Name, c.Unit, values[i].Kind() == c.Kind)
	}
	// Output:
	// temperature °C true
	// humidity %RH true
	// pressure Pa true
}
