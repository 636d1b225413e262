package listen

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/tidemill/tidemill/bridge/restjson"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/websocket"
)

// errNoWebSocket is a request for MQTT that is none for a WebSocket.
var errNoWebSocket = errors.New("the request is for no WebSocket of MQTT")

// websocketPath is AWS's.
const websocketPath = "/mqtt"

// serveWebSocket makes an MQTT connection of a request. The policies are asked
// when its CONNECT has come.
func (h *HTTPS) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	request, err := websocket.Parse(r)
	if err != nil {
		if e, ok := errors.AsType[*websocket.Error](err); ok {
			if e.Status == http.StatusUpgradeRequired && r.ProtoMajor == 1 {
				w.Header().Set("Connection", "Upgrade")
				w.Header().Set("Upgrade", "websocket")
				w.Header().Set("Sec-WebSocket-Version", "13")
			}
			if at, parsed := netip.ParseAddrPort(r.RemoteAddr); h.o.Denied != nil && parsed == nil {
				h.o.Denied(net.TCPAddrFromAddrPort(at), "", fmt.Errorf("%w: %w", errNoWebSocket, err))
			}
			h.refuseUpgrade(w, r, e.Status, "InvalidRequestException", e.Text)
		}
		return
	}
	via, err := h.o.Upgrade(r)
	if err != nil {
		h.refuseUpgrade(w, r, http.StatusForbidden, "ForbiddenException", err.Error())
		return
	}
	c, err := request.Accept(w)
	if err != nil {
		h.o.Log.Debug("a WebSocket was not made", "remote", r.RemoteAddr, "err", err)
		return
	}
	h.mqtt.take(c, via)
}

// refuseUpgrade answers in the form of AWS's errors.
func (h *HTTPS) refuseUpgrade(w http.ResponseWriter, r *http.Request, status int, code, text string) {
	h.mqtt.countRefused(status)
	h.o.Log.Debug("WebSocket refused", "remote", r.RemoteAddr, "status", status, "err", text)
	restjson.WriteError(w, status, code, text)
}
