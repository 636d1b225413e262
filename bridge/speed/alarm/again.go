package alarm

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink/alertmanager"
)

// Run sends what is in ALARM at once, and again each minute, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	if s.opts.To == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for failing := false; ; {
		err := s.again(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			s.opts.Log.Warn("alarms cannot be sent again; their alerts may end until they can", "err", err)
		case err == nil && failing:
			s.opts.Log.Info("alarms are sent again")
		}
		failing = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// again sends what is in ALARM. A part that fails does not hold the others.
func (s *Service) again(ctx context.Context) (failed error) {
	for chunk := range slices.Chunk(s.raised(), together) {
		if err := s.chunk(ctx, chunk); err != nil {
			failed = err
		}
	}
	return failed
}

func (s *Service) raised() (names []string) {
	for _, a := range s.List() {
		if a.State == raised {
			names = append(names, a.Name)
		}
	}
	return names
}

func (s *Service) chunk(ctx context.Context, names []string) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	var alerts []alertmanager.Alert
	for _, name := range names {
		if a, known := s.get(name); known && a.State == raised { // still
			alerts = append(alerts, s.alert(a, a.Since))
		}
	}
	if len(alerts) == 0 {
		return nil
	}
	return s.post(ctx, alerts)
}

// alert is an alarm in Alertmanager's terms; it began when it was raised. Labels are
// those of the alarm alone: by them its end finds it, whichever rule it comes from.
func (s *Service) alert(a Alarm, begun time.Time) alertmanager.Alert {
	labels := maps.Clone(s.opts.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels["alertname"] = a.Name
	x := alertmanager.Alert{Labels: labels, StartsAt: begun.UTC(),
		Annotations: map[string]string{"description": a.Reason, "state": a.State, "rule": a.Rule}}
	if a.State != raised {
		x.EndsAt = a.Since.UTC()
		if x.EndsAt.Before(x.StartsAt) { // a clock was set back; Alertmanager refuses it
			x.EndsAt = x.StartsAt
		}
	}
	return x
}

func (s *Service) post(ctx context.Context, alerts []alertmanager.Alert) error {
	if s.opts.To == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.opts.To.Post(ctx, alerts)
	if err != nil {
		s.failures.Add(1)
	}
	return err
}
