package main

import "testing"

func TestPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 3100, 4 << 20: 3100, 16 << 20: 700, 64 << 20: 100, 65 << 20: 100, 1 << 40: 100} {
		if got := percent(live); got != want {
			t.Errorf("%d live bytes: %d, want %d", live, got, want)
		}
	}
}
