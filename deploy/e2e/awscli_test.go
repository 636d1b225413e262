package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestAWSCLI changes topic rules with AWS's command line, as an operator would
// type it, and sees by MQTT that each change is in force when the command
// returns. With -v it prints the transcript.
func TestAWSCLI(t *testing.T) {
	need(t, "aws", "awscli")
	rule := func(sql, to string) string {
		return fmt.Sprintf(`{"sql":%q,"awsIotSqlVersion":"2016-03-23","description":"by hand",`+
			`"actions":[{"republish":{"roleArn":"arn:aws:iam::000000000000:role/none","topic":"%s/${topic(2)}","qos":1}}]}`,
			sql, to)
	}
	f := newFleet(t, 0, "", map[string]string{"rules/witness.json": rule("SELECT n FROM 'dt/#'", "seen")})
	shell := &awsShell{f: f, service: "iot"}
	out, err := exec.Command("aws", "--version").CombinedOutput()
	f.must(err)
	t.Logf("%s", bytes.TrimSpace(out))

	operator := f.newOperator()
	hot, seen, device := f.subscriber(operator, "hot", "hot/#"), f.subscriber(operator, "seen", "seen/#"),
		f.subscriber(operator, "pi-1")
	n := 0
	// publish sends one more message, which rules have seen when it returns.
	publish := func() {
		t.Helper()
		n++
		device.publish("dt/pi-1", fmt.Sprintf(`{"n":%d}`, n))
		seen.wants(f, fmt.Sprintf(`seen/pi-1 {"n":%d}`, n))
	}

	shell.says(`"ruleName":"witness"`, "list-topic-rules")
	shell.says("", "create-topic-rule", "--rule-name", "hot", "--topic-rule-payload",
		rule("SELECT n AS a FROM 'dt/#' WHERE n > 0", "hot"))
	publish()
	hot.wants(f, `hot/pi-1 {"a":1}`)
	created := shell.rule("hot")
	if r := created.Rule; r.SQL != "SELECT n AS a FROM 'dt/#' WHERE n > 0" || r.RuleDisabled ||
		r.Description != "by hand" || len(r.Actions) != 1 || r.CreatedAt == nil {
		t.Errorf("get-topic-rule: %+v", r)
	}
	shell.says(`"ruleName":"hot"`, "list-topic-rules", "--topic", "dt/#")

	shell.fails("ResourceAlreadyExistsException", "create-topic-rule", "--rule-name", "hot", "--topic-rule-payload",
		rule("SELECT * FROM 'dt/#'", "hot"))
	shell.fails("witness.json", "create-topic-rule", "--rule-name", "witness", "--topic-rule-payload",
		rule("SELECT * FROM 'dt/#'", "hot"))
	shell.fails("SqlParseException", "create-topic-rule", "--rule-name", "wrong", "--topic-rule-payload",
		rule("SELECT n FRM 'dt/#'", "hot"))
	shell.fails("line 1, column 8", "replace-topic-rule", "--rule-name", "hot", "--topic-rule-payload",
		rule("SELECT nofunc(n) FROM 'dt/#'", "hot"))
	shell.fails("was denied", "get-topic-rule", "--rule-name", "wrong")
	shell.fails("witness.json", "delete-topic-rule", "--rule-name", "witness")
	shell.env = []string{"AWS_ACCESS_KEY_ID=" + shell.keyID(), "AWS_SECRET_ACCESS_KEY=wrong"}
	shell.fails("InvalidSignatureException", "list-topic-rules")
	shell.env = nil

	shell.says("", "disable-topic-rule", "--rule-name", "hot")
	if !shell.rule("hot").Rule.RuleDisabled {
		t.Error("a disabled rule is shown as enabled")
	}
	publish() // nothing comes of it: the next is the third
	shell.says("", "enable-topic-rule", "--rule-name", "hot")
	publish()
	hot.wants(f, `hot/pi-1 {"a":3}`)
	shell.says("", "replace-topic-rule", "--rule-name", "hot", "--topic-rule-payload",
		rule("SELECT n AS b FROM 'dt/#'", "hot"))
	publish()
	hot.wants(f, `hot/pi-1 {"b":4}`)

	t.Log("# kill -9, and start again")
	f.bridge.Kill()
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	hot, seen, device = f.subscriber(operator, "hot", "hot/#"), f.subscriber(operator, "seen", "seen/#"),
		f.subscriber(operator, "pi-1")
	if again := shell.rule("hot").Rule; again.SQL != "SELECT n AS b FROM 'dt/#'" ||
		fmt.Sprint(again.CreatedAt) != fmt.Sprint(created.Rule.CreatedAt) {
		t.Errorf("after the restart %+v", again)
	}
	publish()
	hot.wants(f, `hot/pi-1 {"b":5}`)

	shell.says("", "delete-topic-rule", "--rule-name", "hot")
	if all := shell.says("", "list-topic-rules"); strings.Contains(all, `"hot"`) {
		t.Errorf("deleted and listed: %s", all)
	}
	publish() // nothing comes of it: the next is the seventh
	shell.says("", "create-topic-rule", "--rule-name", "hot", "--topic-rule-payload",
		rule("SELECT n AS c FROM 'dt/#'", "hot"))
	publish()
	hot.wants(f, `hot/pi-1 {"c":7}`)
}

