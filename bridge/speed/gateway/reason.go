package gateway

import (
	"errors"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// Reason codes of MQTT 5 (2.4). A refusal that 3.1.1 has a return code for is
// named by that one, see packet.NotAuthorized and its siblings.
const (
	codeWithWill       byte = 0x04 // of a client's DISCONNECT
	codeNoSubscription byte = 0x11
	codeUnspecified    byte = 0x80
	codeMalformed      byte = 0x81
	codeProtocol       byte = 0x82
	codeVersion        byte = 0x84
	codeClientID       byte = 0x85
	codeBadUser        byte = 0x86
	codeNotAuthorized  byte = 0x87
	codeUnavailable    byte = 0x88
	codeShutdown       byte = 0x8b
	codeAuthMethod     byte = 0x8c
	codeKeepAlive      byte = 0x8d
	codeTakenOver      byte = 0x8e
	codeFilter         byte = 0x8f
	codeTopic          byte = 0x90
	codeUnknownID      byte = 0x92
	codeReceiveMaximum byte = 0x93
	codeAlias          byte = 0x94
	codeTooLarge       byte = 0x95
	codeQuota          byte = 0x97
	codeAdministrative byte = 0x98
	codeQoS            byte = 0x9b
	codeMoved          byte = 0x9d
	codeConnectTime    byte = 0xa0
	codeNoIdentifiers  byte = 0xa1
)

// goodbyes are the codes of a server's DISCONNECT by the reason for it. What is
// not here has none: the client left, or cannot be reached.
var goodbyes = map[string]byte{
	ReasonAuth:       codeNotAuthorized,
	ReasonProtocol:   codeProtocol,
	ReasonDuplicate:  codeTakenOver,
	ReasonForbidden:  codeNotAuthorized,
	ReasonKeepAlive:  codeKeepAlive,
	ReasonServer:     codeUnspecified,
	ReasonShutdown:   codeShutdown,
	ReasonAPI:        codeAdministrative,
	ReasonWebSocket:  codeConnectTime,
	ReasonCustomAuth: codeConnectTime,
}

// returnCodes are the reason codes of CONNACK by 3.1.1's return code.
var returnCodes = [...]byte{
	packet.BadVersion: codeVersion, packet.BadIdentifier: codeClientID, packet.Unavailable: codeUnavailable,
	packet.BadCredentials: codeBadUser, packet.NotAuthorized: codeNotAuthorized,
}

// codeOf is the reason code for a packet that was not accepted.
func codeOf(err error) byte {
	switch {
	case errors.Is(err, packet.ErrTooLarge):
		return codeTooLarge
	case errors.Is(err, packet.ErrProtocol):
		return codeProtocol
	}
	return codeMalformed
}

// refused ends the connection for what the client sent; a client of version 5 is
// told code, and the operator why.
func (c *Client) refused(code byte, err error) string {
	c.code = code
	c.debug("refused packet", err)
	c.denied(err)
	return ReasonProtocol
}
