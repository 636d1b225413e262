package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A row is a request that the API answers.
type row struct {
	pattern string
	// action is its name for the policies of roles, "tidemill:" before it, on
	// arn:aws:tidemill:REGION:ACCOUNT: and the path behind /v1/; and for the audit log.
	action  string
	keeps   keeps
	answer  handler
	maxBody int64 // 0: as the constant
}

// keeps is what the audit log keeps of a request.
type keeps int

const (
	nothing keeps = iota // it changes nothing
	asked                // that there was a change, and what was asked for
	opaque               // likewise, but what was asked for is large or nobody's to see
	begun                // as asked, but kept when the answer begins, which goes on for long
)

// see is a row that changes nothing, change one that does, and changeUnseen one of
// which the audit log does not keep what was asked for.
func see(pattern, action string, answer handler) row { return row{pattern, action, nothing, answer, 0} }

func change(pattern, action string, answer handler) row {
	return row{pattern, action, asked, answer, 0}
}

func changeUnseen(pattern, action string, answer handler) row {
	return row{pattern, action, opaque, answer, 0}
}

// changeBegun is a change whose answer goes on for long, which is kept when it begins.
func changeBegun(pattern, action string, answer handler) row {
	return row{pattern, action, begun, answer, 0}
}

// upTo is a row that takes bodies of up to most bytes.
func (x row) upTo(most int64) row { x.maxBody = most; return x }

// table are all rows.
func table(o Options) []row {
	return slices.Concat(bridgeRows(o), streamsRows(o), rulesRows(o), functionsRows(o), secretsRows(o), thingsRows(o),
		authoritiesRows(o), peopleRows(o), policiesRows(o))
}

// Actions lists the actions of the admin socket by their rows, for what tells of
// roles.
func Actions() map[string]string {
	all := map[string]string{}
	for _, x := range table(Options{}) {
		all[x.pattern] = "tidemill:" + x.action
	}
	return all
}

// bridgeRows are about the bridge itself.
func bridgeRows(o Options) []row {
	declared, state := &declarations{o.Declarations, o.Reload}, &clockState{o.Clock}
	room := func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, o.Disk.Status()) }
	info := func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, o.Info) }
	metrics := func(w http.ResponseWriter, r *http.Request) error { o.Metrics.ServeHTTP(w, r); return nil }
	status := func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, o.Status()) }
	copies, back := &backups{o.Backups}, &restored{o.Holds, o.Revocations}
	return []row{
		see("GET /metrics", "GetMetrics", metrics),
		see("GET /v1/info", "DescribeBridge", info),
		see("GET /v1/status", "GetStatus", status),
		see("GET /v1/backups", "DescribeBackups", copies.status),
		changeBegun("POST /v1/backups", "CreateBackup", copies.here),
		changeBegun("POST /v1/backups/elsewhere", "CreateBackupElsewhere", copies.elsewhere),
		see("GET /v1/held", "ListHeld", back.list),
		change("POST /v1/held/release", "ReleaseHeld", back.release),
		see("GET /v1/revocations", "ExportRevocations", back.export),
		changeUnseen("POST /v1/reload", "Reload", declared.apply),
		change("POST /v1/drain", "Drain", drains(o.Drain)),
		see("GET /v1/clock", "DescribeClock", state.get),
		change("POST /v1/clock/accept", "AcceptClock", state.accept),
		see("GET /v1/disk", "DescribeDisk", room),
		see("GET /v1/refused", "ListRefusedDeclarations", declared.refused),
		see("GET /v1/watch", "GetMessages", o.Watch.Serve),
		see("GET /v1/expiries", "ListExpiries", o.Expiries.get),
		changeUnseen("PUT /v1/objects", "PutObject", (&objects{o.Objects}).put).upTo(maxObject),
	}
}

// streamsRows are about data streams, channels, delivery streams and connectors.
func streamsRows(o Options) []row {
	stream, delivery := &dataStreams{o.Store, o.DataStreams, o.Peers}, &deliveryStreams{o.DeliveryStreams}
	channel := &channels{o.Store, stream}
	connectors := func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, o.Connectors.List()) }
	return []row{
		see("GET /v1/streams", "ListStreams", stream.list),
		change("POST /v1/streams", "CreateStream", stream.create),
		see("GET /v1/streams/records", "GetStreamRecords", stream.tail),
		see("GET /v1/channels", "ListChannels", channel.list),
		see("GET /v1/channels/{name}", "DescribeChannel", channel.show),
		see("GET /v1/channels/{name}/messages", "GetChannelMessages", channel.messages),
		see("GET /v1/delivery-streams", "ListDeliveryStreams", delivery.list),
		see("GET /v1/delivery-streams/{name}", "DescribeDeliveryStream", delivery.show),
		see("GET /v1/delivery-streams/{name}/failed", "ListFailedDeliveries", delivery.failed),
		change("POST /v1/delivery-streams/{name}/redrive", "RedriveDeliveryStream", delivery.redrive),
		see("GET /v1/connectors", "ListConnectors", connectors),
	}
}

