package admin

import (
	"maps"
	"net/http"
	"slices"
)

// declarations are the files of bridge.d.
type declarations struct {
	files  Declarations
	reload func() (holds int, err error)
}

// RefusedInfo is a file of bridge.d that is wrong as it is now. What it
// declared before, if anything, stays in force.
type RefusedInfo struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

func (h *declarations) apply(w http.ResponseWriter, _ *http.Request) error {
	n, err := h.reload()
	if err != nil {
		return badRequest{err}
	}
	return writeJSON(w, map[string]int{"declarations": n})
}

func (h *declarations) refused(w http.ResponseWriter, _ *http.Request) error {
	all, refused := []RefusedInfo{}, h.files.Refused()
	for _, path := range slices.Sorted(maps.Keys(refused)) {
		all = append(all, RefusedInfo{path, refused[path].Error()})
	}
	return writeJSON(w, all)
}
