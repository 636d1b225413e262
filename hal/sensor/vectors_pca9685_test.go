package sensor_test

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/hal"
)

// setDuty sets the output that the vector names, and reads all back.
func setDuty(v *vector) func(ctx context.Context, s hal.Sensor) ([]hal.Value, error) {
	return func(ctx context.Context, s hal.Sensor) ([]hal.Value, error) {
		channel := fmt.Sprintf("ch%v", v.Setup["channel"])
		duty := v.Setup["duty"].(float64)
		if err := s.(hal.Actuator).Set(ctx, channel, hal.FloatValue(duty)); err != nil {
			return nil, err
		}
		return s.Read(ctx)
	}
}
