package admin

import (
	"encoding/json"
	"net/http"
)

// DeliveryInfo describes one delivery stream.
type DeliveryInfo struct {
	Name    string `json:"name"`
	Waiting uint64 `json:"waiting"` // records put and not yet in an object
	Objects int64  `json:"objects"` // written since the start, as the two below
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
	Failed  int64  `json:"failed"` // records that could not be taken apart
	// Kept are members of the configuration that have no effect here.
	Kept map[string]json.RawMessage `json:"kept,omitempty"`
}

// deliveryStreams are those that are declared.
type deliveryStreams struct{ service DeliveryStreams }

func (h *deliveryStreams) list(w http.ResponseWriter, _ *http.Request) error {
	all := []DeliveryInfo{}
	for name, st := range h.service.Stats() {
		waiting, err := h.service.Waiting(name)
		if err != nil {
			return err
		}
		all = append(all, DeliveryInfo{name, waiting, st.Objects, st.Records, st.Bytes, st.Failed,
			h.service.Kept(name)})
	}
	return writeJSON(w, all)
}
