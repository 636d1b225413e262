package device

import (
	"reflect"

	"github.com/tidemill/tidemill/agent/config"
)

// needRestart lists the tables and keys that differ and that Reload leaves.
func needRestart(old, new config.Config) (keys []string) {
	old.Log.Level, old.Spool.FlushEvery, old.Sensors = new.Log.Level, new.Spool.FlushEvery, new.Sensors
	var walk func(a, b reflect.Value, prefix string)
	walk = func(a, b reflect.Value, prefix string) {
		for i := range a.NumField() {
			tag := a.Type().Field(i).Tag.Get("toml")
			key := prefix + tag
			switch {
			case tag == "": // of no file
			case a.Field(i).Kind() == reflect.Struct:
				walk(a.Field(i), b.Field(i), key+".")
			case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
				keys = append(keys, key)
			}
		}
	}
	walk(reflect.ValueOf(old), reflect.ValueOf(new), "")
	return keys
}
