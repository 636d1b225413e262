package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// eventRows are those at strict stand-ins for services that have ended, and at a
// webhook of a topic of the bridge's own.
func eventRows(t *testing.T) []*row {
	forces, channels, hooks := &events{}, &channels{}, &notices{}
	rows := []*row{
		{name: "salesforce", got: forces.got,
			action: `{"salesforce":{"url":"https://ingestion-a.b.sfdcnow.com/streams/plant/readings/event","token":"` +
				forceToken + `"}}`},
		{name: "iotAnalytics", got: channels.got, action: `{"iotAnalytics":{"channelName":"raw"}}`},
		{name: "sns_webhook", got: hooks.got, action: `{"sns":{"targetArn":"arn:aws:sns:eu-local-1:000000000000:own"}}`},
	}
	for i, h := range []http.Handler{forces, channels, hooks} {
		m := &meter{}
		to := gated(t, h, m)
		rows[i].meter, rows[i].skip = m, whole
		rows[i].settings = []string{fmt.Sprintf("[[actions]]\nkind = \"salesforce\"\nendpoint_url = %q\n", to),
			place("iotAnalytics", to), fmt.Sprintf("[[topics]]\nname = \"own\"\nwebhooks = [\"%s/hook\"]\n", to)}[i]
	}
	return rows
}

// forceToken is as long as the action wants one.
var forceToken = strings.Repeat("t", 40)

// events stands for an input stream of Salesforce's IoT Cloud.
type events struct{ receiver }

// ServeHTTP implements http.Handler.
func (x *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/streams/plant/readings/event" ||
		!json.Valid(body) || r.Header.Get("Authorization") != "Bearer "+forceToken {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x.take(string(body))
}

// channels stands for IoT Analytics.
type channels struct{ receiver }

// ServeHTTP implements http.Handler.
func (x *channels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct {
		ChannelName string
		Messages    []struct {
			MessageID string
			Payload   []byte
		}
	}
	err := json.NewDecoder(r.Body).Decode(&q)
	if err != nil || r.URL.Path != "/messages/batch" || q.ChannelName != "raw" || len(q.Messages) != 1 ||
		q.Messages[0].MessageID == "" || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x.take(string(q.Messages[0].Payload))
	fmt.Fprint(w, `{"batchPutMessageErrorEntries":[]}`)
}

// notices are what a webhook of a topic gets.
type notices struct{ receiver }

// ServeHTTP implements http.Handler.
func (x *notices) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct{ Type, MessageID, Message string }
	err := json.NewDecoder(r.Body).Decode(&q)
	if err != nil || q.Type != "Notification" || q.MessageID == "" ||
		q.MessageID != r.Header.Get("X-Amz-Sns-Message-Id") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x.take(q.Message)
}

var alertName = regexp.MustCompile(`"alertname":"n(\d+)"`)

// alarmRow is at Debian's Alertmanager. An alarm that is raised twice is one, so that
// nothing can be there twice.
func alarmRow(t *testing.T) *row {
	url, m := counterpart.Alertmanager(t, ""), &meter{}
	return &row{name: "cloudwatchAlarm", once: true, meter: m, skip: whole,
		action:   `{"cloudwatchAlarm":{"alarmName":"n${id}","stateReason":"met","stateValue":"ALARM"}}`,
		settings: fmt.Sprintf("[alertmanager]\nurl = %q\n", newWebGate(t, url, &lane{meter: m})),
		got: func() (all []int) {
			resp, err := http.Get(url + "/api/v2/alerts")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range alertName.FindAllStringSubmatch(string(text), -1) {
				n, _ := strconv.Atoi(found[1])
				all = append(all, n)
			}
			return all
		}}
}
