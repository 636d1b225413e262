// Package faults has the tests of targets that fail: a real bridge drains into real
// servers through gates that stop, slow, halve, refuse, garble or cut what goes
// through them, and is killed in the middle. Each record that was acknowledged must
// be at its target, or be kept where the manual says; where the target can know a
// record again it must be there once.
package faults
