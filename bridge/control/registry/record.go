package registry

import (
	"encoding/binary"
	"fmt"
)

// maxRecords is how many audit records wait to be taken over by the audit log. A
// registry that nobody takes them from refuses changes rather than to forget who
// made them.
const maxRecords = 100_000

// A Record is an audit record that the registry keeps until the audit log has it.
type Record struct {
	Sequence uint64 // order among records
	Text     []byte
}

// KeepRecord stores an audit record with the changes of the transaction: where they
// are, it is. Records that the audit log has by now are forgotten with this.
func (t *Tx) KeepRecord(text []byte) error {
	if err := t.forgetRecords(); err != nil {
		return err
	}
	b := t.tx.Table(bRecords)
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	if first, _ := b.Cursor().First(); first != nil && n-binary.BigEndian.Uint64(first) >= maxRecords {
		return fmt.Errorf("%d audit records wait for the audit log: %w", maxRecords, ErrLimit)
	}
	t.changed(RecordKept, "")
	return b.Put(binary.BigEndian.AppendUint64(nil, n), text)
}

// Records returns the oldest n records behind a sequence number.
func (t *Tx) Records(after uint64, n int) []Record {
	var all []Record
	cur := t.tx.Table(bRecords).Cursor()
	k, text := cur.Seek(binary.BigEndian.AppendUint64(nil, after+1))
	for ; k != nil && len(all) < n; k, text = cur.Next() {
		all = append(all, Record{binary.BigEndian.Uint64(k), append([]byte(nil), text...)})
	}
	return all
}

// RecordsTaken says that the audit log has the records up to and with the one of a
// sequence number, durably. They are forgotten by the next update that keeps one, or
// by ForgetRecords.
func (r *Registry) RecordsTaken(sequence uint64) { r.taken.Store(sequence) }

// ForgetRecords forgets the records that the audit log has. It writes only if there
// are any.
func (r *Registry) ForgetRecords() error {
	any := false
	err := r.View(func(tx *Tx) error {
		any = tx.takenRecord() != nil
		return nil
	})
	if err != nil || !any {
		return err
	}
	return r.Update(func(tx *Tx) error { return tx.forgetRecords() })
}

func (t *Tx) forgetRecords() error {
	for k := t.takenRecord(); k != nil; k = t.takenRecord() {
		if err := t.tx.Table(bRecords).Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// takenRecord is the key of the oldest record, if the audit log has it, else nil.
func (t *Tx) takenRecord() []byte {
	k, _ := t.tx.Table(bRecords).Cursor().First()
	if k == nil || binary.BigEndian.Uint64(k) > t.reg.taken.Load() {
		return nil
	}
	return k
}