// subscriber connects with a client id of its own.
func (f *fleet) subscriber(i identity, id string, filters ...string) *client {
	f.t.Helper()
	i.id = id
	c := f.connect(i)
	c.subscribe(filters...)
	return c
}

// wants is given the very next message.
func (c *client) wants(f *fleet, want string) {
	c.t.Helper()
	c.next(f.ctx, want, func(m mqtt.Message) bool {
		if got := m.Topic() + " " + string(m.Payload()); got != want {
			c.t.Fatalf("got %s, want %s", got, want)
		}
		return true
	})
}

// An awsShell runs AWS's command line in the environment that aws-env prints.
type awsShell struct {
	f       *fleet
	service string   // "iot"
	env     []string // set after that

	known []string // what aws-env has a shell set; nil: not asked for yet
}

// run returns what `aws SERVICE ARGS` prints, its JSON on one line.
func (s *awsShell) run(args ...string) (string, error) {
	s.f.t.Helper()
	env := s.environment()
	all := append([]string{"--endpoint-url", env["AWS_ENDPOINT_URL"], "--output", "json", s.service}, args...)
	var out []byte
	var err error
	if f := forks(); f != nil {
		out, err = f.run(env, all...)
	} else {
		cmd := exec.CommandContext(s.f.ctx, "aws", all...)
		cmd.Env = os.Environ()
		for k, v := range env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		out, err = cmd.CombinedOutput()
	}
	var line bytes.Buffer
	if json.Compact(&line, out) != nil {
		line.Reset()
		line.Write(bytes.TrimSpace(out))
	}
	s.f.t.Logf("$ aws %s %s\n%s", s.service, strings.Join(args, " "), line.Bytes())
	return line.String(), err
}

// environment is what aws-env has a shell set, and s.env after that.
func (s *awsShell) environment() map[string]string {
	s.f.t.Helper()
	if s.known == nil {
		script, err := s.f.bridge.Command(s.f.ctx, "aws-env")
		s.f.must(err)
		cmd := exec.CommandContext(s.f.ctx, "sh", "-c", string(script)+"\nenv -0")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := cmd.Output()
		s.f.must(err)
		s.known = strings.Split(string(out), "\x00")
	}
	env := map[string]string{"AWS_PAGER": ""}
	for _, e := range slices.Concat(s.known, s.env) {
		if k, v, _ := strings.Cut(e, "="); strings.HasPrefix(k, "AWS_") {
			env[k] = v
		}
	}
	return env
}

// says runs a command that must succeed and print want.
func (s *awsShell) says(want string, args ...string) string {
	s.f.t.Helper()
	out, err := s.run(args...)
	if err != nil || !strings.Contains(out, want) {
		s.f.t.Fatalf("aws %s %s: %v, want %q in %s", s.service, args[0], err, want, out)
	}
	return out
}

// fails runs a command that must fail and say want.
func (s *awsShell) fails(want string, args ...string) {
	s.f.t.Helper()
	if out, err := s.run(args...); err == nil || !strings.Contains(out, want) {
		s.f.t.Errorf("aws %s %s: %v, want %q in %s", s.service, args[0], err, want, out)
	}
}

// An awsRule is GetTopicRule's answer.
type awsRule struct {
	RuleARN string
	Rule    struct {
		RuleName, SQL, Description string
		CreatedAt                  any
		Actions                    []any
		RuleDisabled               bool
	}
}

func (s *awsShell) rule(name string) (r awsRule) {
	s.f.t.Helper()
	s.f.must(json.Unmarshal([]byte(s.says(name, "get-topic-rule", "--rule-name", name)), &r))
	return r
}

// keyID is that of the bridge's own access key.
func (s *awsShell) keyID() string {
	s.f.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.f.bridge.Dir, "pki", "access-keys"))
	s.f.must(err)
	_, rest, _ := strings.Cut(string(text), "aws_access_key_id = ")
	id, _, _ := strings.Cut(rest, "\n")
	return id
}
