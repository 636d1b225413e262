package sim

import "sync"

// byteRegisters is what chips with registers of one byte have: a pointer that a
// write sets and each byte steps on.
type byteRegisters struct {
	mu      sync.Mutex // guards all below, and what the chip has beside
	b       [256]byte
	pointer byte
	// step says which register a pointer stands for, and by how much it goes on;
	// nil: the pointer itself, by one.
	step func(pointer byte) (reg, by byte)
	// read and write stand in for the content; nil: b.
	read  func(reg byte) byte
	write func(reg, v byte)
}

// Tx is one transfer: the register, what is written from it on, what is read.
func (r *byteRegisters) Tx(w, in []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(w) > 0 {
		r.pointer = w[0]
	}
	reg, by := r.pointer, byte(1)
	if r.step != nil {
		reg, by = r.step(r.pointer)
	}
	for i := 1; i < len(w); i++ {
		if r.write != nil {
			r.write(reg, w[i])
		} else {
			r.b[reg] = w[i]
		}
		reg += by
	}
	for i := range in {
		if in[i] = r.b[reg]; r.read != nil {
			in[i] = r.read(reg)
		}
		reg += by
	}
	if r.step == nil {
		r.pointer = reg
	}
	return nil
}

// wordRegisters is what TI's chips have: registers of two bytes, most significant
// first, each with a pointer.
type wordRegisters struct {
	mu      sync.Mutex // guards all below, and what the chip has beside
	w       [256]uint16
	pointer byte
	read    func(reg byte) uint16 // nil: w
	write   func(reg byte, v uint16)
}

// Tx is one transfer: the register, two bytes that are written, or two that are
// read over and over.
func (r *wordRegisters) Tx(w, in []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(w) > 0 {
		r.pointer = w[0]
	}
	if len(w) >= 3 {
		r.write(r.pointer, uint16(w[1])<<8|uint16(w[2]))
	}
	if len(in) == 0 {
		return nil
	}
	v := r.w[r.pointer]
	if r.read != nil {
		v = r.read(r.pointer)
	}
	for i := range in {
		in[i] = byte(v >> (8 - 8*(i%2)))
	}
	return nil
}
