package sensor

// Place says which I2C bus and address a sensor has by its driver and options: two that
// have the same write to one chip. bus is "" for the board's first. ok is false for a
// driver of no I2C chip.
func Place(driver string, opts map[string]any) (bus string, address int64, ok bool) {
	for _, d := range drivers {
		if d.Name == driver && d.i2c != nil {
			o := newOptions(opts)
			return o.text("bus", ""), o.whole("address", int64(d.i2c.addresses[0])), true
		}
	}
	return "", 0, false
}
