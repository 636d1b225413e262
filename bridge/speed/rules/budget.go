package rules

import (
	"errors"
	"time"
)

// Bounds of the time that a worker waits for functions that reach outside, our
// choice. A worker evaluates one message after the other, so that whoever
// waits holds all of its partition. A rule may wait ruleBudget in slow calls,
// and from then on a tenth of the time; all rules of a worker together
// workerBudget, and then a quarter of the time, but for one slow call of each
// rule in slowFor. What is over that is Undefined at once, as of a call that failed.
// Quick calls are a matter of throughput and are not bounded.
const (
	slowCall     = 100 * time.Millisecond
	ruleBudget   = 5 * time.Second
	workerBudget = 10 * time.Second
	ruleShare    = 10 // the part of the time, 1/ruleShare
	workerShare  = 4
	slowFor      = 10 * time.Minute // a rule that has waited is held for a slow one
)

var errOverBudget = errors.New("rules: not called: the rule has waited too long for slow calls")

// A gate is a worker's iotsql.Gate.
type gate struct {
	rule  *Rule // that is being evaluated
	all   debt
	rules map[*Rule]debt // of those that have waited in the last slowFor
}

// A debt is time spent waiting, of which a share of the time passes away.
type debt struct {
	owed time.Duration
	at   time.Time // of the last slow call
}

func (d debt) left(now time.Time, share time.Duration) time.Duration {
	return max(0, d.owed-now.Sub(d.at)/share)
}

// Enter implements iotsql.Gate.
func (g *gate) Enter() error {
	if g.all == (debt{}) {
		return nil
	}
	now := time.Now()
	own := g.rules[g.rule]
	if own.left(now, ruleShare) >= ruleBudget || now.Sub(own.at) < slowFor &&
		g.all.left(now, workerShare) >= workerBudget {
		return errOverBudget
	}
	return nil
}

// Leave implements iotsql.Gate.
func (g *gate) Leave(took time.Duration) {
	if took < slowCall {
		return
	}
	now := time.Now()
	g.all = debt{g.all.left(now, workerShare) + took, now}
	if g.rules == nil {
		g.rules = map[*Rule]debt{}
	}
	for r, d := range g.rules { // those replaced since would stay for ever
		if now.Sub(d.at) >= slowFor {
			delete(g.rules, r)
		}
	}
	g.rules[g.rule] = debt{g.rules[g.rule].left(now, ruleShare) + took, now}
}
