package server

import "testing"

// A republished message has the headers of its action: rules that it reaches
// read them.
func TestRepublishSetsHeaders(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{
		"streams/a.json": aStream,
		"rules/out.json": `{"sql":"SELECT * FROM 'dt/#'","awsIotSqlVersion":"2016-03-23","actions":[{"republish":{"topic":"out/x","qos":1,"headers":{
		  "payloadFormatIndicator":"UTF8_DATA","contentType":"${ct}","responseTopic":"r/${topic(2)}","correlationData":"AQI=","messageExpiry":"600",
		  "userProperties":[{"key":"site","value":"plant"},{"key":"site","value":"${topic(2)}"}]}}}]}`,
		"rules/in.json": `{"sql":"SELECT get_mqtt_property('content_type') AS c, get_mqtt_property('format_indicator') AS f, get_mqtt_property('response_topic') AS r, get_mqtt_property('correlation_data') AS d, get_user_properties('site') AS u FROM 'out/#'",
		  "awsIotSqlVersion":"2016-03-23","actions":[{"kinesis":{"streamName":"readings","partitionKey":"k"}}]}`,
	})
	b := start(t, cfg)
	d := b.connect(b.thing("dev", ""), "dev")
	d.publish("dt/dev/x", `{"ct":"application/json"}`)
	b.eventually("the second rule has the message", func() bool { return len(b.documents("readings")) > 0 })
	const want = `{"c":"application/json","f":"UTF8_DATA","r":"r/dev","d":"AQI=","u":["plant","dev"]}`
	if got := b.documents("readings"); len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %s", got, want)
	}
}
