package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/egress"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/action/send"
	"github.com/tidemill/tidemill/bridge/speed/alarm"
	"github.com/tidemill/tidemill/bridge/speed/metric"
	"github.com/tidemill/tidemill/bridge/speed/sink/alertmanager"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/postgres"
	"github.com/tidemill/tidemill/bridge/speed/sink/search"
	"github.com/tidemill/tidemill/bridge/speed/sink/sns"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// newSenders returns what does deliveries of rule actions.
func (a *assembly) newSenders() (*send.Set, error) {
	c := a.cfg
	o := send.Options{Places: map[string]awsapi.Place{}, Region: c.Region, Account: c.Account,
		Search: map[string]search.Authorize{}, Web: a.egress.Client(), HTTPTries: c.Web.Tries, Dial: a.egress.Dial}
	if a.functions != nil {
		o.Functions = a.caller
	}
	if !c.Elsewhere("s3") {
		o.Objects = a.objects
	}
	if !c.Elsewhere("cloudwatchMetric") {
		a.ruleMetrics = metric.New(metric.Options{Most: c.Metric.Max, Keep: time.Duration(c.Metric.Keep)})
		o.Metrics = a.ruleMetrics
	}
	if !c.Elsewhere("cloudwatchAlarm") {
		var err error
		if a.alarms, err = a.openAlarms(); err != nil {
			return nil, fmt.Errorf("alertmanager: %w", err)
		}
		o.Alarms = a.alarms
	}
	var err error
	if a.topics, err = a.openTopics(); err != nil {
		return nil, err
	}
	o.Topics, o.Publish = a.topics, a.republish
	for i, k := range c.Actions {
		o.Places[k.Kind], _ = a.place(k.Kind)
		if k.Account != "" {
			o.Machines = k.Account
		}
		switch k.Auth {
		case "none":
			o.Search[k.Kind] = search.Open
		case "basic":
			password, err := secretfile.Line(k.PasswordFile)
			if err != nil {
				return nil, fmt.Errorf("actions[%d].password_file: %w", i, err)
			}
			o.Search[k.Kind] = search.Basic(k.Username, password)
		}
	}
	if o.Postgres, err = openDatabase(c.Postgres); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return send.New(o), nil
}

// openTopics makes the topics of sns actions that are the bridge's own, and the outboxes
// of their subscribers.
func (a *assembly) openTopics() (*send.Topics, error) {
	c := catalog{a.store, a.firehose, a.cfg, a.queues, a.disk}
	topics := &send.Topics{Of: map[string][]send.Subscriber{}, Queue: c.Queue, Room: c.Room}
	for i, t := range a.cfg.Topics {
		for n, from := range t.All() {
			s := send.NewSubscriber(from.Protocol, from.Endpoint)
			s.Raw = from.Raw
			if s.Protocol == "sqs" {
				s.Endpoint = s.Endpoint[strings.LastIndexByte(s.Endpoint, ':')+1:]
			}
			if from.FilterPolicy != "" {
				var err error
				if s.Filter, err = sns.ParseFilter([]byte(from.FilterPolicy)); err != nil {
					return nil, fmt.Errorf("topics[%d], subscriber %d: filter_policy: %w", i, n, err)
				}
			}
			topics.Of[t.Name] = append(topics.Of[t.Name], s)
		}
	}
	for _, stream := range topics.Outboxes() {
		if err := a.outboxes.Ensure(stream); err != nil {
			return nil, err
		}
	}
	return topics, nil
}

// republish publishes a message as a rule's republish action does, durably when it
// returns.
func (a *assembly) republish(ctx context.Context, d *action.Delivery) error {
	b := a.store.NewBatch()
	done, err := a.router.Republish(ctx, b, d)
	if err == nil && b.Bytes() > 0 {
		err = a.store.Commit(ctx, b)
	}
	if done != nil {
		done(err)
	}
	return err
}

// openAlarms reads the alarms that rules have set. Alertmanager is the operator's: it is
// reached whatever [egress] says, and rules do not reach it by that.
func (a *assembly) openAlarms() (*alarm.Service, error) {
	c := a.cfg.Alertmanager
	o := alarm.Options{Most: c.MaxAlarms, Log: a.log.With("part", "alarms"),
		Labels: map[string]string{"account": a.cfg.Account, "region": a.cfg.Region}}
	if c.URL == "" {
		return alarm.Open(a.store, o)
	}
	only, err := egress.Only(c.URL)
	if err != nil {
		return nil, err
	}
	to := alertmanager.Options{URL: c.URL, Username: c.Username, HTTP: only.Client()}
	a.closes(func() error { to.HTTP.CloseIdleConnections(); return nil })
	if c.PasswordFile != "" {
		if to.Password, err = secretfile.Line(c.PasswordFile); err != nil {
			return nil, fmt.Errorf("password_file: %w", err)
		}
	}
	o.To = alertmanager.New(to)
	return alarm.Open(a.store, o)
}

// place is where the service is that actions of a kind call; ok says whether the
// configuration has it.
func (a *assembly) place(kind string) (p awsapi.Place, ok bool) {
	for _, k := range a.cfg.Actions {
		if k.Kind == kind {
			return awsapi.Place{Region: k.Region, EndpointURL: k.EndpointURL, Profile: k.Profile,
				RoleARN: k.RoleARN}, true
		}
	}
	return p, false
}

// asks returns what calls services and waits for their answers.
func (a *assembly) asks() *send.Asks {
	o := send.Options{Places: map[string]awsapi.Place{}, Region: a.cfg.Region, Account: a.cfg.Account}
	for _, kind := range []string{"dynamoDB", "lambda"} {
		o.Places[kind], _ = a.place(kind)
	}
	return send.NewAsks(o)
}

// openDatabase returns the database of rules, nil for none. Nothing is asked.
func openDatabase(c config.Postgres) (*postgres.Store, error) {
	if c.URL == "" {
		return nil, nil
	}
	conn, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, err
	}
	if c.PasswordFile != "" {
		if conn.Password, err = secretfile.Line(c.PasswordFile); err != nil {
			return nil, fmt.Errorf("password_file: %w", err)
		}
	}
	return postgres.Open(context.Background(), conn, c.Connections)
}
