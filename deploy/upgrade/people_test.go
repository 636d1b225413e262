package upgrade

import (
	"net/http"
	"slices"
	"strings"
)

// people looks for users, tries their keys, and looks for each line of the audit log:
// in its place, and once.
func (h *heir) people() {
	got, err := users(h.ctx, h.bridge)
	h.must(err)
	want := make([]any, len(h.m.Users))
	for i, u := range h.m.Users {
		want[i] = u
	}
	have := make([]any, len(got))
	for i, u := range got {
		have[i] = u
	}
	if where := missing(have, want); where != "" {
		h.t.Errorf("users: %s is another", where)
	}
	for _, k := range h.m.Keys {
		_, err := h.api.with(k).do(h.ctx, "kinesis", http.MethodPost, "/", `{"StreamName":"`+StreamPut+`"}`,
			"X-Amz-Target", "Kinesis_20131202.ListShards", "Content-Type", "application/x-amz-json-1.1")
		switch {
		case k.Reads && err != nil:
			h.t.Errorf("key of %s: %v", k.User, err)
		case !k.Reads && err == nil:
			h.t.Errorf("a key of %s may list shards, which it may not", k.User)
		case !k.Reads && !strings.Contains(err.Error(), "AccessDenied") &&
			!strings.Contains(err.Error(), "UnrecognizedClient") && !strings.Contains(err.Error(), "InvalidClientTokenId"):
			h.t.Errorf("key of %s: %v, want that it is refused", k.User, err)
		}
	}
	ids, err := auditIDs(h.ctx, h.bridge)
	h.must(err)
	seen := map[string]int{}
	for _, id := range ids {
		seen[id]++
	}
	for _, id := range h.m.Audit {
		if seen[id] != 1 {
			h.t.Errorf("record %s of the audit log is there %d times", id, seen[id])
		}
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return !slices.Contains(h.m.Audit, id) })
	if !slices.Equal(ids, h.m.Audit) {
		h.t.Errorf("%d records of the audit log are in another order", len(ids))
	}
}
