package rules

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

// An outcomeKind is what a rule made of a message.
type outcomeKind uint8

const (
	notReached outcomeKind = iota // FROM did not match
	whereFalse
	ruleFired
	ruleFailed
	outcomeKinds
)

func (k outcomeKind) String() string {
	return [...]string{"from does not match", "where false", "fired", "failed"}[k]
}

// A replayKind is how two rules compare on a message; each message has one.
type replayKind uint8

const (
	fires    replayKind = iota
	stops               // firing
	changes             // what it makes
	fails               // where the other had not even fired
	recovers            // from failing, and does not fire
	sameOutput
	neitherFires
	kinds

	differences = sameOutput // the kinds before are differences
)

// differenceNames are those of a Difference.
var differenceNames = [differences]string{"newly fires", "no longer fires", "changed output", "newly fails",
	"no longer fails"}

// kindOf is the kind by the outcomes of the old and the new rule. Two
// documents have to be compared yet.
var kindOf = [outcomeKinds][outcomeKinds]replayKind{
	notReached: {neitherFires, neitherFires, fires, fails},
	whereFalse: {neitherFires, neitherFires, fires, fails},
	ruleFired:  {stops, stops, changes, stops},
	ruleFailed: {recovers, recovers, fires, neitherFires},
}

// A ReplayReport says how a new rule and an old one compare on the messages of
// the ingest log. Messages is the sum of what Differences count, Unchanged
// and Neither.
type ReplayReport struct {
	Rule    string `json:"rule"`
	SQL     string `json:"sql"`
	Against string `json:"against,omitempty"` // name of the old rule; "": there is none
	OldSQL  string `json:"old_sql,omitempty"`

	Partial bool      `json:"partial"`        // it was ended before all was read
	From    time.Time `json:"from,omitzero"`  // as asked for
	To      time.Time `json:"to,omitzero"`    // likewise
	First   time.Time `json:"first,omitzero"` // arrival of the oldest message that was compared
	Last    time.Time `json:"last,omitzero"`  // of the newest
	// From is before this, up to which retention has dropped messages
	RetainedSince time.Time `json:"retained_since,omitzero"`

	Shards     int           `json:"shards"`
	Records    uint64        `json:"records"`  // of the log to look at
	Read       uint64        `json:"read"`     // of those were looked at
	Messages   uint64        `json:"messages"` // of those arrived in the range, and were compared
	Lost       uint64        `json:"lost"`     // dropped by retention since the replay began
	Unreadable uint64        `json:"unreadable"`
	Elapsed    time.Duration `json:"elapsed_ns"`

	Old         ReplayCounts  `json:"old"`
	New         ReplayCounts  `json:"new"`
	Differences []Difference  `json:"differences"`   // one of each kind, whether there are some or not
	Unchanged   uint64        `json:"unchanged"`     // both fire and make the same document
	Neither     uint64        `json:"neither"`       // neither fires, nor does just one fail
	Topics      []ReplayTopic `json:"topics"`        // those with most differences
	TopicsInAll int           `json:"topics_in_all"` // that have differences; not all were counted if MoreTopics
	MoreTopics  bool          `json:"more_topics"`

	Notes []string `json:"notes"` // what a reader has to know besides
}

// ReplayCounts are those of one rule.
type ReplayCounts struct {
	Matched uint64 `json:"matched"` // messages whose topic FROM matched, or that came by Basic Ingest
	Fired   uint64 `json:"fired"`
	Errors  uint64 `json:"errors"` // evaluation failed
}

func (c *ReplayCounts) add(k outcomeKind) {
	c.Matched++
	switch k {
	case ruleFired:
		c.Fired++
	case ruleFailed:
		c.Errors++
	}
}

// A Difference is a way in which the rules differ on messages: "newly fires",
// "no longer fires" (it may fail instead), "changed output", "newly fails" and
// "no longer fails", the last two of messages on which neither fires.
type Difference struct {
	Kind     string          `json:"kind"`
	Count    uint64          `json:"count"`
	Examples []ReplayExample `json:"examples"` // by arrival, spread over all that there are
}

// A ReplayExample is a message on which the rules differ.
type ReplayExample struct {
	ID       string    `json:"id"`
	Position string    `json:"position"` // SHARD/OFFSET of the ingest log
	Time     time.Time `json:"time"`     // arrival
	Topic    string    `json:"topic"`
	ClientID string    `json:"client_id,omitempty"`
	Payload  *Excerpt  `json:"payload"`
	Old      ReplayEnd `json:"old"`
	New      ReplayEnd `json:"new"`
}

