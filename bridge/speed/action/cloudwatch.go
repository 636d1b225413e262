package action

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// toAlarm is the cloudwatchAlarm action: it puts an alarm into a state. The
// document is not used.
var toAlarm = sentKind{
	name: "cloudwatchAlarm",
	members: []member{
		{name: "alarmName", required: true},
		{name: "stateReason", required: true, empty: true},
		{name: "stateValue", required: true},
	},
	resource: "alarmName",
	judge: func(d *Delivery) error {
		if err := d.judge("stateValue", isAlarmState); err != nil {
			return err
		}
		if n := utf8.RuneCountInString(d.Parameter("stateReason")); n > maxReason {
			return fmt.Errorf("stateReason: %d characters, want at most %d", n, maxReason)
		}
		return d.between("alarmName", 1, maxName)
	},
	stage: func(d *Delivery) error { d.Data = nil; return nil },
}

// Limits of SetAlarmState and PutMetricData (CloudWatch API reference).
const (
	maxName   = 255  // of an alarm, a metric, a namespace
	maxReason = 1023 // characters
	aheadBy   = 2 * time.Hour
)

var isAlarmState = oneOf("OK", "ALARM", "INSUFFICIENT_DATA")

// toMetric is the cloudwatchMetric action: it puts one value of a metric. The
// document is not used.
var toMetric = sentKind{
	name: "cloudwatchMetric",
	members: []member{
		{name: "metricName", required: true},
		{name: "metricNamespace", required: true},
		{name: "metricUnit", required: true},
		{name: "metricValue", required: true},
		{name: "metricTimestamp"},
	},
	resource: "metricName",
	judge:    judgeMetric,
	stage:    stageMetric,
}

// metricUnits are those of CloudWatch (MetricDatum); case counts.
var metricUnits = strings.Fields(`Seconds Microseconds Milliseconds Bytes Kilobytes Megabytes Gigabytes Terabytes
	Bits Kilobits Megabits Gigabits Terabits Percent Count Bytes/Second Kilobytes/Second Megabytes/Second
	Gigabytes/Second Terabytes/Second Bits/Second Kilobits/Second Megabits/Second Gigabits/Second Terabits/Second
	Count/Second None`)

// decimal is a number as JSON has it; strconv takes more.
var decimal = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func isMetricUnit(unit string) error {
	if slices.Contains(metricUnits, unit) {
		return nil
	}
	return fmt.Errorf("%.100q is no unit of CloudWatch; %s is one", unit, nearestUnit(unit))
}

// nearestUnit is the unit that was meant by one of other case or number, else None.
func nearestUnit(text string) string {
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s)+"/", "s/", "/") }
	for _, unit := range metricUnits {
		if plain(unit) == plain(text) {
			return unit
		}
	}
	return "None"
}

func isMetricValue(text string) error {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !decimal.MatchString(text) || math.Abs(v) > math.Exp2(360) {
		return fmt.Errorf("%.100q, want a number within ±2^360", text)
	}
	return nil
}

func isMetricTime(text string) error {
	if s, err := strconv.ParseFloat(text, 64); err != nil || !decimal.MatchString(text) || s < 0 {
		return fmt.Errorf("%.100q, want seconds since 1970, at most 2 hours ahead", text)
	}
	return nil
}

func judgeMetric(d *Delivery) error {
	if ns := d.Parameter("metricNamespace"); strings.HasPrefix(ns, ":") || strings.HasPrefix(ns, "AWS/") {
		return fmt.Errorf("metricNamespace: %.100q: CloudWatch keeps what begins so to itself", ns)
	}
	return errors.Join(d.judge("metricUnit", isMetricUnit), d.judge("metricValue", isMetricValue),
		d.judge("metricTimestamp", isMetricTime), d.between("metricNamespace", 1, maxName),
		d.between("metricName", 1, maxName))
}

func stageMetric(d *Delivery) error {
	d.Data = nil
	at := d.At()
	text := d.Parameter("metricTimestamp")
	if text == "" {
		d.set("metricTimestamp", strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', -1, 64))
		return nil
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil || s > float64(at.Add(aheadBy).Unix()) { // milliseconds end here
		return fmt.Errorf("metricTimestamp: %.100q, want seconds since 1970, at most 2 hours ahead", text)
	}
	return nil
}

// At is when the message that fired the rule arrived.
func (d *Delivery) At() time.Time {
	if d.Time == 0 {
		return time.Now()
	}
	return time.UnixMilli(d.Time)
}
