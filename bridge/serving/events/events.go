// Package events publishes what happens to clients and things on the reserved
// topics below $aws/events/, as AWS IoT does.
//
// A Lifecycle tells of clients that connect, disconnect, subscribe and
// unsubscribe. It may drop events when more come than can be published, and
// counts them. A Registry tells of things, types, groups and certificates that
// change. It drops none: the registry keeps each change until its message is
// durable, so after a crash a message may come twice, with the same eventId.
package events

// prefix is what the topics of all events begin with.
const prefix = "$aws/events/"
