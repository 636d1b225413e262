package server

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/agent/secretfile"
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
	o.Topics, o.Publish = map[string]send.Topic{}, a.republish
	for _, t := range c.Topics {
		o.Topics[t.Name] = send.Topic{Webhooks: t.Webhooks, MQTT: t.MQTT}
	}
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
	var err error
	if o.Postgres, err = openDatabase(c.Postgres); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return send.New(o), nil
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
