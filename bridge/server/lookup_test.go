package server

import "testing"

// A rule asks this bridge's shadows and registry.
func TestRuleAsks(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/s.json": `{"StreamName":"out"}`, "rules/ask.json": payload(
		"SELECT get_thing_shadow(topic(2), 'r').state.reported.n AS n, get_registry_data('DescribeThing', "+
			"topic(2), 'r').version AS v FROM 'dt/#'",
		"out")})
	b := start(t, cfg)
	d := b.connect(b.thing("dev", ""), "dev")
	d.publish("$aws/things/dev/shadow/update", `{"state":{"reported":{"n":41}}}`)
	d.publish("dt/dev/x", `{}`)
	b.eventually("fired", func() bool { return len(b.documents("out")) == 1 })
	if got := b.documents("out")[0]; got != `{"n":41,"v":1}` {
		t.Error(got)
	}
}