// A ReplayEnd is what a rule made of a message.
type ReplayEnd struct {
	Result   string   `json:"result"` // "from does not match", "where false", "fired" or "failed"
	Document *Excerpt `json:"document,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// An Excerpt is Data, of which only the first bytes are there if it is long.
type Excerpt struct {
	Data
	Of int `json:"of,omitempty"` // bytes of the whole; 0: this is the whole
}

// maxExcerpt is the most bytes of a payload or document in a report.
const maxExcerpt = 2 << 10

// excerpt copies b.
func excerpt(b []byte) *Excerpt {
	if len(b) > maxExcerpt {
		return &Excerpt{Data{Bytes: bytes.Clone(b[:maxExcerpt])}, len(b)}
	}
	return &Excerpt{Data: *newData(append([]byte{}, b...))}
}

// A ReplayTopic counts the differences on one topic.
type ReplayTopic struct {
	Topic       string            `json:"topic"`
	Count       uint64            `json:"count"`
	Differences map[string]uint64 `json:"differences"` // by kind
}

// mostTopics is how many topics a report names.
const mostTopics = 10

// A sample holds some of many, each as likely as the other: those of the
// lowest priority, which is a hash, so that it comes to the same in whatever
// order they are met. It is sorted by that.
type sample []sampled

type sampled struct {
	priority uint64
	shard    int
	offset   uint64
	ReplayExample
}

// priority hashes a position, as splitmix64 does.
func priority(shard int, offset uint64) uint64 {
	z := offset + uint64(shard+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (s sample) wants(p uint64, most int) bool {
	return len(s) < most || most > 0 && p < s[len(s)-1].priority
}

func (s *sample) put(x sampled, most int) {
	if !s.wants(x.priority, most) {
		return
	}
	at, _ := slices.BinarySearchFunc(*s, x.priority, func(have sampled, p uint64) int {
		return cmp.Compare(have.priority, p)
	})
	*s = slices.Insert(*s, at, x)
	*s = (*s)[:min(len(*s), most)]
}

// finish adds up what the jobs found.
func (x *replaying) finish(r *ReplayReport, jobs []*replayJob) {
	if x.Old != nil {
		r.Against, r.OldSQL = x.Old.Name, x.Old.Payload.SQL
	}
	r.Partial = len(x.spans) > 0
	r.Records, r.Read = x.of, x.read
	var counts [kinds]uint64
	var samples [differences]sample
	topics := map[string]*[differences]uint64{}
	for _, j := range jobs {
		r.Lost += j.lost
		r.Unreadable += j.unreadable
		if j.messages > 0 {
			first, last := time.UnixMilli(j.first), time.UnixMilli(j.last)
			if r.Messages == 0 || first.Before(r.First) {
				r.First = first
			}
			if last.After(r.Last) {
				r.Last = last
			}
		}
		r.Messages += j.messages
		r.Old.sum(&j.sides[sideOld])
		r.New.sum(&j.sides[sideNew])
		for k, n := range j.kinds {
			counts[k] += n
		}
		for k := range samples {
			for _, s := range j.samples[k] {
				samples[k].put(s, x.limit())
			}
		}
		r.MoreTopics = r.MoreTopics || j.moreTopics
		for name, n := range j.topics {
			if topics[name] == nil {
				topics[name] = new([differences]uint64)
			}
			for k := range n {
				topics[name][k] += n[k]
			}
		}
	}
	r.Unchanged, r.Neither = counts[sameOutput], counts[neitherFires]
	for k, name := range differenceNames {
		d := Difference{Kind: name, Count: counts[k], Examples: []ReplayExample{}}
		slices.SortFunc(samples[k], func(a, b sampled) int {
			return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.shard, b.shard), cmp.Compare(a.offset, b.offset))
		})
		for _, s := range samples[k] {
			d.Examples = append(d.Examples, s.ReplayExample)
		}
		r.Differences = append(r.Differences, d)
	}
	r.TopicsInAll, r.Topics = len(topics), topTopics(topics)
	r.Notes = x.notes()
}

func (c *ReplayCounts) sum(d *ReplayCounts) {
	c.Matched += d.Matched
	c.Fired += d.Fired
	c.Errors += d.Errors
}

// topTopics returns those with most differences.
func topTopics(topics map[string]*[differences]uint64) []ReplayTopic {
	all := []ReplayTopic{}
	for name, n := range topics {
		t := ReplayTopic{Topic: name, Differences: map[string]uint64{}}
		for k, count := range n {
			if count > 0 {
				t.Count += count
				t.Differences[differenceNames[k]] = count
			}
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b ReplayTopic) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Topic, b.Topic))
	})
	return all[:min(len(all), mostTopics)]
}

// sameActions says whether two rules do the same with their documents.
func sameActions(a, b *Rule) bool {
	text := func(r *Rule) []byte {
		b, err := json.Marshal([]any{r.Payload.Actions, r.Payload.ErrorAction})
		if err != nil {
			return nil // never: they were compiled
		}
		return b
	}
	return iotsql.SameDocument(text(a), text(b))
}
