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
		{"GET /metrics", "GetMetrics", nothing, metrics, 0},
		{"GET /v1/info", "DescribeBridge", nothing, info, 0},
		{"GET /v1/status", "GetStatus", nothing, status, 0},
		{"GET /v1/backups", "DescribeBackups", nothing, copies.status, 0},
		{"POST /v1/backups", "CreateBackup", begun, copies.here, 0},
		{"POST /v1/backups/elsewhere", "CreateBackupElsewhere", begun, copies.elsewhere, 0},
		{"GET /v1/held", "ListHeld", nothing, back.list, 0},
		{"POST /v1/held/release", "ReleaseHeld", asked, back.release, 0},
		{"GET /v1/revocations", "ExportRevocations", nothing, back.export, 0},
		{"POST /v1/reload", "Reload", opaque, declared.apply, 0},
		{"POST /v1/drain", "Drain", asked, drains(o.Drain), 0},
		{"GET /v1/clock", "DescribeClock", nothing, state.get, 0},
		{"POST /v1/clock/accept", "AcceptClock", asked, state.accept, 0},
		{"GET /v1/disk", "DescribeDisk", nothing, room, 0},
		{"GET /v1/refused", "ListRefusedDeclarations", nothing, declared.refused, 0},
		{"GET /v1/watch", "GetMessages", nothing, o.Watch.Serve, 0},
		{"GET /v1/expiries", "ListExpiries", nothing, o.Expiries.get, 0},
		{"PUT /v1/objects", "PutObject", opaque, (&objects{o.Objects}).put, maxObject},
	}
}

// streamsRows are about data streams, channels, delivery streams and connectors.
func streamsRows(o Options) []row {
	stream, delivery := &dataStreams{o.Store, o.DataStreams, o.Peers}, &deliveryStreams{o.DeliveryStreams}
	channel := &channels{o.Store, stream}
	connectors := func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, o.Connectors.List()) }
	return []row{
		{"GET /v1/streams", "ListStreams", nothing, stream.list, 0},
		{"POST /v1/streams", "CreateStream", asked, stream.create, 0},
		{"GET /v1/streams/records", "GetStreamRecords", nothing, stream.tail, 0},
		{"GET /v1/channels", "ListChannels", nothing, channel.list, 0},
		{"GET /v1/channels/{name}", "DescribeChannel", nothing, channel.show, 0},
		{"GET /v1/channels/{name}/messages", "GetChannelMessages", nothing, channel.messages, 0},
		{"GET /v1/delivery-streams", "ListDeliveryStreams", nothing, delivery.list, 0},
		{"GET /v1/delivery-streams/{name}", "DescribeDeliveryStream", nothing, delivery.show, 0},
		{"GET /v1/delivery-streams/{name}/failed", "ListFailedDeliveries", nothing, delivery.failed, 0},
		{"POST /v1/delivery-streams/{name}/redrive", "RedriveDeliveryStream", asked, delivery.redrive, 0},
		{"GET /v1/connectors", "ListConnectors", nothing, connectors, 0},
	}
}

// rulesRows are about topic rules.
func rulesRows(o Options) []row {
	rule, box := &topicRules{o.TopicRules, o.Engine, o.Peers}, &outboxes{o.Outboxes}
	alarm := &alarms{o.Alarms}
	replay := &replays{rules: o.TopicRules, engine: o.Engine, compiler: o.Compiler,
		stops: map[string]context.CancelFunc{}}
	return []row{
		{"GET /v1/rules", "ListRules", nothing, rule.list, 0},
		{"GET /v1/rules/{name}/recent", "GetRuleHistory", nothing, rule.recent, 0},
		{"GET /v1/rules/{name}/why", "GetRuleHistory", nothing, rule.why, 0},
		{"POST /v1/rules/{name}/why", "TestRule", nothing, rule.try, 0},
		{"POST /v1/replays", "ReplayRule", nothing, replay.run, 0},
		{"DELETE /v1/replays/{id}", "StopReplay", nothing, replay.stopOne, 0},
		{"GET /v1/outboxes", "ListOutboxes", nothing, box.list, 0},
		{"POST /v1/outboxes/{rule}/{slot}/retry", "RetryOutbox", asked, box.retry, 0},
		{"DELETE /v1/outboxes/{rule}/{slot}", "DropOutbox", asked, box.drop, 0},
		{"GET /v1/alarms", "ListAlarms", nothing, alarm.list, 0},
		{"DELETE /v1/alarms/{name}", "DeleteAlarm", asked, alarm.remove, 0},
	}
}

