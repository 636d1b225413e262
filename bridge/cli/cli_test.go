package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/server"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

func runText(t *testing.T, args ...string) (out, errs string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err = run(t.Context(), "test", args, &stdout, &stderr)
	return stdout.String(), stderr.String(), err
}

// status is what the program would exit with.
func status(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(usageError)):
		return 2
	}
	return 1
}

// A step is one command and parts of what it has to say.
type step struct {
	args string // split at spaces; "·" stands for one within an argument
	code int
	out  string // part of stdout
	err  string // part of stderr or the error
}

func (s step) run(t *testing.T) {
	t.Helper()
	args := strings.Fields(s.args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "·", " ")
	}
	out, errs, err := runText(t, args...)
	if err != nil {
		errs += err.Error()
	}
	if status(err) != s.code || !strings.Contains(out, s.out) || !strings.Contains(errs, s.err) ||
		(s.err == "") != (errs == "") {
		t.Errorf("%q: status %d, want %d\nstdout: %swant %q\nstderr: %s\nwant %q", args, status(err), s.code, out,
			s.out, errs, s.err)
	}
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := write("bad.toml", "data_dir = 5\n[mqtt]\nlsten = \"x\"\nlisten = \"nonsense\"\n")
	broken := write("broken.toml", "data_dir = [")
	for _, s := range []step{
		{"", 2, "", "a command is missing"},
		{"help", 0, "stream tail", ""},
		{"--help", 0, "stream tail", ""},
		{"help stream tail", 0, "usage: tidemill-bridge stream tail [flags] NAME\n", ""},
		{"help version", 0, "usage: tidemill-bridge version [flags]\n", ""},
		{"help frob", 2, "", `unknown command "frob"`},
		{"frob", 2, "", `unknown command "frob"`},
		{"thing", 2, "", "want one of: thing create, thing kit, thing list, thing delete"},
		{"thing frob", 2, "", "want one of: thing create, thing kit, thing list, thing delete"},
		{"serve -x", 2, "", "serve: flag provided but not defined: -x; see -h"},
		{"serve -config", 2, "", "serve: flag needs an argument: -config; see -h"},
		{"serve now", 2, "", `serve: unexpected argument "now"; see -h`},
		{"thing create", 2, "", "thing create: want NAME; see -h"},
		{"thing create a b -out x", 2, "", `unexpected argument "b"`},
		{"thing kit", 2, "", "thing kit: want NAME; see -h"},
		{"thing kit a -out a.zip", 2, "", "want a file that ends with .tar.gz"},
		{"thing delete", 2, "", "thing delete: want NAME; see -h"},
		{"watch -n x", 2, "", "invalid value"},
		{"watch -n -1", 2, "", "want 0 or more"},
		{"watch -data /nowhere", 1, "", "no bridge runs at /nowhere"},
		{"cert status 3f1a", 2, "", "want ID ACTIVE|INACTIVE|REVOKED"},
		{"policy attach p", 2, "", "want NAME CERTIFICATE-ID"},
		{"policy put p", 2, "", "want NAME FILE"},
		{"policy put p f -document {}", 2, "", "both FILE and -document are given"},
		{"policy put p /nowhere/x", 1, "", "/nowhere/x"},
		{"policy put p " + broken, 1, "", "broken.toml: not JSON"},
		{"policy put p /nowhere.json", 1, "", "there is no file /nowhere.json; -document takes the document itself"},
		{"policy put p -document {", 1, "", "not JSON"},
		{"policy put p -document @/nowhere/x", 1, "", "/nowhere/x"},
		{"stream tail s -from middle", 2, "", "want oldest or latest"},
		{"stream create s -shards x", 2, "", "invalid value"},
		{"version", 0, "tidemill-bridge test\n", ""},
		{"--version", 0, "tidemill-bridge test\n", ""},
		{"version x", 2, "", `unexpected argument "x"`},
		{"version -data x", 2, "", "not defined: -data"},
		{"config", 2, "", "want one of: config sample, config check"},
		{"config check " + bad, 1, "", "mqtt.lsten: unknown key"},
		{"config check -config " + bad, 1, "", "mqtt.lsten: unknown key"},
		{"config check a -config b", 2, "", "exclude each other"},
		{"config check " + write("good.toml", "data_dir = \"/x\"\n"), 0, "it is right; data in /x\n", ""},
		{"config check " + write("peer.toml", "data_dir = \"/x\"\n[admin]\nsocket = \"/run/x.sock\"\n"+
			"[[admin.peers]]\nuser = \"nobody-is-called-so\"\nroles = [\"viewer\"]\n"), 1, "", "nobody-is-called-so"},
		{"config check " + write("role.toml", "data_dir = \"/x\"\n[admin]\nsocket = \"/run/x.sock\"\n"+
			"[[admin.peers]]\nuser = \"0\"\nroles = [\"vewer\"]\n"), 1, "", "vewer"},
		{"config check " + write("postgres.toml", "[postgres]\nurl = \"postgres://u@h:1/d\"\n"+
			"password_file = \"/nowhere/pass\"\n"), 1, "", "postgres.password_file: "},
		{"config check " + write("alarms.toml", "[alertmanager]\nurl = \"http://h:9093\"\nusername = \"u\"\n"+
			"password_file = \"/nowhere/pass\"\n"), 1, "", "alertmanager.password_file: "},
		{"config check " + write("alerts.toml", "[alertmanager]\nurl = \"http://h:9093/am/api/v2/alerts\"\n"), 1, "",
			`want "http://h:9093/am": the bridge adds the path itself`},
		{"config check " + write("folders.toml", "[lambda]\ndirectories = [\"/nowhere\"]\n"), 1, "",
			"lambda.directories: stat /nowhere: no such file or directory"},
		{"config sample", 0, "[mqtt]", ""},
		{"serve -config /nowhere/x.toml", 1, "",
			"/nowhere/x.toml: no such file or directory: name one with -config, or make one: tidemill-bridge config sample > "},
		{"serve -config " + bad, 1, "", "mqtt.lsten: unknown key"},
		{"serve -config " + bad, 1, "", `mqtt.listen: "nonsense"`},
		{"thing list -config " + broken, 1, "", "broken.toml"},
	} {
		s.run(t)
	}
	for _, cmd := range commands {
		step{cmd.name + " -h", 0, "example:\n  tidemill-bridge " + cmd.name, ""}.run(t)
	}
}

