package index

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strings"
)

// A kind is that of a term.
type kind uint8

const (
	text   kind = iota // a string as a whole
	part               // a word of one with several words
	number             // text is as numberText writes it
	boolean
	moment // a time, which is in no term
)

// A cell is what a document has in a field.
type cell struct {
	field string
	kind  kind
	text  string // as it was given

	seconds int64 // of a moment, since 1970
}

// A term is what at least one document has in a field.
type term struct {
	field uint32
	kind  kind
	words bool    // a text of several words
	text  string  // as it was given
	lower string  // in small letters, with one space between words
	num   float64 // NaN for none
	docs  posting

	at         uint32 // where it is among its field's
	next, prev uint32 // with the same lower, other than text; 0: none
}

// numeric says whether num is the term's value.
func (t *term) numeric() bool { return !math.IsNaN(t.num) }

// A termKey finds a term by its text.
type termKey struct {
	field uint32
	kind  kind
	text  string
}

// A field has a name and terms, or stamps. One without is forgotten.
type field struct {
	name   string
	hidden bool     // from queries that name no field
	terms  []uint32 // in no order
	stamps int      // documents' with the field
}

// A stamp is a time, in seconds since 1970, that a document has in a field.
// These are in no term: most times are there once, and there are as many as
// members of shadows. A query of one looks at all documents.
type stamp struct {
	field   uint32
	seconds int64
}

// A doc is what is indexed under a name. It has one with terms; the documents
// themselves are with who gave them.
type doc struct {
	name   string
	terms  []uint32 // in order
	stamps []stamp
}

// A corpus is an inverted index in memory: of each field the terms, of each
// term the documents, and of each document its terms. What it takes grows with
// what is in it, about 200 bytes for each term, 8 for each document that has
// it, and 16 for each time, and not with how many fields or values there could
// be. It has no lock.
type corpus struct {
	docs  []doc
	free  []uint32 // of docs
	order []uint32 // docs by name
	live  set      // docs in use

	fields     []field
	byName     map[string]uint32
	freeFields []uint32

	pages     [][]term // of pageTerms, so that a term stays where it is
	freeTerms []uint32
	byText    map[termKey]uint32
	folded    map[termKey]uint32 // by lower, first of those whose text is another
	scratch   []uint32
}

const pageTerms = 1024

func newCorpus() *corpus {
	c := &corpus{byName: map[string]uint32{}, byText: map[termKey]uint32{}, folded: map[termKey]uint32{}}
	c.pages = append(c.pages, make([]term, pageTerms))
	for i := uint32(pageTerms - 1); i > 0; i-- { // 0 is none
		c.freeTerms = append(c.freeTerms, i)
	}
	return c
}

func (c *corpus) term(id uint32) *term { return &c.pages[id/pageTerms][id%pageTerms] }

// place returns where a name is in order, or would be.
func (c *corpus) place(name string) (i int, found bool) {
	if n := len(c.order); n == 0 || c.docs[c.order[n-1]].name < name {
		return n, false
	}
	i = sort.Search(len(c.order), func(i int) bool { return c.docs[c.order[i]].name >= name })
	return i, c.docs[c.order[i]].name == name
}

// find returns the number of a document.
func (c *corpus) find(name string) (n uint32, ok bool) {
	i, ok := c.place(name)
	if !ok {
		return 0, false
	}
	return c.order[i], true
}

// put gives a document its cells, and returns its number.
func (c *corpus) put(name string, cells []cell) uint32 {
	i, found := c.place(name)
	var n uint32
	switch {
	case found:
		n = c.order[i]
	case len(c.free) > 0:
		n = c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
	default:
		n = uint32(len(c.docs))
		c.docs = append(c.docs, doc{})
	}
	if !found {
		c.order = slices.Insert(c.order, i, n)
		c.live.add(n)
		c.docs[n] = doc{name: name}
	}
	c.stamp(n, cells)
	terms := c.scratch[:0]
	for i := range cells {
		if cells[i].kind != moment {
			terms = append(terms, c.intern(&cells[i]))
		}
	}
	c.scratch = terms
	slices.Sort(terms)
	terms = slices.Clone(slices.Compact(terms))
	old := c.docs[n].terms
	c.docs[n].terms = terms
	c.difference(terms, old, func(id uint32) { c.term(id).docs.add(n) })
	c.difference(old, terms, func(id uint32) { c.drop(id, n) })
	return n
}

// stamp gives document n the times among its cells.
func (c *corpus) stamp(n uint32, cells []cell) {
	count := 0
	for i := range cells {
		if cells[i].kind == moment {
			count++
		}
	}
	old := c.docs[n].stamps
	c.docs[n].stamps = nil
	if count > 0 {
		all := make([]stamp, 0, count)
		for i := range cells {
			if x := &cells[i]; x.kind == moment {
				f := c.fieldOf(x.field)
				c.fields[f].stamps++
				c.fields[f].hidden = true // or a query of all fields would look at all documents once for each
				all = append(all, stamp{f, x.seconds})
			}
		}
		c.docs[n].stamps = all
	}
	for _, s := range old {
		c.fields[s.field].stamps--
		c.release(s.field)
	}
}

