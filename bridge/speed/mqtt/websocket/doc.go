// Package websocket carries MQTT over WebSocket (RFC 6455, MQTT 6): it answers
// the handshake of a request and makes of its connection a Conn, a byte stream
// in which frames are no longer seen.
//
// The handshake is answered for the clients that there are, and these differ
// from what Go's libraries expect of them. The AWS IoT SDK for Python 1 (seen
// with 1.5.4) looks for header names in lower case, reads at most 1024 bytes of
// answer and sends a key of 128 bytes; that for JavaScript 1 (2.2.16) wants the
// subprotocol that it asked for again. So nothing is said of the key's length,
// names are in lower case, and extensions are not taken.
//
// Frames of clients must be masked and binary (MQTT-6.0.0-1). A packet may span
// frames and a frame hold several packets. The payload is unmasked into the
// caller's buffer as it comes: a frame's stated size allocates nothing.
package websocket
