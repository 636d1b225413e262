// Package table is what the registry needs of the engine that stores it: tables of
// keys and values in transactions. The registry's rules stand once, above it; an
// engine knows nothing of them. Package bolt is the one in a file; registrytest has
// the suite that each engine passes.
package table

// An Engine holds tables. Its methods may be called from several goroutines.
type Engine interface {
	// Name is the place of the tables, for messages.
	Name() string

	// View runs f on the tables as the last update left them, whatever updates
	// run meanwhile, and returns its error. Changes in it fail.
	View(f func(Tx) error) error

	// Update runs f and makes its changes durable, all of them if f returns nil,
	// none otherwise, and returns f's error or why it could not. It blocks until
	// other updates are done: updates run one after the other, over all who use the
	// engine. Update and View must not be nested, nor wait for each other.
	//
	// An engine that cannot read in the middle of a transaction finds nothing from
	// then on, and View or Update returns its error instead of what f returned: so
	// nothing that f decided has an effect.
	Update(f func(Tx) error) error

	// Close waits for transactions under way, and ends the engine.
	Close() error
}

// A Tx is one transaction. It is valid until the function returns that it was given
// to, and for one goroutine.
type Tx interface {
	// ID numbers updates, ascending. In a view it is the number of the last update
	// that the view sees.
	ID() uint64

	// Writable says whether this is an update.
	Writable() bool

	// Has says whether there is a table.
	Has(table []byte) bool

	// Create makes a table, unless there is one.
	Create(table []byte) error

	// Drop removes a table, if there is one.
	Drop(table []byte) error

	// Table returns a table that there is.
	Table(name []byte) Table
}

// A Table has values under keys, in the order of their bytes. Keys have 1 to 32,768
// bytes, values any number. What goes in must not change before the transaction
// ends. What comes out must not be written to, and is valid until the table
// changes or the transaction ends.
type Table interface {
	// Get returns the value of a key, nil if there is none. One that is empty is not
	// nil.
	Get(key []byte) []byte

	// Put sets the value of a key.
	Put(key, value []byte) error

	// Delete removes a key, if it is there.
	Delete(key []byte) error

	// Cursor returns a cursor, which stands nowhere yet.
	Cursor() Cursor

	// Sequence is a number that is stored with the table, 0 at first.
	Sequence() uint64
	SetSequence(n uint64) error

	// NextSequence adds 1 to Sequence and returns it.
	NextSequence() (uint64, error)
}

// A Cursor walks a table. Each of its methods returns an entry, or nil, nil at the
// end. After the table has changed it must be set anew, by First or Seek.
type Cursor interface {
	// First moves to the first key.
	First() (key, value []byte)

	// Seek moves to the first key that is not less than key.
	Seek(key []byte) (found, value []byte)

	// Next moves to the key behind.
	Next() (key, value []byte)
}

// Each calls f for all entries in order, until it returns an error, which it
// returns. f must not change the table.
func Each(t Table, f func(key, value []byte) error) error {
	c := t.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}