// difference calls f with what is in a and not in b; both are in order.
func (c *corpus) difference(a, b []uint32, f func(uint32)) {
	for _, id := range a {
		for len(b) > 0 && b[0] < id {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != id {
			f(id)
		}
	}
}

// remove forgets a document.
func (c *corpus) remove(name string) (n uint32, ok bool) {
	i, ok := c.place(name)
	if !ok {
		return 0, false
	}
	n = c.order[i]
	for _, id := range c.docs[n].terms {
		c.drop(id, n)
	}
	c.stamp(n, nil)
	c.docs[n] = doc{}
	c.order = slices.Delete(c.order, i, i+1)
	c.live.remove(n)
	c.free = append(c.free, n)
	return n, true
}

// fieldOf returns a field by its name, made if it is not there.
func (c *corpus) fieldOf(name string) uint32 {
	f, ok := c.byName[name]
	if ok {
		return f
	}
	if n := len(c.freeFields); n > 0 {
		f, c.freeFields = c.freeFields[n-1], c.freeFields[:n-1]
	} else {
		f = uint32(len(c.fields))
		c.fields = append(c.fields, field{})
	}
	c.fields[f] = field{name: name, hidden: hidden(name)}
	c.byName[name] = f
	return f
}

// release forgets a field with nothing in it.
func (c *corpus) release(f uint32) {
	if x := &c.fields[f]; len(x.terms) == 0 && x.stamps == 0 {
		delete(c.byName, x.name)
		c.freeFields = append(c.freeFields, f)
		*x = field{}
	}
}

// intern returns the term of a cell, made if it is not there.
func (c *corpus) intern(x *cell) uint32 {
	f := c.fieldOf(x.field)
	key := termKey{f, x.kind, x.text}
	if id, ok := c.byText[key]; ok {
		return id
	}
	if len(c.freeTerms) == 0 {
		first := uint32(len(c.pages) * pageTerms)
		c.pages = append(c.pages, make([]term, pageTerms))
		for i := uint32(pageTerms); i > 0; i-- {
			c.freeTerms = append(c.freeTerms, first+i-1)
		}
	}
	id := c.freeTerms[len(c.freeTerms)-1]
	c.freeTerms = c.freeTerms[:len(c.freeTerms)-1]
	t := c.term(id)
	*t = term{field: f, kind: x.kind, text: x.text, lower: x.text, num: math.NaN(), at: uint32(len(c.fields[f].terms))}
	switch x.kind {
	case text:
		t.lower = strings.ToLower(x.text)
		if strings.ContainsFunc(t.lower, isSpace) {
			t.lower, t.words = strings.Join(strings.Fields(t.lower), " "), true
		}
		fallthrough
	case number:
		if n, ok := numberOf(x.text); ok {
			t.num = n
		}
	}
	c.fields[f].terms = append(c.fields[f].terms, id)
	c.byText[key] = id
	if t.lower != t.text {
		key.text = t.lower
		if next := c.folded[key]; next != 0 {
			t.next, c.term(next).prev = next, id
		}
		c.folded[key] = id
	}
	return id
}

// drop says that a document no longer has a term, and forgets what is not used.
func (c *corpus) drop(id, n uint32) {
	t := c.term(id)
	if t.docs.remove(n); t.docs.n > 0 {
		return
	}
	key := termKey{t.field, t.kind, t.text}
	delete(c.byText, key)
	if t.lower != t.text {
		key.text = t.lower
		if t.next != 0 {
			c.term(t.next).prev = t.prev
		}
		switch {
		case t.prev != 0:
			c.term(t.prev).next = t.next
		case t.next != 0:
			c.folded[key] = t.next
		default:
			delete(c.folded, key)
		}
	}
	f := &c.fields[t.field]
	last := len(f.terms) - 1
	f.terms[t.at] = f.terms[last]
	c.term(f.terms[t.at]).at = t.at
	f.terms = f.terms[:last]
	c.release(t.field)
	*t = term{}
	c.freeTerms = append(c.freeTerms, id)
}

// search returns the documents that q finds. They are the caller's.
func (c *corpus) search(q *Query) set { return c.eval(q.root) }

func (c *corpus) none() set { return make(set, len(c.live)) }

func (c *corpus) eval(n node) set {
	switch n := n.(type) {
	case all:
		return slices.Clone(c.live)
	case not:
		s := c.eval(n.of)
		s.not(c.live)
		return s
	case and:
		s := c.eval(n.of[0])
		for _, x := range n.of[1:] {
			if s.empty() {
				break
			}
			s.and(c.eval(x))
		}
		return s
	case or:
		s := c.eval(n.of[0])
		for _, x := range n.of[1:] {
			s.or(c.eval(x))
		}
		return s
	case match:
		s := c.none()
		if n.field != "" {
			if f, ok := c.byName[canonical(n.field)]; ok {
				c.collect(f, n.want, s)
			}
			return s
		}
		if _, ok := n.want.(word); ok {
			for f := range c.fields {
				if !c.fields[f].hidden {
					c.collect(uint32(f), n.want, s)
				}
			}
			return s
		}
		for _, page := range c.pages { // in the order of memory, which is twice as fast
			for i := range page {
				if t := &page[i]; t.docs.n > 0 && !c.fields[t.field].hidden && n.want.of(t) {
					t.docs.into(s)
				}
			}
		}
		return s
	}
	panic("fleet: a node of another kind")
}

// collect adds to s the documents with a term of f that is wanted.
func (c *corpus) collect(f uint32, w want, s set) {
	if c.fields[f].stamps > 0 {
		for n := range c.docs {
			for _, x := range c.docs[n].stamps {
				if x.field == f && w.number(float64(x.seconds)) {
					s.add(uint32(n))
				}
			}
		}
	}
	w2, ok := w.(word)
	if !ok {
		for _, id := range c.fields[f].terms {
			if t := c.term(id); w.of(t) {
				t.docs.into(s)
			}
		}
		return
	}
	for _, k := range []kind{text, part, boolean} {
		key := termKey{f, k, w2.text}
		if id, ok := c.byText[key]; ok && c.term(id).lower == w2.text {
			c.term(id).docs.into(s)
		}
		for id := c.folded[key]; id != 0; id = c.term(id).next {
			c.term(id).docs.into(s)
		}
	}
	if w2.digits != "" {
		if id, ok := c.byText[termKey{f, number, w2.digits}]; ok {
			c.term(id).docs.into(s)
		}
	}
}

// fits says whether q finds document n; search would find it then.
func (c *corpus) fits(q *Query, n uint32) bool { return c.holds(q.root, &c.docs[n]) }

func (c *corpus) holds(n node, d *doc) bool {
	switch n := n.(type) {
	case all:
		return true
	case not:
		return !c.holds(n.of, d)
	case and:
		return !slices.ContainsFunc(n.of, func(x node) bool { return !c.holds(x, d) })
	case or:
		return slices.ContainsFunc(n.of, func(x node) bool { return c.holds(x, d) })
	case match:
		f, ok := c.byName[canonical(n.field)]
		if n.field != "" && !ok {
			return false
		}
		of := func(g uint32) bool {
			if n.field == "" {
				return !c.fields[g].hidden
			}
			return g == f
		}
		return slices.ContainsFunc(d.terms, func(id uint32) bool {
			t := c.term(id)
			return of(t.field) && n.want.of(t)
		}) ||
			slices.ContainsFunc(d.stamps, func(x stamp) bool {
				return of(x.field) && n.want.number(float64(x.seconds))
			})
	}
	panic("fleet: a node of another kind")
}

// page lists the names of up to n documents of s behind after, in order. next
// is the after of the next page, "" at the end.
func (c *corpus) page(s set, after string, n int) (names []string, next string) {
	if s.len() < len(c.order)/64 { // sorting them is faster than looking for them
		s.each(func(d uint32) bool {
			if name := c.docs[d].name; name > after {
				names = append(names, name)
			}
			return true
		})
		if slices.Sort(names); len(names) > n {
			return names[:n:n], names[n-1]
		}
		return names, ""
	}
	i, found := c.place(after)
	if found {
		i++
	}
	for ; i < len(c.order); i++ {
		if d := c.order[i]; s.has(d) {
			if len(names) == n {
				return names, names[n-1]
			}
			names = append(names, c.docs[d].name)
		}
	}
	return names, ""
}

// values returns the values that the documents of s have in a field, and how
// many have each, in the order of the text.
func (c *corpus) values(name string, s set) (all []termCount) {
	f, ok := c.byName[canonical(name)]
	if !ok {
		return nil
	}
	for _, id := range c.fields[f].terms {
		if t := c.term(id); t.kind != part {
			if n := t.docs.within(s); n > 0 {
				all = append(all, termCount{t, n})
			}
		}
	}
	if c.fields[f].stamps > 0 {
		all = append(all, c.times(f, s)...)
	}
	slices.SortFunc(all, func(a, b termCount) int {
		return cmp.Or(cmp.Compare(a.text, b.text), cmp.Compare(a.kind, b.kind))
	})
	return all
}

// times are values of a field of times, as terms.
func (c *corpus) times(f uint32, s set) (all []termCount) {
	at := map[int64]int{} // in all
	s.each(func(n uint32) bool {
		for _, x := range c.docs[n].stamps {
			if x.field != f {
				continue
			}
			i, ok := at[x.seconds]
			if !ok {
				i = len(all)
				at[x.seconds] = i
				text := numberText(float64(x.seconds))
				all = append(all, termCount{&term{field: f, kind: number, text: text, lower: text,
					num: float64(x.seconds)}, 0})
			}
			if d := &all[i].docs; len(d.words) == 0 || d.words[len(d.words)-1] != n { // an array has it several times
				all[i].n++
				d.words, d.n = append(d.words, n), d.n+1
			}
		}
		return true
	})
	return all
}

// A termCount is a term, and how many documents of a set have it.
type termCount struct {
	*term
	n int
}
