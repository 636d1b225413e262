package send

import "slices"

// kept are values by key, at most so many: where there is no room, the one that was
// used least recently is dropped. It is not safe for several goroutines.
type kept[V any] struct {
	most  int
	of    map[string]V
	order []string // the keys, the one that was used last at the end
}

func newKept[V any](most int) *kept[V] { return &kept[V]{most: most, of: map[string]V{}} }

func (k *kept[V]) full() bool { return len(k.of) >= k.most }

// get returns a value, which is used by that.
func (k *kept[V]) get(key string) (V, bool) {
	v, ok := k.of[key]
	if ok {
		k.put(key, v)
	}
	return v, ok
}

// put sets a value, which is used by that.
func (k *kept[V]) put(key string, v V) {
	k.drop(key)
	if k.full() {
		k.dropOldest(func(V) bool { return true })
	}
	k.of[key], k.order = v, append(k.order, key)
}

func (k *kept[V]) drop(key string) {
	if _, ok := k.of[key]; ok {
		delete(k.of, key)
		i := slices.Index(k.order, key)
		k.order = slices.Delete(k.order, i, i+1)
	}
}

// dropOldest drops the value that was used least recently of those that may go, and
// returns it; ok is false if none may.
func (k *kept[V]) dropOldest(may func(V) bool) (v V, ok bool) {
	for _, key := range k.order {
		if v = k.of[key]; may(v) {
			k.drop(key)
			return v, true
		}
	}
	return v, false
}
