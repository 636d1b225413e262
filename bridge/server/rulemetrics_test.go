package server

import (
	"fmt"
	"strings"
	"testing"
)

// Metrics of rules are scraped with the bridge's own; one too many, and one that would
// take a name of the bridge's, is refused and runs the error action.
func TestRuleMetrics(t *testing.T) {
	cfg := configure(t)
	cfg.Metric.Max = 2
	put := func(namespace, name, unit, more string) string {
		return fmt.Sprintf(`{"cloudwatchMetric":{"metricNamespace":%q,"metricName":%q,"metricUnit":%q,`+
			`"metricValue":"${n}"%s}}`, namespace, name, unit, more)
	}
	declareFiles(t, cfg, map[string]string{
		"streams/a.json": `{"StreamName":"failures"}`,
		"rules/m.json": `{"sql":"SELECT n FROM 'dt/#'","awsIotSqlVersion":"2016-03-23","actions":[` +
			put("Plant/North", "pump delay", "Milliseconds", `,"metricTimestamp":"1700000000.5"`) + "," +
			put("go", "goroutines", "None", "") + "," + put("Plant/North", "${topic(3)}", "None", "") +
			`],"errorAction":{"kinesis":{"streamName":"failures","partitionKey":"k"}}}`,
	})
	b := start(t, cfg)
	c := b.connect(b.thing("dev", ""), "dev")
	scraped := func() string { _, text := b.do("GET", "/metrics", ""); return text }
	for i, kind := range []string{"temp", "temp", "humidity"} {
		c.publish("dt/dev/"+kind, fmt.Sprintf(`{"n":%d}`, i+1))
		b.eventually("a value", func() bool {
			return strings.Contains(scraped(), fmt.Sprintf("pump_delay_milliseconds_samples_total{%s} %d\n",
				`metric="pump delay",namespace="Plant/North",unit="Milliseconds"`, i+1))
		})
	}
	b.eventually("four failures", func() bool { return len(b.documents("failures")) == 4 })
	failed := strings.Join(b.documents("failures"), "\n")
	for _, want := range []string{"metric_action.max is 2", "go_goroutines is a name for metrics of the bridge",
		`"failedAction":"CloudwatchMetricAction"`} {
		if !strings.Contains(failed, want) {
			t.Errorf("no %s in %s", want, failed)
		}
	}
	text := scraped()
	for _, want := range []string{
		"# TYPE Plant_North_pump_delay_milliseconds gauge",
		`Plant_North_pump_delay_milliseconds{metric="pump delay",namespace="Plant/North",unit="Milliseconds"} 3`,
		`Plant_North_pump_delay_milliseconds_sum{metric="pump delay",namespace="Plant/North",unit="Milliseconds"} 6`,
		`Plant_North_pump_delay_milliseconds_timestamp_seconds{metric="pump delay",namespace="Plant/North",` +
			`unit="Milliseconds"} 1.7000000005e+09`,
		`Plant_North_temp{metric="temp",namespace="Plant/North",unit="None"} 2`,
		"tidemill_rule_metrics 2\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("a scrape has no %s", want)
		}
	}
	if strings.Contains(text, "humidity{") {
		t.Error("one too many is there")
	}
}

// Without an Alertmanager alarms keep their states, which are listed and scraped.
func TestAlarms(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"rules/a.json": `{"sql":"SELECT * FROM 'dt/#'",
	  "awsIotSqlVersion":"2016-03-23","actions":[{"cloudwatchAlarm":{"alarmName":"hot/${topic(2)}",
	  "stateValue":"${state}","stateReason":"because"}}]}`})
	b := start(t, cfg)
	c := b.connect(b.thing("dev", ""), "dev")
	for _, state := range []string{"ALARM", "OK"} {
		c.publish("dt/dev/x", `{"state":"`+state+`"}`)
		b.eventually(state, func() bool {
			_, text := b.do("GET", "/metrics", "")
			return strings.Contains(text, `tidemill_alarm_state{alarm="hot/dev",state="`+state+`"} 1`)
		})
	}
	if _, text := b.do("GET", "/v1/alarms", ""); !strings.Contains(text, `"name":"hot/dev","state":"OK"`) {
		t.Error(text)
	}
	for _, want := range []int{204, 404} {
		if code, text := b.do("DELETE", "/v1/alarms/hot%2Fdev", ""); code != want && (want == 404 || code/100 != 2) {
			t.Errorf("%d %s, want %d", code, text, want)
		}
	}
	if _, text := b.do("GET", "/v1/alarms", ""); text != "[]\n" {
		t.Error(text)
	}
}
