//go:build !linux

package device

import "github.com/tidemill/tidemill/agent/telemetry"

func kernelClock() telemetry.Clock { return telemetry.ClockUnknown }