// thingsRows are about things and certificates.
func thingsRows(o Options) []row {
	thing := &things{o.Registry, o.Issuer, o.Clients, o.Endpoint, o.Broker, o.Account, o.Region}
	cert := &certificates{o.Registry, o.Issuer}
	return []row{
		{"GET /v1/things", "ListThings", nothing, thing.list, 0},
		{"POST /v1/things", "CreateThing", asked, thing.create, 0},
		{"DELETE /v1/things/{name}", "DeleteThing", asked, thing.remove, 0},
		{"GET /v1/certificates", "ListCertificates", nothing, cert.list, 0},
		{"POST /v1/certificates/{id}", "UpdateCertificate", asked, cert.setStatus, 0},
		{"POST /v1/certificates", "CreateCertificate", asked, cert.create, 0},
		{"PUT /v1/certificates", "RegisterCertificate", asked, cert.register, 0},
		{"GET /v1/certificates/{id}", "DescribeCertificate", nothing, cert.get, 0},
		{"DELETE /v1/certificates/{id}", "DeleteCertificate", asked, cert.remove, 0},
		{"POST /v1/crls", "ImportCRL", opaque, cert.importCRL, registry.MaxCRL},
	}
}

// authoritiesRows are about CAs.
func authoritiesRows(o Options) []row {
	ca, own := &authorities{o.Registry}, &rotation{o.Registry, o.Issuer}
	return []row{
		{"GET /v1/registration-code", "GetRegistrationCode", nothing, ca.registrationCode, 0},
		{"GET /v1/own-cas", "ListOwnCAs", nothing, own.list, 0},
		{"POST /v1/own-cas/rotate", "RotateCA", asked, own.begin, 0},
		{"POST /v1/own-cas/retire", "RetireCA", asked, own.retire, 0},
		{"GET /v1/cas", "ListCAs", nothing, ca.list, 0},
		{"POST /v1/cas", "RegisterCA", asked, ca.register, 0},
		{"GET /v1/cas/{id}", "DescribeCA", nothing, ca.get, 0},
		{"POST /v1/cas/{id}", "UpdateCA", asked, ca.change, 0},
		{"DELETE /v1/cas/{id}", "DeleteCA", asked, ca.remove, 0},
	}
}

// peopleRows are about people and access keys.
func peopleRows(o Options) []row {
	user, key := &users{o.People}, &accessKeys{o.People, o.Declared}
	return []row{
		{"GET /v1/users", "ListUsers", nothing, user.list, 0},
		{"POST /v1/users", "CreateUser", asked, user.create, 0},
		{"GET /v1/users/{name}", "DescribeUser", nothing, user.get, 0},
		{"PUT /v1/users/{name}", "UpdateUser", asked, user.change, 0},
		{"DELETE /v1/users/{name}", "DeleteUser", asked, user.remove, 0},
		{"PUT /v1/users/{name}/password", "SetPassword", opaque, user.setPassword, 0},
		{"GET /v1/access-keys", "ListAccessKeys", nothing, key.list, 0},
		{"POST /v1/access-keys", "CreateAccessKey", asked, key.create, 0},
		{"GET /v1/access-keys/{id}", "DescribeAccessKey", nothing, key.get, 0},
		{"POST /v1/access-keys/{id}", "UpdateAccessKey", asked, key.setStatus, 0},
		{"POST /v1/access-keys/{id}/rotate", "RotateAccessKey", asked, key.rotate, 0},
		{"DELETE /v1/access-keys/{id}", "DeleteAccessKey", asked, key.remove, 0},
	}
}

// policiesRows are about policies.
func policiesRows(o Options) []row {
	policy := &policies{o.Registry, o.Account, o.Region, o.Log}
	return []row{
		{"GET /v1/effective-policies", "GetEffectivePolicies", nothing, policy.effective, 0},
		{"POST /v1/policy-tests", "TestPolicy", nothing, policy.test, 0},
		{"GET /v1/who-can", "GetWhoCan", nothing, policy.whoCan, 0},
		{"DELETE /v1/policies/{name}", "DeletePolicy", asked, policy.remove, 0},
		{"GET /v1/policies/{name}/versions", "ListPolicyVersions", nothing, policy.versions, 0},
		{"DELETE /v1/policies/{name}/versions/{version}", "DeletePolicyVersion", asked, policy.removeVersion, 0},
		{"POST /v1/policies/{name}/default", "SetDefaultPolicyVersion", asked, policy.setDefault, 0},
		{"GET /v1/policies", "ListPolicies", nothing, policy.list, 0},
		{"GET /v1/policies/{name}", "GetPolicy", nothing, policy.get, 0},
		{"PUT /v1/policies/{name}", "PutPolicy", asked, policy.put, 0},
		{"POST /v1/policies/{name}/targets", "AttachPolicy", asked, policy.attach, 0},
		{"DELETE /v1/policies/{name}/targets/{certificate}", "DetachPolicy", asked, policy.detach, 0},
	}
}
