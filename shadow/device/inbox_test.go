package device

import "testing"

// What a cloud sends without a pause takes no memory without a bound, however
// large its messages are; what is dropped is got anew.
func TestInboxIsBounded(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "large": 200_000} {
		d, err := New(newMemory(), "pump-7", "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 * maxInbox {
			d.Receive("$aws/things/pump-7/shadow/update/delta", make([]byte, size))
		}
		bytes := 0
		for _, m := range d.box.messages {
			bytes += len(m.payload)
		}
		if n := len(d.box.messages); n == 0 || n > maxInbox || bytes > maxInboxBytes || bytes != d.box.bytes ||
			!d.box.lost {
			t.Errorf("%s: %d messages of %d bytes wait, counted as %d, some lost: %v", name, n, bytes, d.box.bytes,
				d.box.lost)
		}
	}
}
