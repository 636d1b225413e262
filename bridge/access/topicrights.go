package access

import "github.com/tidemill/tidemill/bridge/control/authz"

// topicRights are what a session may do with topics, as a gateway.Session says it:
// one action of policies each.
type topicRights struct {
	policy interface {
		May(action, resource string) bool
	}
}

// MayPublish implements gateway.Session.
func (r topicRights) MayPublish(topic string, retain bool) bool {
	return r.policy.May(authz.Publish, topic) && (!retain || r.policy.May(authz.RetainPublish, topic))
}

// MaySubscribe implements gateway.Session.
func (r topicRights) MaySubscribe(filter string) bool { return r.policy.May(authz.Subscribe, filter) }

// MayReceive implements gateway.Session.
func (r topicRights) MayReceive(topic string) bool { return r.policy.May(authz.Receive, topic) }
