package index

import (
	"math/bits"
	"slices"
)

// A set is one of document numbers: bit n%32 of word n/32 for each.
type set []uint32

func (s set) has(n uint32) bool { return int(n/32) < len(s) && s[n/32]&(1<<(n%32)) != 0 }

func (s *set) add(n uint32) {
	if need := int(n/32) + 1; need > len(*s) {
		*s = append(*s, make(set, need-len(*s))...)
	}
	(*s)[n/32] |= 1 << (n % 32)
}

func (s set) remove(n uint32) {
	if s.has(n) {
		s[n/32] &^= 1 << (n % 32)
	}
}

func (s set) empty() bool {
	return !slices.ContainsFunc(s, func(w uint32) bool { return w != 0 })
}

func (s set) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount32(w)
	}
	return n
}

// each calls f with the numbers in order, until it says false.
func (s set) each(f func(n uint32) bool) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			if !f(uint32(i*32 + bits.TrailingZeros32(w))) {
				return
			}
		}
	}
}

// and leaves what is in o too; both have the same length.
func (s set) and(o set) {
	for i := range s {
		s[i] &= o[i]
	}
}

func (s set) or(o set) {
	for i := range o {
		s[i] |= o[i]
	}
}

// not leaves of live what is not in s.
func (s set) not(live set) {
	for i := range s {
		s[i] = live[i] &^ s[i]
	}
}

// A posting lists the documents that have a term: as numbers in order while
// they are few, and as a set once that is smaller.
type posting struct {
	words []uint32 // numbers, or a set's words
	n     uint32
	dense bool
}

// fewest numbers are always a list.
const fewest = 64

// add puts in a number that is not there.
func (p *posting) add(n uint32) {
	p.n++
	if p.dense {
		(*set)(&p.words).add(n)
		return
	}
	if k := len(p.words); k == 0 || p.words[k-1] < n {
		p.words = append(p.words, n)
	} else {
		i, _ := slices.BinarySearch(p.words, n)
		p.words = slices.Insert(p.words, i, n)
	}
	if last := p.words[len(p.words)-1]; p.n > fewest && p.n > 2*(last/32) {
		s := make(set, last/32+1)
		for _, n := range p.words {
			s.add(n)
		}
		p.words, p.dense = s, true
	}
}

// remove takes out a number that is there.
func (p *posting) remove(n uint32) {
	p.n--
	if !p.dense {
		i, _ := slices.BinarySearch(p.words, n)
		p.words = slices.Delete(p.words, i, i+1)
		return
	}
	set(p.words).remove(n)
	if int(p.n) < len(p.words)/2 || p.n < fewest/2 {
		list := make([]uint32, 0, p.n)
		set(p.words).each(func(n uint32) bool { list = append(list, n); return true })
		p.words, p.dense = list, false
	}
}

// into adds the numbers to s, which is long enough.
func (p *posting) into(s set) {
	if p.dense {
		s.or(p.words)
		return
	}
	for _, n := range p.words {
		s[n/32] |= 1 << (n % 32)
	}
}

// within counts the numbers that are in s.
func (p *posting) within(s set) (n int) {
	if !p.dense {
		for _, d := range p.words {
			if s.has(d) {
				n++
			}
		}
		return n
	}
	for i, w := range p.words {
		n += bits.OnesCount32(w & s[i])
	}
	return n
}
