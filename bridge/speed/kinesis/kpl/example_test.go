package kpl_test

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
)

// A container of the Kinesis Producer Library has several user records.
func Example() {
	container := kpl.Pack([]kpl.Record{{Key: "pi-1", Data: []byte("21.5")}, {Key: "pi-2", Data: []byte("19")}})
	records, ok := kpl.Parse(container)
	fmt.Println(ok)
	for _, r := range records {
		fmt.Println(r.Key, string(r.Data))
	}
	_, ok = kpl.Parse([]byte("a record that stands alone"))
	fmt.Println(ok)
	// Output:
	// true
	// pi-1 21.5
	// pi-2 19
	// false
}
