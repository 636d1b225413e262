package send

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/alarm"
	"github.com/tidemill/tidemill/bridge/speed/metric"
	"github.com/tidemill/tidemill/bridge/speed/sink/cloudwatch"
	"github.com/tidemill/tidemill/bridge/speed/sink/logs"
)

// maxMetricBytes keeps a PutMetricData of names and values below its 1 MB.
const maxMetricBytes = 512 << 10

func addCloudWatch(o *Options, add adding) {
	add("cloudwatchMetric", cloudwatch.MaxData, maxMetricBytes, metrics(o))
	add("cloudwatchAlarm", 16, maxMetricBytes, inOrder(setAlarm(o)))
	groups := newClients(o, "cloudwatchLogs", logs.New)
	add("cloudwatchLogs", 1000, logs.MaxBytes, func(ctx context.Context, ds deliveries) []error {
		return runs(ds, param("logGroupName"), 1000, logs.MaxBytes, func(run deliveries) []error {
			c, err := groups.in(ctx, "")
			if err != nil {
				return each(len(run), err)
			}
			put := func(run deliveries) []error { return putLogs(ctx, c, run) }
			if run[0].Parameter("batchMode") == "true" { // events that were taken would double
				return put(run)
			}
			return apart(run, put)
		})
	})
}

// setAlarm sets the bridge's own alarms, or CloudWatch's.
func setAlarm(o *Options) func(ctx context.Context, d *action.Delivery) error {
	if o.Alarms != nil {
		return func(ctx context.Context, d *action.Delivery) error {
			return o.Alarms.Set(ctx, alarm.Alarm{Name: d.Parameter("alarmName"), State: d.Parameter("stateValue"),
				Reason: d.Parameter("stateReason"), Rule: d.Rule, Since: d.At()})
		}
	}
	clients := newClients(o, "cloudwatchAlarm", cloudwatch.New)
	return func(ctx context.Context, d *action.Delivery) error {
		c, err := clients.in(ctx, "")
		if err != nil {
			return err
		}
		return c.SetAlarm(ctx, d.Parameter("alarmName"), d.Parameter("stateValue"), d.Parameter("stateReason"))
	}
}

// metrics puts values into the bridge's own metrics, or into CloudWatch's.
func metrics(o *Options) do {
	if o.Metrics != nil {
		return inOrder(func(_ context.Context, d *action.Delivery) error {
			x, err := datum(d)
			if err == nil {
				err = o.Metrics.Put(metric.Sample{Namespace: d.Parameter("metricNamespace"), Name: x.Name, Unit: x.Unit,
					Value: x.Value, Time: x.Time})
			}
			return action.Permanent(err)
		})
	}
	clients := newClients(o, "cloudwatchMetric", cloudwatch.New)
	return func(ctx context.Context, ds deliveries) []error {
		return runs(ds, param("metricNamespace"), cloudwatch.MaxData, maxMetricBytes, func(run deliveries) []error {
			c, err := clients.in(ctx, "")
			if err != nil {
				return each(len(run), err)
			}
			return apart(run, func(run deliveries) []error {
				data := make([]cloudwatch.Datum, len(run))
				for i, d := range run {
					if data[i], err = datum(d); err != nil {
						return each(len(run), action.Permanent(err))
					}
				}
				return each(len(run), c.Put(ctx, run[0].Parameter("metricNamespace"), data))
			})
		})
	}
}

func datum(d *action.Delivery) (x cloudwatch.Datum, err error) {
	x = cloudwatch.Datum{Name: d.Parameter("metricName"), Unit: d.Parameter("metricUnit")}
	if x.Value, err = strconv.ParseFloat(d.Parameter("metricValue"), 64); err != nil {
		return x, err
	}
	s, err := strconv.ParseFloat(d.Parameter("metricTimestamp"), 64)
	x.Time = time.UnixMilli(int64(s * 1000))
	return x, err
}

// A line is an event of a delivery.
type line struct {
	logs.Event
	of int // the delivery's index
}

// putLogs writes the events of deliveries to one group, by time, into the stream
// of their rule, in as few requests as go. An event that is refused for its time
// fails its delivery.
func putLogs(ctx context.Context, c *logs.Client, run deliveries) []error {
	var lines []line
	errs := make([]error, len(run))
	for i, d := range run {
		if d.Parameter("batchMode") != "true" {
			at, err := strconv.ParseInt(d.Parameter("timestamp"), 10, 64)
			if err != nil {
				errs[i] = action.Permanent(fmt.Errorf("timestamp: %w", err))
				continue
			}
			lines = append(lines, line{logs.Event{Time: at, Message: string(d.Data)}, i})
			continue
		}
		events, err := action.LogEvents(d.Data)
		errs[i] = action.Permanent(err)
		for _, e := range events {
			lines = append(lines, line{logs.Event{Time: *e.Timestamp, Message: *e.Message}, i})
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.Time, b.Time) })
	for len(lines) > 0 {
		n := together(lines)
		events := make([]logs.Event, n)
		for i := range events {
			events[i] = lines[i].Event
		}
		for i, err := range c.Put(ctx, run[0].Parameter("logGroupName"), run[0].Rule, events) {
			if of := lines[i].of; err != nil && errs[of] == nil {
				errs[of] = err
			}
		}
		lines = lines[n:]
	}
	return errs
}

// together is how many lines go in one request.
func together(lines []line) int {
	size := 0
	for i, l := range lines {
		size += len(l.Message) + logs.Overhead
		if i > 0 && (i >= logs.MaxEvents || size > logs.MaxBytes || l.Time-lines[0].Time > logs.Span) {
			return i
		}
	}
	return len(lines)
}
