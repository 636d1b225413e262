// Package trial holds a test that runs real agents and a real bridge for virtual hours,
// with faults of both from a seed, and accounts for every reading. README.md of the folder
// above says what it covers. It has no code to call.
package trial