func TestRuleTest(t *testing.T) {
	dir := t.TempDir()
	payload := filepath.Join(dir, "payload.json")
	if err := os.WriteFile(payload, []byte(`{"temp":31.5}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const hot = "rule test -sql SELECT·temp·FROM·'dt/#'·WHERE·temp>30 -topic "
	for _, s := range []step{
		{"rule test", 2, "", "-sql and -topic are needed"},
		{hot + `dt/a -payload {"temp":31.5}`, 0, `{"temp":31.5}` + "\n", "WHERE   temp>30 → true"},
		{hot + "dt/a -payload @" + payload + " -quiet", 0, `{"temp":31.5}` + "\n", ""},
		{hot + `dt/a -payload {"temp":30}`, 1, "", "does not fire: WHERE is not true"},
		{hot + `xx/a -payload {"temp":31}`, 1, "", `does not match "xx/a"`},
		{hot + `dt/a -payload {"temp":`, 1, "", "PAYLOAD not JSON"},
		{hot + "dt/a -quiet", 1, "", "the rule does not fire"},
		{hot + "dt/a -payload @/nowhere/x", 1, "", "/nowhere/x"},
		{hot + `dt/# -payload {"temp":31.5}`, 2, "", "-topic"},
		{hot + "dt/a -sql-version 2019", 1, "", `unknown SQL version "2019"`},
		{"rule test -topic a -sql SELECT·FROM·FROM", 1, "", "line 1, column 8: unexpected"},
		{"rule test -topic a -sql SELECT·nofunc(x)·FROM·'a'", 1, "", "there is no function nofunc"},
		{"rule test -topic a -sql @/nowhere/x", 1, "", "/nowhere/x"},
		{"rule test -topic a -sql SELECT·get_thing_shadow('t','r')·FROM·'a'", 0, "{}", "give -shadow t=@FILE"},
		{`rule test -topic a -sql SELECT·get_thing_shadow('t','n','r').v·FROM·'a' -shadow t/n={"v":1}`, 0, `{"v":1}` +
			"\n", "fires with"},
		{`rule test -topic a -sql SELECT·get_registry_data('DescribeThing','t','r').v·FROM·'a' -thing t={"v":2}`, 0,
			`{"v":2}` + "\n", "fires with"},
		{`rule test -topic a -sql SELECT·get_registry_data('ListThingGroupsForThing','t','r').v·FROM·'a' -groups t={"v":3}`,
			0, `{"v":3}` + "\n", "fires with"},
		{`rule test -topic a -sql SELECT·decode(*,'proto','b','k/x.desc','f','Reading')·AS·v·FROM·'a' -payload x`, 0,
			"{}", "give -descriptors b/k/x.desc=@FILE"},
		{`rule test -topic a -sql SELECT·aws_lambda('arn',*)·AS·v·FROM·'a' -payload {}`, 0, "{}", "give -function arn=@FILE"},
		{`rule test -topic a -sql SELECT·aws_lambda('arn',*).n·AS·v·FROM·'a' -payload {} -function arn={"n":4}`, 0, `{"v":4}` + "\n",
			"fires with"},
		{`rule test -topic a -sql SELECT·get_secret('k','SecretString','r')·AS·v·FROM·'a'`, 0, "{}", "give -secret k=@FILE"},
		{`rule test -topic a -sql SELECT·get_secret('k','SecretString','m','r')·AS·v·FROM·'a' -secret k={"m":"x"}`, 0,
			`{"v":"x"}` + "\n", "fires with"},
		{`rule test -topic a -sql SELECT·get_dynamodb('T','id',topic(1),'seq',7,'r').v·FROM·'a' -item T/a/7={"v":5}`, 0,
			`{"v":5}` + "\n", "fires with"},
		{`rule test -topic a -sql SELECT·machinelearning_predict('m','r',*)·AS·v·FROM·'a' -payload {"a":1} -prediction m={"y":6}`, 0,
			`{"v":{"y":6}}` + "\n", "fires with"},
		{"rule test -topic $aws/rules/hot/x/y -sql SELECT·topic()·AS·t", 0, `{"t":"x/y"}` + "\n",
			"reached by Basic Ingest"},
		{"rule test -topic $aws/rules/hot/x/y -sql SELECT·topic()·AS·t·FROM·'never'", 0, `{"t":"x/y"}` + "\n",
			"fires with"},
		{"rule test -topic $aws/rules/hot/x/y -rule cold -sql SELECT·topic()·AS·t", 1, "",
			"only Basic Ingest reaches the rule"},
		{"rule test -topic a -sql SELECT·topic()·AS·t", 1, "", "only Basic Ingest reaches the rule"},
		{"rule test -topic a -sql SELECT·principal()·AS·p,traceid()·AS·t,sourceip()·AS·s,accountid()·AS·a·FROM·'a' " +
			"-principal P -trace 7e146a2c-95b5-4caf-98b9-50e3969734c7 -source-ip S -account A",
			0,
			`{"p":"P","t":"7e146a2c-95b5-4caf-98b9-50e3969734c7","s":"S","a":"A"}` + "\n", "fires with"},
		{"rule test -topic a -sql SELECT·principal()·AS·p,traceid()·AS·t·FROM·'a'·" +
			"WHERE·isUndefined(principal())·OR·isUndefined(traceid())",
			1, "", "WHERE"},
		{"rule test -topic a -sql SELECT·clientid()·AS·c·FROM·'a' -protocol http", 0, `{"c":"n/a"}` + "\n",
			"fires with"},
		{"rule test -topic a -sql SELECT·get_mqtt_property('content_type')·AS·c,get_user_properties('k')·AS·u·FROM·'a' " +
			"-property content_type=x -user-property k=1 -user-property k=2",
			0,
			`{"c":"x","u":["1","2"]}` + "\n", "fires with"},
		{"rule test -topic a -sql SELECT·a·FROM·'a' -property colour=x", 2, "", "want content_type"},
		{"rule test -topic a -sql SELECT·a·FROM·'a' -property format_indicator=text", 2, "",
			"want UNSPECIFIED_BYTES or UTF8_DATA"},
		{"rule test -topic a -sql SELECT·get_mqtt_property('format_indicator')·AS·f·FROM·'a' -property format_indicator=UTF8_DATA",
			0, `{"f":"UTF8_DATA"}` + "\n", "fires with"},
		{"rule test -topic a -sql SELECT·a·FROM·'a' -trace T", 2, "", "want a UUID"},
		{"rule test -topic a -sql SELECT·a·FROM·'a' -shadow t", 2, "", "want THING"},
		// The document is for a pipe, byte for byte; what explains it is for people.
		{"rule test -topic a -sql SELECT·*·FROM·'a' -payload x\x1b[2J\x9b", 0, "x\x1b[2J\x9b\n",
			`fires with x\u001b[2J\x9b` + "\n"},
		{"rule test -topic a\u202e -sql SELECT·a·FROM·'a'·WHERE·a='\u009b'", 1, "", `does not match "a\u202e"`},
		// What is refused when a rule is made is refused here.
		{"rule test -topic a -sql SELECT·time_to_epoch(s,'Q')·AS·t·FROM·'a'", 1, "", `field "Q" is not known`},
		{`rule test -topic a -sql SELECT·time_to_epoch(s,"yyyy-MM-dd'T'HH:mm:ss[.SSS]X")·AS·t·FROM·'a' -payload ` +
			`{"s":"2026-02-12T15:15:45Z"}`,
			0, `{"t":1770909345000}` + "\n", "fires with"},
		{`rule test -topic a -sql SELECT·time_to_epoch(s,"yyyy-MM-dd'T'HH:mm:ss[.SSS]X")·AS·t·FROM·'a' -payload ` +
			`{"s":"2026-02-12T15:15:45.787Z"}`,
			0, `{"t":1770909345787}` + "\n", "fires with"},
	} {
		s.run(t)
	}
}

// newData makes a data directory as serve does.
func newData(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := openData(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// openData opens a data directory as serve does, and makes one that is not there.
func openData(t *testing.T, dir string) *server.Server {
	t.Helper()
	cfg, err := config.Load("", func(string) string { return "" }, map[string]string{"data_dir": dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Options{Config: cfg, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Secrets are put, listed without their values, rotated, put back and deleted.
func TestSecretCommands(t *testing.T) {
	data, dir := newData(t), t.TempDir()
	on := func(args string) string { return args + " -data " + data }
	value, blob := filepath.Join(dir, "value"), filepath.Join(dir, "blob")
	if err := errors.Join(os.WriteFile(value, []byte("{\"key\":\"hunter2\"}\n"), 0o600),
		os.WriteFile(blob, []byte{0xff, '\n'}, 0o600)); err != nil {
		t.Fatal(err)
	}
	is := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(data, "secrets", name)); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for _, s := range []step{
		{on("secret list"), 0, "SECRET", ""},
		{on("secret put line/api -file " + value), 0, "", ""},
		{on("secret put blob -binary -file " + blob), 0, "", ""},
		{on("secret put blob -file " + value), 1, "", "of the other kind"},
		{on("secret put a·b -file " + value), 1, "", "want 1 to 200 of"},
		{on("secret put text -file " + blob), 1, "", "want UTF-8 text"},
		{on("secret put text -file /nowhere"), 1, "", "/nowhere"},
		{on("secret rotate line/api -length 8"), 2, "", "want 16 to 4096"},
		{on("secret restore line/api"), 1, "", "no previous value"},
		{on("secret rotate line/api"), 0, "", ""},
		{on("secret list"), 0, "line/api  text    ", ""},
		{on("secret list -json"), 0, `"previous":true`, ""},
		{on("secret restore line/api"), 0, "", ""},
		{on("secret delete none"), 1, "", "no such secret: none"},
	} {
		s.run(t)
	}
	is("line%2Fapi", `{"key":"hunter2"}`)
	is("blob.bin", "\xff\n")
	step{on("secret delete line/api"), 0, "", ""}.run(t)
	if left, err := filepath.Glob(filepath.Join(data, "secrets", "line*")); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// Commands work on the data directory while no bridge runs.
func TestOffline(t *testing.T) {
	data, out := newData(t), t.TempDir()
	on := func(args string) string { return args + " -data " + data }
	first, second, full := filepath.Join(out, "1"), filepath.Join(out, "2"), filepath.Join(out, "full")
	if err := errors.Join(os.Mkdir(full, 0o700),
		os.WriteFile(filepath.Join(full, "agent.toml"), []byte("old"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []step{
		{on("thing list"), 0, "THING", ""},
		{on("thing create pi-1 -endpoint bridge.example:8883 -out " + first), 0, "thing        pi-1", ""},
		{on("thing create pi-1 -out " + first), 1, "", "key.pem is there already"},
		{on("thing create pi-2 -out " + full), 1, "", "agent.toml is there already"},
		{on("thing create pi-1 -out " + second), 0, "certificate", ""},
		{on("thing create pi-3 -sensor frob -out " + filepath.Join(out, "4")), 1, "",
			"want one of none, host, bme280, sim"},
		{on("thing create pi-3 -endpoint elsewhere.example: -out " + filepath.Join(out, "5")), 0,
			`NOTE         the bridge's certificate is not for elsewhere.example, so the device will refuse it: ` +
				`add "elsewhere.example" to mqtt.server_names`,
			""},
		{on("thing delete pi-3"), 1, "", "delete 1 certificates of it for good; say -yes"},
		{on("thing delete pi-3 -yes"), 0, "DELETED", ""},
		{on("thing delete pi-3 -yes"), 1, "", "pi-3"},
		{on("thing create pi.1 -out " + filepath.Join(out, "3")), 1, "", `thing name "pi.1"`},
		{on("thing create pi-1 -endpoint x -out " + filepath.Join(out, "3")), 1, "", "endpoint"},
		{on("thing create pi-1 -out " + filepath.Join(full, "agent.toml", "x")), 1, "", "not a directory"},
		{on("thing list"), 0, "pi-1   2             no\n", ""},
		{on("policy show"), 0, "tidemill-thing\n", ""},
		{on("policy show tidemill-thing"), 0, `"iot:Connect"`, ""},
		{on("policy show nosuch"), 1, "", `policy "nosuch"`},
		{on("policy put p -document {}"), 1, "", "no Statement"},
		{on(`policy put p -document {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`),
			0, "", ""},
		{on("policy show p"), 0, `"iot:*"`, ""},
		{on("policy attach p 3f1a"), 1, "", `certificate "3f1a"`},
		{on("cert status 3f1a REVOKED"), 1, "", `certificate "3f1a"`},
		{on("stream create s -shards 2 -retention 48h"), 0, "", ""},
		{on("stream create s -shards 3 -retention 36h"), 0, "", ""},
		{on("stream create s3 -shards 0"), 1, "", "ShardCount"},
		{on("stream create a/b"), 1, "", "StreamName"},
		{on("stream list"), 0, "s       3       36h0m0s", ""},
		{on("stream list -all"), 0, "$ingest", ""},
		{on("stream tail s -from oldest"), 0, "", ""},
		{on("stream tail nosuch"), 1, "", "nosuch"},
		{on("channel list"), 0, "CHANNEL", ""},
		{on("channel show nosuch"), 1, "", `channel "nosuch": not found; tidemill-bridge channel list`},
		{on("channel tail nosuch"), 1, "", `channel "nosuch": not found; tidemill-bridge channel list`},
		{on("rule list"), 1, "", "no bridge runs over " + data},
		{on("object put schemas/x/pump.desc " + filepath.Join(full, "agent.toml")), 0, "", ""},
		{on("object put schemas/../pump.desc " + filepath.Join(full, "agent.toml")), 0, "", ""}, // of that very name
		{on("object put S/pump.desc " + filepath.Join(full, "agent.toml")), 1, "", `bucket "S"`},
		{on("object put schemas " + filepath.Join(full, "agent.toml")), 2, "", "no BUCKET/KEY"},
		{on("object put schemas/pump.desc /nowhere/x"), 1, "", "/nowhere/x"},
		{on("reload"), 0, "0 declarations are right; no bridge runs", ""},
	} {
		s.run(t)
	}
	if got, err := os.ReadFile(filepath.Join(data, "objects/schemas/x/pump.desc")); err != nil || string(got) != "old" {
		t.Errorf("the object: %q, %v", got, err)
	}
	list, _, err := runText(t, "cert", "list", "-thing", "pi-1", "-data", data)
	if err != nil || strings.Count(list, "ACTIVE  pi-1    tidemill-thing\n") != 2 {
		t.Fatalf("%v\n%s", err, list)
	}
	raw, err := os.ReadFile(filepath.Join(first, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(first, "agent.toml"))
	if err != nil || !strings.Contains(string(text), `endpoint = "bridge.example:8883"`) {
		t.Errorf("%v\n%s", err, text)
	}
	for _, name := range identityFiles {
		if info, err := os.Stat(filepath.Join(first, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	id := strings.Fields(strings.Split(list, "\n")[1])[0]
	for _, s := range []step{
		{on("policy attach p " + id), 0, "", ""},
		{on("policy attach p " + id), 0, "", ""},
		{on("policy attach nosuch " + id), 1, "", `policy "nosuch"`},
		{on("cert status " + id + " GONE"), 1, "", "want ACTIVE, INACTIVE or REVOKED"},
		{on("cert status " + id + " REVOKED"), 0, "", ""},
		{on("cert list"), 0, id + "  REVOKED  pi-1    p,tidemill-thing\n", ""},
		{on("policy delete p"), 1, "", "policy p: conflict: still attached: cert/" + id +
			"; tidemill-bridge policy detach NAME CERTIFICATE-ID"},
		{on("policy detach p " + id), 0, "", ""},
		{on("policy detach p " + id), 1, "", `policy "p" at cert/` + id +
			": not found; it is not attached there; tidemill-bridge cert show CERTIFICATE-ID"},
		{on("policy delete nosuch"), 1, "", `policy "nosuch": not found; tidemill-bridge policy show`},
		{on("cert status nosuch ACTIVE"), 1, "", `certificate "nosuch": not found; tidemill-bridge cert list`},
		{on("thing delete nosuch"), 1, "", `thing "nosuch": not found; tidemill-bridge thing list`},
		{on("stream tail nosuch"), 1, "", `no such stream: "nosuch"; tidemill-bridge stream list`},
		{on("cert delete " + id), 1, "",
			"still attached: policy tidemill-thing, thing pi-1; tidemill-bridge cert delete ID -force"},
	} {
		s.run(t)
	}
	// A broken declaration is named; the others are applied.
	rules := filepath.Join(data, "bridge.d", "rules")
	if err := os.WriteFile(filepath.Join(rules, "bad.json"), []byte(`{"sql":"SELECT x FRM","actions":[]}`),
		0o600); err != nil {
		t.Fatal(err)
	}
	step{on("reload"), 1, "", "rules/bad.json"}.run(t)
}

// A wrong -data must not make a bridge with a CA of its own.
func TestNoData(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	for _, args := range []string{"thing list", "cert list", "policy show", "stream list", "stream tail s", "rule list",
		"reload",
		"thing create pi-1 -out " + filepath.Join(dir, "pi-1")} {
		step{args + " -data " + data, 1, "", "no bridge's data directory"}.run(t)
	}
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", data, err)
	}
}

// What a command prints in the absence of a bridge is streamed: the answer
// may be larger than memory.
func TestInsideStreams(t *testing.T) {
	more := make(chan struct{})
	in := serveInside(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-more
		fmt.Fprint(w, "second")
	}))
	a := client{client: &http.Client{Transport: in.transport}}
	w := make(chunks)
	done := make(chan error, 1)
	go func() { done <- a.do(t.Context(), "GET", "/", nil, nil, w) }()
	for _, want := range []string{"first", "second"} {
		if got := <-w; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if want == "first" {
			close(more)
		}
	}
	if err := errors.Join(<-done, in.stop()); err != nil {
		t.Error(err)
	}
}

type chunks chan string

func (c chunks) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

// TestServe runs a bridge and its commands in one process.
func TestServe(t *testing.T) {
	dir := shortDir(t)
	conf := filepath.Join(dir, "bridge.toml")
	data := filepath.Join(dir, "data")
	text := fmt.Sprintf("data_dir = %q\n[mqtt]\nlisten = \"127.0.0.1:0\"\n[https]\nlisten = \"127.0.0.1:0\"\n"+
		"[admin]\nlisten = \"127.0.0.1:0\"\n",
		data)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := make(chunks, 1000)
	done := make(chan error, 1)
	go func() { done <- run(ctx, "test", []string{"serve", "-config", conf}, log, log) }()
	await := func(want string) {
		t.Helper()
		limit := time.After(30 * time.Second)
		for {
			select {
			case line := <-log:
				if strings.Contains(line, want) {
					return
				}
			case err := <-done:
				t.Fatalf("serve ended: %v", err)
			case <-limit:
				t.Fatalf("no %q in the log", want)
			}
		}
	}
	await("bridge is up")

	// A second bridge on the same data.
	step{"serve -config " + conf, 1, "", "data_dir: "}.run(t)
	rule := `{"sql":"SELECT * FROM 'dt/#'","awsIotSqlVersion":"2016-03-23","actions":[{"kinesis":{"streamName":"s","partitionKey":"k"}}]}`
	for name, doc := range map[string]string{"streams/s.json": `{"StreamName":"s"}`, "rules/all.json": rule} {
		if err := os.WriteFile(filepath.Join(data, "bridge.d", name), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	on := func(args string) string { return args + " -config " + conf }
	step{on("reload"), 0, "2 declarations are in force", ""}.run(t)
	step{on("rule list"), 0, "SELECT * FROM 'dt/#'", ""}.run(t)
	if err := os.WriteFile(filepath.Join(data, "bridge.d", "rules/all.json"), []byte(`{"sql":"SELECT"}`),
		0o600); err != nil {
		t.Fatal(err)
	}
	step{on("reload"), 1, "", "rules/all.json"}.run(t)
	step{on("rule list"), 0, "SELECT * FROM 'dt/#'", ""}.run(t) // the last good one stays
	step{on("rule list"), 0, "all   all.json  enabled, file error  0", ""}.run(t)
	step{on("rule list"), 0, "all.json is refused; what it declared before, if anything, stays: rule all: sql:",
		""}.run(t)
	broken := filepath.Join(data, "bridge.d", "rules/new.json")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	step{on("reload"), 1, "", "rule new: the document is empty"}.run(t)
	step{on("rule list"), 0, "new.json is refused; what it declared before, if anything, stays: rule new: the document is empty",
		""}.run(t)
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await("keep their last good version")
	docFile := filepath.Join(t.TempDir(), "own.json")
	if err := os.WriteFile(docFile, []byte(`{"Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"*"}}`),
		0o600); err != nil {
		t.Fatal(err)
	}
	step{on("user create carol -policy own=" + docFile), 0, "carol", ""}.run(t)
	step{on("user show carol"), 0, "policy own\n  {\n    \"Statement\": {\n", ""}.run(t)
	step{on("aws-env -ca " + filepath.Join(t.TempDir(), "ca.pem")), 0, "/ca.pem'\n", ""}.run(t)
	step{on("aws-env"), 0, "export AWS_ENDPOINT_URL='https://localhost:", ""}.run(t)
	step{on("aws-env"), 0, "export AWS_SHARED_CREDENTIALS_FILE='" + filepath.Join(data, "pki", "access-keys") + "'\n",
		""}.run(t)

	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	step{on("aws-env"), 1, "", "https.listen: port 0"}.run(t)
}

// shortDir is a temporary folder: the path of a socket has at most 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bridge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Interrupted, tail ends well; when the bridge stops or dies, it says so, and
// when an answer breaks off for another reason, it says that.
func TestTailEnds(t *testing.T) {
	dir := shortDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	stop, die, fail := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	var runs atomic.Bool
	bridge := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/info" {
			if !runs.Load() {
				panic(http.ErrAbortHandler)
			}
			return
		}
		fmt.Fprintln(w, "{}")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-stop:
		case <-die:
			panic(http.ErrAbortHandler)
		case <-fail:
			w.Header().Set(http.TrailerPrefix+admin.ErrorTrailer, "000012.sst is damaged")
		case <-r.Context().Done():
		}
	})}
	go func() { _ = bridge.Serve(l) }()
	defer bridge.Close()
	interrupted, interrupt := context.WithCancel(t.Context())
	for _, c := range []struct {
		name string
		runs bool // after the end of the answer
		ctx  context.Context
		args []string
		do   func()
		want string
	}{
		{"stopped", false, t.Context(), nil, func() { stop <- struct{}{} }, "the bridge has stopped"},
		{"died", false, t.Context(), nil, func() { die <- struct{}{} }, "the bridge has stopped"},
		{"complete", true, t.Context(), []string{"-follow=false"}, func() { stop <- struct{}{} }, "<nil>"},
		{"torn", false, t.Context(), []string{"-follow=false"}, func() { die <- struct{}{} }, "the bridge has stopped"},
		{"failed", true, t.Context(), nil, func() { fail <- struct{}{} }, "000012.sst is damaged"},
		{"failed, to the end", true, t.Context(), []string{"-follow=false"}, func() {
			fail <- struct{}{}
		}, "000012.sst is damaged"},
		{"ended", true, t.Context(), nil, func() {
			stop <- struct{}{}
		}, "the bridge runs, but ended its answer; its log may say why"},
		{"broke off", true, t.Context(), nil, func() {
			die <- struct{}{}
		}, "the bridge runs, but ended its answer; its log may say why"},
		{"interrupted", true, interrupted, nil, interrupt, "<nil>"},
	} {
		runs.Store(c.runs)
		out, done := make(chunks), make(chan error, 1)
		go func() {
			done <- run(c.ctx, "test", append([]string{"stream", "tail", "s", "-data", dir}, c.args...), out, out)
		}()
		if got := <-out; got != "{}\n" {
			t.Errorf("%s: printed %q", c.name, got)
		}
		c.do()
		if err := <-done; fmt.Sprint(err) != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