// rulesRows are about topic rules.
func rulesRows(o Options) []row {
	rule, box := &topicRules{o.TopicRules, o.Engine, o.Peers}, &outboxes{o.Outboxes}
	alarm := &alarms{o.Alarms}
	replay := &replays{rules: o.TopicRules, engine: o.Engine, compiler: o.Compiler,
		stops: map[string]context.CancelFunc{}}
	return []row{
		see("GET /v1/rules", "ListRules", rule.list),
		see("GET /v1/rules/{name}/recent", "GetRuleHistory", rule.recent),
		see("GET /v1/rules/{name}/why", "GetRuleHistory", rule.why),
		see("POST /v1/rules/{name}/why", "TestRule", rule.try),
		see("POST /v1/replays", "ReplayRule", replay.run),
		see("DELETE /v1/replays/{id}", "StopReplay", replay.stopOne),
		see("GET /v1/outboxes", "ListOutboxes", box.list),
		change("POST /v1/outboxes/{rule}/{slot}/retry", "RetryOutbox", box.retry),
		change("DELETE /v1/outboxes/{rule}/{slot}", "DropOutbox", box.drop),
		see("GET /v1/alarms", "ListAlarms", alarm.list),
		change("DELETE /v1/alarms/{name}", "DeleteAlarm", alarm.remove),
	}
}

// thingsRows are about things and certificates.
func thingsRows(o Options) []row {
	thing := &things{o.Registry, o.Issuer, o.Clients, o.Endpoint, o.Broker, o.Account, o.Region}
	cert := &certificates{o.Registry, o.Issuer}
	return []row{
		see("GET /v1/things", "ListThings", thing.list),
		change("POST /v1/things", "CreateThing", thing.create),
		change("DELETE /v1/things/{name}", "DeleteThing", thing.remove),
		see("GET /v1/certificates", "ListCertificates", cert.list),
		change("POST /v1/certificates/{id}", "UpdateCertificate", cert.setStatus),
		change("POST /v1/certificates", "CreateCertificate", cert.create),
		change("PUT /v1/certificates", "RegisterCertificate", cert.register),
		see("GET /v1/certificates/{id}", "DescribeCertificate", cert.get),
		change("DELETE /v1/certificates/{id}", "DeleteCertificate", cert.remove),
		changeUnseen("POST /v1/crls", "ImportCRL", cert.importCRL).upTo(registry.MaxCRL),
	}
}

// authoritiesRows are about CAs.
func authoritiesRows(o Options) []row {
	ca, own := &authorities{o.Registry}, &rotation{o.Registry, o.Issuer}
	return []row{
		see("GET /v1/registration-code", "GetRegistrationCode", ca.registrationCode),
		see("GET /v1/own-cas", "ListOwnCAs", own.list),
		change("POST /v1/own-cas/rotate", "RotateCA", own.begin),
		change("POST /v1/own-cas/retire", "RetireCA", own.retire),
		see("GET /v1/cas", "ListCAs", ca.list),
		change("POST /v1/cas", "RegisterCA", ca.register),
		see("GET /v1/cas/{id}", "DescribeCA", ca.get),
		change("POST /v1/cas/{id}", "UpdateCA", ca.change),
		change("DELETE /v1/cas/{id}", "DeleteCA", ca.remove),
	}
}

// peopleRows are about people and access keys.
func peopleRows(o Options) []row {
	user, key := &users{o.People}, &accessKeys{o.People, o.Declared}
	return []row{
		see("GET /v1/users", "ListUsers", user.list),
		change("POST /v1/users", "CreateUser", user.create),
		see("GET /v1/users/{name}", "DescribeUser", user.get),
		change("PUT /v1/users/{name}", "UpdateUser", user.change),
		change("DELETE /v1/users/{name}", "DeleteUser", user.remove),
		changeUnseen("PUT /v1/users/{name}/password", "SetPassword", user.setPassword),
		see("GET /v1/access-keys", "ListAccessKeys", key.list),
		change("POST /v1/access-keys", "CreateAccessKey", key.create),
		see("GET /v1/access-keys/{id}", "DescribeAccessKey", key.get),
		change("POST /v1/access-keys/{id}", "UpdateAccessKey", key.setStatus),
		change("POST /v1/access-keys/{id}/rotate", "RotateAccessKey", key.rotate),
		change("DELETE /v1/access-keys/{id}", "DeleteAccessKey", key.remove),
	}
}

// policiesRows are about policies.
func policiesRows(o Options) []row {
	policy := &policies{o.Registry, o.Account, o.Region, o.Log}
	return []row{
		see("GET /v1/effective-policies", "GetEffectivePolicies", policy.effective),
		see("POST /v1/policy-tests", "TestPolicy", policy.test),
		see("GET /v1/who-can", "GetWhoCan", policy.whoCan),
		change("DELETE /v1/policies/{name}", "DeletePolicy", policy.remove),
		see("GET /v1/policies/{name}/versions", "ListPolicyVersions", policy.versions),
		change("DELETE /v1/policies/{name}/versions/{version}", "DeletePolicyVersion", policy.removeVersion),
		change("POST /v1/policies/{name}/default", "SetDefaultPolicyVersion", policy.setDefault),
		see("GET /v1/policies", "ListPolicies", policy.list),
		see("GET /v1/policies/{name}", "GetPolicy", policy.get),
		change("PUT /v1/policies/{name}", "PutPolicy", policy.put),
		change("POST /v1/policies/{name}/targets", "AttachPolicy", policy.attach),
		change("DELETE /v1/policies/{name}/targets/{certificate}", "DetachPolicy", policy.detach),
	}
}
