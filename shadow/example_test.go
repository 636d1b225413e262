package shadow_test

import (
	"fmt"

	"github.com/tidemill/tidemill/shadow"
)

// Delta is what a device has yet to do.
func ExampleDelta() {
	desired, _ := shadow.ParseObject([]byte(`{"every":60,"lamp":{"on":true,"colour":"red"}}`))
	reported, _ := shadow.ParseObject([]byte(`{"every":60,"lamp":{"on":false,"colour":"red"},"fw":"1.2"}`))
	fmt.Println(string(shadow.Append(nil, shadow.Delta(desired, reported))))
	// Output: {"lamp":{"on":true}}
}

// Merge changes what a patch names; null takes a member away.
func ExampleMerge() {
	reported, _ := shadow.ParseObject([]byte(`{"every":60,"lamp":{"on":false}}`))
	patch, _ := shadow.ParseObject([]byte(`{"every":null,"lamp":{"on":true}}`))
	fmt.Println(string(shadow.Append(nil, shadow.Merge(reported, patch))))
	// Output: {"lamp":{"on":true}}
}
