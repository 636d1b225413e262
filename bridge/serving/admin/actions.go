package admin

// actions are what the rows do, for the policies of roles: "tidemill:" and the
// action, on arn:aws:tidemill:REGION:ACCOUNT: and the path behind /v1/.
var actions = map[string]string{
	"GET /metrics":                                     "GetMetrics",
	"GET /v1/info":                                     "DescribeBridge",
	"POST /v1/reload":                                  "Reload",
	"GET /v1/clock":                                    "DescribeClock",
	"POST /v1/clock/accept":                            "AcceptClock",
	"GET /v1/refused":                                  "ListRefusedDeclarations",
	"GET /v1/streams":                                  "ListStreams",
	"POST /v1/streams":                                 "CreateStream",
	"GET /v1/streams/records":                          "GetStreamRecords",
	"GET /v1/delivery-streams":                         "ListDeliveryStreams",
	"GET /v1/connectors":                               "ListConnectors",
	"GET /v1/rules":                                    "ListRules",
	"GET /v1/rules/{name}/recent":                      "GetRuleHistory",
	"GET /v1/rules/{name}/why":                         "GetRuleHistory",
	"POST /v1/rules/{name}/why":                        "TestRule",
	"POST /v1/replays":                                 "ReplayRule",
	"DELETE /v1/replays/{id}":                          "StopReplay",
	"GET /v1/watch":                                    "GetMessages",
	"GET /v1/things":                                   "ListThings",
	"POST /v1/things":                                  "CreateThing",
	"DELETE /v1/things/{name}":                         "DeleteThing",
	"GET /v1/certificates":                             "ListCertificates",
	"POST /v1/certificates/{id}":                       "UpdateCertificate",
	"POST /v1/certificates":                            "CreateCertificate",
	"PUT /v1/certificates":                             "RegisterCertificate",
	"GET /v1/certificates/{id}":                        "DescribeCertificate",
	"DELETE /v1/certificates/{id}":                     "DeleteCertificate",
	"GET /v1/registration-code":                        "GetRegistrationCode",
	"GET /v1/expiries":                                 "ListExpiries",
	"GET /v1/own-cas":                                  "ListOwnCAs",
	"POST /v1/own-cas/rotate":                          "RotateCA",
	"POST /v1/own-cas/retire":                          "RetireCA",
	"GET /v1/cas":                                      "ListCAs",
	"POST /v1/cas":                                     "RegisterCA",
	"GET /v1/cas/{id}":                                 "DescribeCA",
	"POST /v1/cas/{id}":                                "UpdateCA",
	"DELETE /v1/cas/{id}":                              "DeleteCA",
	"GET /v1/effective-policies":                       "GetEffectivePolicies",
	"POST /v1/policy-tests":                            "TestPolicy",
	"GET /v1/who-can":                                  "GetWhoCan",
	"DELETE /v1/policies/{name}":                       "DeletePolicy",
	"GET /v1/policies/{name}/versions":                 "ListPolicyVersions",
	"DELETE /v1/policies/{name}/versions/{version}":    "DeletePolicyVersion",
	"POST /v1/policies/{name}/default":                 "SetDefaultPolicyVersion",
	"GET /v1/policies":                                 "ListPolicies",
	"GET /v1/policies/{name}":                          "GetPolicy",
	"PUT /v1/policies/{name}":                          "PutPolicy",
	"POST /v1/policies/{name}/targets":                 "AttachPolicy",
	"DELETE /v1/policies/{name}/targets/{certificate}": "DetachPolicy",
	"PUT /v1/objects":                                  "PutObject",
	"POST /v1/crls":                                    "ImportCRL",
	"GET /v1/users":                                    "ListUsers",
	"POST /v1/users":                                   "CreateUser",
	"GET /v1/users/{name}":                             "DescribeUser",
	"PUT /v1/users/{name}":                             "UpdateUser",
	"DELETE /v1/users/{name}":                          "DeleteUser",
	"PUT /v1/users/{name}/password":                    "SetPassword",
	"GET /v1/access-keys":                              "ListAccessKeys",
	"POST /v1/access-keys":                             "CreateAccessKey",
	"GET /v1/access-keys/{id}":                         "DescribeAccessKey",
	"POST /v1/access-keys/{id}":                        "UpdateAccessKey",
	"POST /v1/access-keys/{id}/rotate":                 "RotateAccessKey",
	"DELETE /v1/access-keys/{id}":                      "DeleteAccessKey",
}

// unlisted is the action of a row that is in no table: only the role admin has it.
const unlisted = "Unlisted"

// Actions lists the actions of the admin socket by their rows, for what tells of
// roles.
func Actions() map[string]string {
	all := map[string]string{}
	for row, action := range actions {
		all[row] = "tidemill:" + action
	}
	return all
}
