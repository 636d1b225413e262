package customauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys returns a pair: the public one in PEM, and a function that signs.
var keys = sync.OnceValues(func() ([]byte, func(string) string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return pub(&key.PublicKey), func(token string) string {
		sum := sha256.Sum256([]byte(token))
		b, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return base64.StdEncoding.EncodeToString(b)
	}
})

func pub(key any) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// A service is an authorizer of the test's own.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string
	answer string
	status int
}

func serve(t *testing.T) *service {
	s := &service{status: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, string(b))
		if s.status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.answer)
	}))
	t.Cleanup(s.Close)
	return s
}

const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`

func open(t *testing.T, all ...Authorizer) *Authorizers {
	t.Helper()
	as, err := New(all, webhook.None{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(as.Close)
	return as
}

// The authorizer is the one that the client names, wherever it does, and its
// token must be signed before it is asked.
func TestWhoIsAsked(t *testing.T) {
	key, sign := keys()
	s := serve(t)
	s.answer = `{"isAuthenticated":true,"principalId":"p1","policyDocuments":[` + policy + `]}`
	as := open(t,
		Authorizer{Name: "signed", URL: s.URL, TokenKey: "X-Token", PublicKeys: [][]byte{key}},
		Authorizer{Name: "plain", URL: s.URL, Default: true},
		Authorizer{Name: "off", URL: s.URL, Disabled: true})
	user := func(pairs ...string) *Attempt {
		var b strings.Builder
		for i := 0; i < len(pairs); i += 2 {
			fmt.Fprintf(&b, "%c%s=%s", "?&"[min(i, 1)], pairs[i], pairs[i+1])
		}
		return &Attempt{MQTT: &MQTT{Username: "me" + b.String(), Password: []byte("secret"), ClientID: "c"}}
	}
	header := func(pairs ...string) *Attempt {
		r := httptest.NewRequest("GET", "/mqtt?x=y", nil)
		for i := 0; i < len(pairs); i += 2 {
			r.Header.Set(pairs[i], pairs[i+1])
		}
		return &Attempt{HTTP: FromRequest(r), MQTT: &MQTT{ClientID: "c"}}
	}
	good := sign("tok+en")
	inQuery := header()
	inQuery.HTTP.QueryString = "?" + NameKey + "=signed&x-token=tok%2Ben&" + SignatureKey + "=" + url.QueryEscape(good)
	for _, c := range []struct {
		name string
		a    *Attempt
		ok   bool
		want string // in the question
	}{
		{"no name: the default", user(), true, `"signatureVerified":false`},
		{"no user name", &Attempt{MQTT: &MQTT{ClientID: "c"}}, true, `"mqtt":{"clientId":"c"}`},
		{"by user name", user(NameKey, "signed", "x-token", "tok+en", SignatureKey, url.QueryEscape(good)), true,
			`{"token":"tok+en","signatureVerified":true,"protocols":["mqtt"],"protocolData":{"mqtt":{"username":"me?`},
		{"signature not escaped", user(NameKey, "signed", "x-token", "tok+en", SignatureKey, good), true,
			`"signatureVerified":true`},
		{"by header", header(NameKey, "signed", "x-token", "tok+en", SignatureKey, good), true,
			`"protocols":["http","mqtt"],"protocolData":{"http":{"headers":{"host":"example.com",`},
		{"by query", inQuery, true, `"token":"tok+en"`},
		{"unknown", user(NameKey, "nobody"), false, ""},
		{"disabled", user(NameKey, "off"), false, ""},
		{"no token", user(NameKey, "signed", SignatureKey, good), false, ""},
		{"no signature", user(NameKey, "signed", "x-token", "tok+en"), false, ""},
		{"another token", user(NameKey, "signed", "x-token", "token", SignatureKey, good), false, ""},
		{"signature of nothing", user(NameKey, "signed", "x-token", "tok+en", SignatureKey, "AAAA"), false, ""},
		{"no base64", user(NameKey, "signed", "x-token", "tok+en", SignatureKey, "!"), false, ""},
	} {
		s.asked = nil
		v, err := as.Ask(t.Context(), c.a)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", c.name, err)
		}
		if (len(s.asked) == 1) != c.ok || c.ok && !strings.Contains(s.asked[0], c.want) {
			t.Errorf("%s: asked %s", c.name, s.asked)
		}
		if c.ok && (v.Principal != "p1" || len(v.Policies) != 1 || v.Disconnect != mostTime || v.Refresh != mostTime) {
			t.Errorf("%s: %+v", c.name, v)
		}
		if err := as.Check(c.a); (err == nil) != c.ok {
			t.Errorf("%s: Check: %v", c.name, err)
		}
	}
	stats := as.Stats()
	for o, want := range map[Outcome]uint64{{"plain", "allowed"}: 2, {"signed", "allowed"}: 4, {"", "refused"}: 7} {
		if got := stats[o].Clients; got != want {
			t.Errorf("%v: %d, want %d of %v", o, got, want, stats)
		}
	}
	a := &Attempt{TLS: true, ServerName: "iot.example",
		MQTT: &MQTT{Username: "u", Password: []byte("p"), ClientID: "c"}}
	if _, err := as.Ask(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	want := `{"signatureVerified":false,"protocols":["tls","mqtt"],"protocolData":{"tls":{"serverName":"iot.example"},` +
		`"mqtt":{"username":"u","password":"cA==","clientId":"c"}},"connectionMetadata":{"id":"` + a.ID + `"}}`
	if got := s.asked[len(s.asked)-1]; got != want || len(a.ID) != 36 {
		t.Errorf("asked %s, want %s", got, want)
	}
	none := open(t, Authorizer{Name: "off", Disabled: true})
	if err := none.Check(user()); err == nil || none.Any() {
		t.Error("nobody could be asked")
	}
}

// What the service answers is held to the letter: all else refuses.
func TestAnswers(t *testing.T) {
	long := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"` +
		strings.Repeat("x", authz.MaxDocument) + `"}]}`
	quoted, _ := json.Marshal(policy)
	eleven := strings.TrimSuffix(strings.Repeat(policy+",", 11), ",")
	for _, c := range []struct {
		answer string
		want   error
	}{
		{`{"isAuthenticated":true,"principalId":"p","policyDocuments":[` + policy +
			`],"disconnectAfterInSeconds":300,"refreshAfterInSeconds":86400}`, nil},
		{`{"isAuthenticated":true,"principalId":"p","policyDocuments":[` + string(quoted) + `]}`, nil},
		{`{"isAuthenticated":true,"principalId":"p","policyDocuments":[]}`, nil},
		{`{"isAuthenticated":true,"principalId":"p"}`, nil},
		{`{"isAuthenticated":false,"principalId":"p","policyDocuments":[` + policy + `]}`, ErrRefused},
		{`{"principalId":"p","policyDocuments":[` + policy + `]}`, ErrFailed},
		{`{"isAuthenticated":"true","principalId":"p"}`, ErrFailed},
		{`{"isAuthenticated":true}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p-1"}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"` + strings.Repeat("p", 129) + `"}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p","policyDocuments":[` + eleven + `]}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p","policyDocuments":[` + long + `]}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p","policyDocuments":[null]}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p","policyDocuments":[{}]}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p","disconnectAfterInSeconds":299}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p","refreshAfterInSeconds":86401}`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p","refreshAfterInSeconds":300.5}`, ErrFailed},
		{``, ErrFailed},
		{`[]`, ErrFailed},
		{`{"isAuthenticated":true,"principalId":"p"}x`, ErrFailed},
	} {
		s := serve(t)
		s.answer = c.answer
		v, err := open(t, Authorizer{Name: "a", URL: s.URL, Default: true}).Ask(t.Context(), &Attempt{})
		if !errors.Is(err, c.want) || (err == nil) != (v != nil) {
			t.Errorf("%.80s: %v, want %v", c.answer, err, c.want)
		}
	}
}

// An authorizer that hangs, with more clients than it has calls, holds up nobody
// of another one.
func TestOneHangsOthersAnswer(t *testing.T) {
	came, release := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came <- struct{}{}
		<-release
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer slow.Close()
	prompt := serve(t)
	prompt.answer = `{"isAuthenticated":true,"principalId":"p1"}`
	as := open(t, Authorizer{Name: "slow", URL: slow.URL, Default: true}, Authorizer{Name: "prompt", URL: prompt.URL})
	var wg sync.WaitGroup
	for range 2 * webhook.DefaultCalls {
		wg.Go(func() {
			if _, err := as.Ask(t.Context(), &Attempt{}); !errors.Is(err, ErrFailed) {
				t.Error(err)
			}
		})
	}
	for range webhook.DefaultCalls {
		<-came
	}
	go func() { // those that waited
		for range came {
		}
	}()
	if _, err := as.Ask(t.Context(), &Attempt{Shown: map[string]string{NameKey: "prompt"}}); err != nil {
		t.Errorf("the prompt authorizer: %v", err)
	}
	close(release)
	wg.Wait()
	slow.Close()
	close(came)
}

// An authorizer that stays at its URL has no more calls for it when others are
// set; what is changed has its own.
func TestSetKeepsCalls(t *testing.T) {
	a, b := Authorizer{Name: "a", URL: "http://a/"}, Authorizer{Name: "b", URL: "http://b/", MaxCalls: 2}
	as := open(t, a, b)
	before := as.now.Load().byName
	a.Default, b.MaxCalls = true, 3
	if err := as.Set([]Authorizer{a, b, {Name: "c", URL: "http://a/"}}); err != nil {
		t.Fatal(err)
	}
	now := as.now.Load().byName
	if now["a"].service != before["a"].service || now["b"].service == before["b"].service ||
		now["c"].service == now["a"].service {
		t.Error("calls are not kept, or shared")
	}
}

// Stats tells those that were refused for want of a call from those that failed.
func TestBusyIsCounted(t *testing.T) {
	as := open(t)
	h := &hook{Authorizer: Authorizer{Name: "a"}}
	as.count(h, time.Second, fmt.Errorf("%w: %w", ErrFailed, webhook.ErrBusy))
	as.count(h, time.Second, ErrFailed)
	if st := as.Stats(); st[Outcome{"a", "busy"}] != (Count{1, time.Second}) ||
		st[Outcome{"a", "failed"}].Clients != 1 {
		t.Errorf("%v", st)
	}
}

// What cannot be an authorizer is told, all at once.
func TestNew(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = New([]Authorizer{{Name: "a", PublicKeys: [][]byte{[]byte("x"), pub(&ec.PublicKey)}},
		{Name: "b", Default: true}, {Name: "b", Default: true}}, webhook.None{}, nil)
	for _, want := range []string{"authorizer a: public key 1: no PEM", "authorizer a: public key 2: want RSA",
		"authorizer b: is there twice", "both are the default"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// Whatever a service answers, only one that says so lets anybody in.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"isAuthenticated":true,"principalId":"p","policyDocuments":[` + policy +
		`],"disconnectAfterInSeconds":300}`))
	f.Add([]byte(`{"isAuthenticated":false}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := readAnswer(b)
		if err != nil || v == nil {
			return
		}
		if !strings.Contains(string(b), "true") || v.Principal == "" || v.Disconnect < leastTime ||
			v.Disconnect > mostTime || v.Refresh < leastTime || v.Refresh > mostTime || len(v.Policies) > maxPolicies {
			t.Fatalf("%s: %+v", b, v)
		}
	})
}
