// Package layout holds the house rules as tests: who may import whom, what may
// stand at the top level, and how large the agent may grow. It has no code to
// call.
package layout
