package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tidemill/tidemill/bridge/speed/alarm"
	"github.com/tidemill/tidemill/bridge/speed/metric"
)

// alarms shows the states of cloudwatchAlarm actions; nil: there are none.
func (x series) alarms(s *alarm.Service) {
	if s == nil {
		return
	}
	for _, a := range s.List() {
		x.gauge("alarm_state", "1 for the state that an alarm of cloudwatchAlarm actions is in.", 1, "alarm", a.Name,
			"state", a.State)
	}
	x.counter("alertmanager_failures", "Requests that Alertmanager did not take.", float64(s.Failures()))
}

// ofRules shows the metrics of cloudwatchMetric actions, under names of their own; nil:
// there are none. The labels are what the rule wrote, so no two have the same series.
func (x series) ofRules(r *metric.Registry) {
	if r == nil {
		return
	}
	names := []string{"namespace", "metric", "unit"}
	all := r.All()
	for i := range all {
		s := &all[i]
		send := func(suffix, help string, kind prometheus.ValueType, v float64) {
			x <- prometheus.MustNewConstMetric(prometheus.NewDesc(s.Exposed+suffix, help, names, nil), kind, v,
				s.Last.Namespace, s.Last.Name, s.Last.Unit)
		}
		send("", "The last value that a rule put.", prometheus.GaugeValue, s.Last.Value)
		send(metric.SamplesSuffix, "Values that rules put since the bridge started.", prometheus.CounterValue,
			float64(s.Count))
		send(metric.SumSuffix, "Sum of the values that rules put since the bridge started.",
			prometheus.UntypedValue, s.Sum)
		send(metric.TimeSuffix, "When the last value was.", prometheus.GaugeValue,
			float64(s.Last.Time.UnixMilli())/1000)
	}
	x.gauge("rule_metrics", "Metrics that cloudwatchMetric actions of rules have made, and that are not dropped.",
		float64(len(all)))
}
