package iotsql

import "github.com/tidemill/tidemill/bridge/speed/message"

// An Input is a published message as one rule sees it.
//
// The evaluator only reads it and keeps no reference after a call returns, so
// a caller may reuse both the struct and what it points to. One Input may be
// evaluated by several statements at the same time. The zero Input is a message
// of which nothing is known.
type Input struct {
	// Message is what was published. Its Topic may have a Basic Ingest prefix; its
	// Time is timestamp(), its Trace traceid(). An empty Protocol means "mqtt".
	message.Message

	Account string // accountid()
	Rule    string // name of the rule that is evaluated; names the Basic Ingest prefix $aws/rules/<Rule>/

	// Seed makes rand() and newuuid() repeat: evaluated again with the same
	// seed they yield the same. Zero: they are random.
	Seed [16]byte
}
