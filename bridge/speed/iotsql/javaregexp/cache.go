package javaregexp

import "sync"

// A Cache keeps patterns that came with messages. A sender who varies
// them makes others compile theirs again, and no more: it holds at most
// twice cacheSize of them, those used last for certain.
type Cache struct {
	mu       sync.Mutex
	new, old map[string]*Pattern // nil: malformed
}

const cacheSize = 64

// Get is Compile, at b's expense if the cache lacks the pattern. It returns nil
// also when b has not enough left.
func (c *Cache) Get(b Budget, text []byte) *Pattern {
	if len(text) > maxPattern {
		return nil
	}
	c.mu.Lock()
	p, ok := c.new[string(text)]
	if !ok {
		if p, ok = c.old[string(text)]; ok {
			c.put(string(text), p)
		}
	}
	c.mu.Unlock()
	if ok {
		return p
	}
	// Compiling costs some 200 ns a byte and an end of a range 400 ns.
	t, ok := translate(string(text))
	if !b.Work(len(text) + 2*t.cost) {
		return nil
	}
	if ok {
		p = t.compile()
	}
	c.mu.Lock()
	c.put(string(text), p)
	c.mu.Unlock()
	return p
}

// put wants c.mu held.
func (c *Cache) put(text string, p *Pattern) {
	if c.new == nil || len(c.new) == cacheSize {
		c.new, c.old = make(map[string]*Pattern, cacheSize), c.new
	}
	c.new[text] = p
}
