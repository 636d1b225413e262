package admin

import (
	"encoding/json"
	"net/http"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
)

// DeliveryInfo describes one delivery stream.
type DeliveryInfo struct {
	firehose.Info
	Waiting uint64 `json:"waiting"` // records put and not delivered
	// Kept are members of the configuration that have no effect here.
	Kept map[string]json.RawMessage `json:"kept,omitempty"`
}

// deliveryStreams are those that are declared.
type deliveryStreams struct{ service DeliveryStreams }

func (h *deliveryStreams) info(i firehose.Info) DeliveryInfo {
	return DeliveryInfo{i, i.Backlog.Records, h.service.Kept(i.Name)}
}

func (h *deliveryStreams) list(w http.ResponseWriter, _ *http.Request) error {
	infos, err := h.service.List()
	if err != nil {
		return err
	}
	all := make([]DeliveryInfo, 0, len(infos))
	for _, i := range infos {
		all = append(all, h.info(i))
	}
	return writeJSON(w, all)
}

func (h *deliveryStreams) show(w http.ResponseWriter, r *http.Request) error {
	i, err := h.service.Info(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, h.info(i))
}

func (h *deliveryStreams) failed(w http.ResponseWriter, r *http.Request) error {
	all, err := h.service.Failed(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

// A RedriveRequest says what is to be driven again; no ids: all.
type RedriveRequest struct {
	IDs []string `json:"ids,omitempty"`
}

// redrive answers with a firehose.Redriven for each, in lines, as they come.
func (h *deliveryStreams) redrive(w http.ResponseWriter, r *http.Request) error {
	var in RedriveRequest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	name := r.PathValue("name")
	if _, err := h.service.Info(name); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	enc, rc := json.NewEncoder(w), http.NewResponseController(w)
	return h.service.Redrive(r.Context(), name, in.IDs, func(line firehose.Redriven) {
		_ = enc.Encode(line) // whoever asked may be gone; the rest is driven until the context says so
		_ = rc.Flush()
	})
}
