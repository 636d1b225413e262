package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/webhook"
)

// What is there already becomes what the overrides say, and a template that
// fails changes nothing.
func TestOverrides(t *testing.T) {
	s, r := newService(t, nil)
	update := func(f func(tx *registry.Tx) error) {
		t.Helper()
		if err := r.Update(f); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *registry.Tx) error {
		return errors.Join(tx.CreateThingType(registry.ThingType{Name: "old"}),
			tx.CreateThingType(registry.ThingType{Name: "new"}),
			tx.CreateGroup(registry.Group{Name: "a"}), tx.CreateGroup(registry.Group{Name: "b"}),
			tx.CreateGroup(registry.Group{Name: "query", Query: "thingName:*"}),
			tx.CreateBillingGroup("cheap", ""), tx.CreateBillingGroup("dear", ""))
	})
	type state struct {
		Type, Billing string
		Attributes    map[string]string
		Groups        []string
	}
	before := state{"old", "cheap", map[string]string{"x": "1", "y": "1"}, []string{"a"}}
	for i, c := range []struct {
		name, override, change string
		want                   state
		err                    error
	}{
		{"nothing said", `{}`, "", before, nil},
		{"do nothing", `{"ThingTypeName":"DO_NOTHING","AttributePayload":"DO_NOTHING","ThingGroups":"DO_NOTHING",` +
			`"BillingGroup":"DO_NOTHING"}`,
			"", before, nil},
		{"replace", `{"ThingTypeName":"REPLACE","AttributePayload":"REPLACE","ThingGroups":"REPLACE","BillingGroup":"REPLACE"}`,
			"",
			state{"new", "dear", map[string]string{"y": "2", "z": "2"}, []string{"b"}}, nil},
		{"merge", `{"AttributePayload":"MERGE","ThingGroups":"MERGE"}`, "",
			state{"old", "cheap", map[string]string{"x": "1", "y": "2", "z": "2"}, []string{"a", "b"}}, nil},
		{"type fails", `{"ThingTypeName":"FAIL","AttributePayload":"REPLACE"}`, "", before, ErrResource},
		{"groups fail", `{"ThingGroups":"FAIL","AttributePayload":"REPLACE"}`, "", before, ErrResource},
		{"no such group", `{"ThingGroups":"REPLACE","AttributePayload":"REPLACE"}`, `"b"->"none"`, before,
			registry.ErrNotFound},
		{"a dynamic group", `{"ThingGroups":"REPLACE","AttributePayload":"REPLACE"}`, `"b"->"query"`, before,
			registry.ErrInvalid},
		{"no such type", `{"ThingTypeName":"REPLACE","AttributePayload":"REPLACE"}`, `"new"->"none"`, before,
			registry.ErrNotFound},
		{"no such policy", `{"AttributePayload":"REPLACE"}`,
			`"PolicyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect",` +
				`"Resource":"*"}]}->"PolicyName":"none"`,
			before, registry.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := fmt.Sprint("thing-", i)
			update(func(tx *registry.Tx) error {
				return errors.Join(tx.CreateThing(registry.Thing{Name: name, Type: "old", BillingGroup: "cheap",
					Attributes: before.Attributes}), tx.AddToGroup(name, "a"))
			})
			issued, err := s.issuer.Issue("x")
			if err != nil {
				t.Fatal(err)
			}
			body := `{"Parameters":{"N":{"Type":"String"},"PEM":{"Type":"String"}},"Resources":{
"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"N"},"ThingTypeName":"new",
 "AttributePayload":{"y":"2","z":"2"},"ThingGroups":["b"],"BillingGroup":"dear"},"OverrideSettings":` + c.override + `},
"cert":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":{"Ref":"PEM"}}},
"policy":{"Type":"AWS::IoT::Policy",
"Properties":{"PolicyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}}}}}`
			if from, to, ok := strings.Cut(c.change, "->"); ok {
				body = strings.Replace(body, from, to, 1)
			}
			made, err := s.RegisterThing(t.Context(), []byte(body),
				map[string]string{"N": name, "PEM": string(issued.CertPEM)})
			if !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Fatalf("%v, want %v", err, c.err)
			}
			err = r.View(func(tx *registry.Tx) error {
				th, err := tx.Thing(name)
				if got := (state{th.Type, th.BillingGroup, th.Attributes, th.Groups}); !reflect.DeepEqual(got, c.want) {
					t.Errorf("got %+v, want %+v", got, c.want)
				}
				_, missing := tx.Certificate(issued.ID)
				if c.err != nil {
					if !errors.Is(missing, registry.ErrNotFound) {
						t.Errorf("a certificate is left: %v", missing)
					}
					return err
				}
				if len(tx.ThingCertificates(name)) != 1 || made.Certificate != issued.ID || made.Thing != name ||
					made.Resources["thing"] != "thing/"+name || made.Resources["cert"] != "cert/"+issued.ID ||
					len(tx.CertificatePolicies(issued.ID)) != 1 {
					t.Errorf("%+v", made)
				}
				return errors.Join(err, missing)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// hooked is a service whose template fleet has a hook, which answer says.
func hooked(t *testing.T, answer http.HandlerFunc) (*Service, *registry.Registry) {
	t.Helper()
	web := httptest.NewServer(answer)
	t.Cleanup(web.Close)
	hooks := NewHooks([]Hook{{ARN: "arn:hook", URL: web.URL}}, webhook.None{}, nil)
	t.Cleanup(hooks.Close)
	s, r := newService(t, hooks)
	err := r.Update(func(tx *registry.Tx) error {
		return tx.UpdateTemplate("fleet", func(tp *registry.Template) error {
			tp.Hook = &registry.Hook{Target: "arn:hook"}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// A hook that hangs, with more devices than it has calls, holds up nobody of
// another one. Its failures are heard of and counted, and leave no line each.
func TestOneHookHangs(t *testing.T) {
	came, release := make(chan struct{}, 1000), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came <- struct{}{}
		<-release
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer slow.Close()
	prompt := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"allowProvisioning":true}`)
	}))
	defer prompt.Close()
	var mu sync.Mutex
	heard := map[string]int{}
	all := []Hook{{ARN: "slow", URL: slow.URL}, {ARN: "prompt", URL: prompt.URL}}
	h := NewHooks(all, webhook.None{}, func(arn string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			t.Errorf("%s: answered", arn)
		}
		heard[arn]++
	})
	defer h.Close()
	const n = 2 * webhook.DefaultCalls
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := h.Ask(t.Context(), "slow", &HookRequest{}); err == nil {
				t.Error("no error")
			}
		})
	}
	for range webhook.DefaultCalls {
		<-came
	}
	if a, err := h.Ask(t.Context(), "prompt", &HookRequest{}); err != nil || !a.Allow {
		t.Errorf("the prompt hook: %+v, %v", a, err)
	}
	close(release)
	wg.Wait()
	if _, err := h.Ask(t.Context(), "none", &HookRequest{}); err == nil {
		t.Error("asked what is not there")
	}
	st := h.Stats()
	if got := st[HookOutcome{"slow", "failed"}] + st[HookOutcome{"slow", "busy"}]; got != n ||
		st[HookOutcome{"prompt", "answered"}] != 1 {
		t.Errorf("%v", st)
	}
	if want := map[string]int{"slow": n, "none": 1}; !reflect.DeepEqual(heard, want) {
		t.Errorf("heard %v", heard)
	}
}

// aFunction is the only one of a bridge.
type aFunction struct{ webhook.None }

func (aFunction) HasFunction(arn string) bool { return arn == "arn:function" }

// A template may name a function as its hook, which needs no table of the configuration.
func TestHookedFunction(t *testing.T) {
	s := &Service{o: Options{Hooks: NewHooks([]Hook{{ARN: "arn:hook"}}, aFunction{}, nil)}}
	t.Cleanup(s.o.Hooks.Close)
	for arn, want := range map[string]bool{"arn:hook": true, "arn:function": true, "arn:other": false, "": false} {
		if s.Hooked(arn) != want {
			t.Errorf("%q: %v", arn, !want)
		}
	}
}

// A hook sees the request, and what it answers is what happens.
func TestHook(t *testing.T) {
	var mu sync.Mutex
	answer, status, asked := "", 200, 0
	var seen HookRequest
	s, r := hooked(t, func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if err := json.NewDecoder(q.Body).Decode(&seen); err != nil || q.Method != "POST" {
			t.Error(q.Method, err)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	})
	if !s.Hooked("arn:hook") || s.Hooked("arn:other") {
		t.Error("Hooked")
	}
	made, err := s.CreateCertificate(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	q := &Claim{Template: "fleet", Token: made.Token, Parameters: map[string]string{"SerialNumber": "1", "Secret": "s"},
		ClientID: "c", Principal: "claim"}
	for _, c := range []struct {
		answer string
		status int
		want   error
	}{
		{`{"allowProvisioning":false}`, 200, errDenied},
		{`{}`, 200, errDenied},
		{`{"allowProvisioning":true}`, 500, errHook},
		{`{"allowProvisioning":true}`, 302, errHook},
		{`{"allowProvisioning":"true"}`, 200, errHook},
		{`{"allowProvisioning":true`, 200, errHook},
		{`{"allowProvisioning":true,"parameterOverrides":{"Site":"moon"}}`, 200, ErrTemplate}, // no Mappings.Sites.moon
	} {
		mu.Lock()
		answer, status = c.answer, c.status
		mu.Unlock()
		if _, err := s.Provision(t.Context(), q); !errors.Is(err, c.want) {
			t.Errorf("%.60s: %v, want %v", c.answer, err, c.want)
		}
	}
	log := new(bytes.Buffer)
	s.log = slog.New(slog.NewTextHandler(log, nil))
	mu.Lock()
	status = 500
	mu.Unlock()
	_, refused := s.Handle(t.Context(), &Request{Topic: "$aws/provisioning-templates/fleet/provision/json",
		Payload: []byte(`{"certificateOwnershipToken":"` + made.Token + `","parameters":{"SerialNumber":"1"}}`)})
	if !strings.Contains(string(refused), "ServiceUnavailable") || log.Len() != 0 {
		t.Errorf("%s, log %s", refused, log)
	}
	if strings.Contains(string(refused), "http") {
		t.Errorf("the device is told where the hook is: %s", refused)
	}
	// A device that gives what only the bridge may does not come to the hook.
	before := asked
	forged := *q
	forged.Parameters = map[string]string{"SerialNumber": "1", "AWS::IoT::Certificate::Id": "other"}
	if _, err := s.Provision(t.Context(), &forged); !errors.Is(err, ErrTemplate) || asked != before {
		t.Errorf("%v, asked %d times", err, asked-before)
	}
	mu.Lock()
	answer, status, asked = `{"allowProvisioning":true,"parameterOverrides":{"SerialNumber":"9",`+
		`"AWS::IoT::Certificate::Id":"other","Unknown":"u"}}`,
		200, 0
	mu.Unlock()
	for range 2 { // the second time it is not asked
		out, err := s.Provision(t.Context(), q)
		if err != nil || out.Thing != "pump-9" {
			t.Errorf("%+v, %v", out, err)
		}
	}
	want := HookRequest{ClaimCertificateID: "claim", CertificateID: made.ID, CertificatePEM: made.PEM,
		TemplateARN: "arn:aws:iot:r:1:provisioningtemplate/fleet",
		ClientID:    "c", Parameters: q.Parameters}
	if asked != 1 || !reflect.DeepEqual(seen, want) {
		t.Errorf("asked %d times, last %+v", asked, seen)
	}
	err = r.View(func(tx *registry.Tx) error {
		_, err := tx.Thing("pump-9")
		if _, err := tx.Thing("pump-1"); !errors.Is(err, registry.ErrNotFound) {
			t.Error(err)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A hook that does not answer is left, and nobody is provisioned.
func TestHookIsLate(t *testing.T) {
	s, _ := hooked(t, func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body) // the server only then sees that the client has left
		<-q.Context().Done()
	})
	made, err := s.CreateCertificate(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	q := &Claim{Template: "fleet", Token: made.Token, Parameters: map[string]string{"SerialNumber": "1"}}
	if _, err := s.Provision(ctx, q); !errors.Is(err, errHook) {
		t.Error(err)
	}
}

// The same request many times at once makes one thing and gets one answer.
func TestProvisionAtOnce(t *testing.T) {
	s, r := newService(t, nil)
	made, err := s.CreateCertificate(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			out, err := s.Provision(t.Context(),
				&Claim{Template: "fleet", Token: made.Token, Parameters: map[string]string{"SerialNumber": "1"}})
			if err != nil || out.Thing != "pump-1" {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
	wg.Wait()
	err = r.View(func(tx *registry.Tx) error {
		th, err := tx.Thing("pump-1")
		if th.Version != 1 {
			t.Errorf("version %d", th.Version)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// The template may be gone, the answer is the same.
	if err := r.Update(func(tx *registry.Tx) error { return tx.DeleteTemplate("fleet") }); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Provision(t.Context(), &Claim{Template: "fleet", Token: made.Token,
		Parameters: map[string]string{"SerialNumber": "1"}}); err != nil || out.Thing != "pump-1" {
		t.Errorf("%+v, %v", out, err)
	}
}

// Who may retire what.
func TestRetire(t *testing.T) {
	s, r := newService(t, nil)
	var ids []string
	for range 5 {
		made, err := s.CreateCertificate(t.Context(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, made.ID)
	}
	by, old, shared, strange, idle := ids[0], ids[1], ids[2], ids[3], ids[4]
	err := r.Update(func(tx *registry.Tx) error {
		errs := []error{tx.CreateThing(registry.Thing{Name: "a"}), tx.CreateThing(registry.Thing{Name: "b"}),
			tx.AttachThing("a", by), tx.AttachThing("a", old), tx.AttachThing("a", shared), tx.AttachThing("b", shared),
			tx.AttachThing("b", strange), tx.AttachThing("a", idle)}
		for _, id := range ids[:4] {
			errs = append(errs, tx.SetCertificateStatus(id, registry.Active))
		}
		return errors.Join(append(errs, tx.SetCertificateStatus(idle, registry.Inactive))...)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, by, id string
		want         error
	}{
		{"itself", by, by, errDenied},
		{"of another thing", by, strange, errDenied},
		{"of another thing too", by, shared, errDenied},
		{"unknown", by, "x", errDenied},
		{"by nobody", "", old, errDenied},
		{"by one that is inactive", idle, old, errDenied},
		{"the old one", by, old, nil},
		{"again", by, old, nil},
		{"by the old one", old, by, errDenied},
	} {
		if err := s.Retire(t.Context(), c.by, c.id); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	err = r.View(func(tx *registry.Tx) error {
		for i, want := range []registry.Status{registry.Active, registry.Inactive, registry.Active, registry.Active} {
			if c, err := tx.Certificate(ids[i]); err != nil || c.Status != want {
				t.Errorf("%d: %s, %v", i, c.Status, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A thing may be registered without a certificate; a template for devices may not
// be without.
func TestThingAlone(t *testing.T) {
	s, r := newService(t, nil)
	const body = `{"Parameters":{"N":{"Type":"String"}},"Resources":{"pump":{"Type":"AWS::IoT::Thing",` +
		`"Properties":{"ThingName":{"Ref":"N"},"AttributePayload":{"a":"1"}}}}}`
	for range 2 { // again changes nothing
		made, err := s.RegisterThing(t.Context(), []byte(body), map[string]string{"N": "pump-1"})
		if err != nil {
			t.Fatal(err)
		}
		if made.Thing != "pump-1" || made.Certificate != "" || made.PEM != nil || len(made.Resources) != 1 ||
			made.Resources["pump"] != "thing/pump-1" {
			t.Errorf("%+v", made)
		}
	}
	if err := r.View(func(tx *registry.Tx) error {
		th, err := tx.Thing("pump-1")
		if th.Attributes["a"] != "1" || len(tx.ThingCertificates("pump-1")) != 0 {
			t.Errorf("%+v", th)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if _, err := parseDeviceTemplate([]byte(body)); !errors.Is(err, ErrTemplate) {
		t.Errorf("a template for devices: %v", err)
	}
	policy := strings.Replace(body, `"Resources":{`,
		`"Resources":{"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"x"}},`, 1)
	_, err := s.RegisterThing(t.Context(), []byte(policy), map[string]string{"N": "pump-2"})
	if !errors.Is(err, ErrTemplate) {
		t.Errorf("a policy without a certificate: %v", err)
	}
}
