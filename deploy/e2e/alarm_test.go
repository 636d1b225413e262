package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	until "github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/deploy/counterpart"
	"github.com/tidemill/tidemill/deploy/rig"
)

// TestAlarmSurvivesKill raises an alarm at Debian's Alertmanager, kills both that and
// the bridge, and wants it raised again and then resolved. Debian's Prometheus scrapes
// what a cloudwatchMetric action of the bridge wrote.
func TestAlarmSurvivesKill(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto-clients")
	need(t, "stdbuf", "coreutils")
	counterpart.Program(t, "prometheus-alertmanager", "prometheus-alertmanager") // not while the outbox waits for it
	counterpart.Program(t, "prometheus", "prometheus")
	addr, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	f := newBridge(t, "[alertmanager]\nurl = \"http://"+addr+"\"\n", map[string]string{
		"rules/alarm.json": `{"sql":"SELECT * FROM 'dt/+/climate'","awsIotSqlVersion":"2016-03-23","actions":[
		  {"cloudwatchAlarm":{"alarmName":"hot ${topic(2)}","stateValue":"${state}","stateReason":"${n} °C"}},
		  {"cloudwatchMetric":{"metricNamespace":"plant","metricName":"temp","metricUnit":"None","metricValue":"${n}"}}]}`})
	device := f.thing("pi-1")
	raised := func(want int) {
		t.Helper()
		until.True(t, "alerts", func() bool { all, there := alerts(t, addr); return there && len(all) == want })
	}
	f.publish(device, "dt/pi-1/climate", `{"state":"ALARM","n":81}`) // Alertmanager is not there yet
	t.Run("raised", func(t *testing.T) {
		counterpart.Alertmanager(t, addr)
		raised(1)
		all, _ := alerts(t, addr)
		if a := all[0]; a.Labels["alertname"] != "hot pi-1" || a.Annotations["description"] != "81 °C" ||
			a.Labels["region"] == "" {
			t.Errorf("%+v", a)
		}
		prometheus := counterpart.Prometheus(t, f.bridge.Admin)
		until.True(t, "a scrape", func() bool {
			return strings.Contains(get(t, prometheus+"/api/v1/query?query="+
				url.QueryEscape(`plant_temp{namespace="plant",unit="None"}`)), `"81"`)
		})
		f.bridge.Kill()
	}) // Alertmanager ends, and with it the alert
	counterpart.Alertmanager(t, addr)
	raised(0)
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	raised(1)
	f.publish(device, "dt/pi-1/climate", `{"state":"OK","n":20}`)
	raised(0)
}

type alert struct{ Labels, Annotations map[string]string }

// alerts are those that Alertmanager has as active.
func alerts(t *testing.T, addr string) (all []alert, there bool) {
	t.Helper()
	text := get(t, "http://"+addr+"/api/v2/alerts?active=true")
	there = json.Unmarshal([]byte(text), &all) == nil
	return all, there
}

// get returns what a URL answers, "" for nothing.
func get(t *testing.T, of string) string {
	t.Helper()
	resp, err := http.Get(of)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}
