// Package queue is durable queues with the promises of Amazon SQS: a message that
// was sent is kept until it is deleted or its retention ends, one that was received
// comes again unless it is deleted in time, and a FIFO queue keeps the order within
// a group and takes a message once.
//
// A queue is a stream of the log: a message is a record, and what a rule sends is
// committed with the rule's own position. Beside it is one key: how far consumers
// have come, and which messages before that are not deleted. FORMAT.md has both.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Limits of SQS (SQS developer guide, quotas).
const (
	MaxMessage  = 1 << 20 // bytes, attributes too
	MaxReceive  = 10      // messages that one Receive returns
	maxInFlight = 20_000  // received and neither deleted nor visible again; of a FIFO queue those before it too
	maxQueues   = 1000    // ours: each costs memory
	maxDedups   = 1 << 20 // ours: messages that a FIFO queue took in five minutes
	dedupWindow = 5 * time.Minute
)

// Errors, by the names that SQS has for them.
var (
	ErrNotFound = errors.New("QueueDoesNotExist")
	ErrExists   = errors.New("QueueNameExists")
	ErrHandle   = errors.New("ReceiptHandleIsInvalid")
	ErrInFlight = errors.New("OverLimit")
	ErrInvalid  = errors.New("InvalidParameterValue")
)

// A Log is what queues need of the bridge's log.
type Log interface {
	streams.Writer
	streams.Reader
	streams.Keys
	Trim(stream string, shard int, before uint64) error
	Create(name string, c streams.Config) error
	Update(name string, retention time.Duration, maxBytes int64) error
	SetAttributes(name string, attributes []byte) error
	Delete(name string) error
	Describe(name string) (streams.Info, error)
	List() []streams.Info
}

// prefix begins the names of queues' streams.
const prefix = "$queue/"

// StreamName is the stream of a queue.
func StreamName(queue string) string { return prefix + queue }

// A Config is what a queue does with messages; times are whole seconds. The members
// are SQS's attributes.
type Config struct {
	VisibilityTimeout time.Duration // 0 s to 12 h: until a message that was received comes again
	Retention         time.Duration // MessageRetentionPeriod, 60 s to 14 d
	Delay             time.Duration // DelaySeconds, 0 s to 15 min: until a message can be received
	Wait              time.Duration // ReceiveMessageWaitTimeSeconds, 0 s to 20 s
	MaxMessage        int           // MaximumMessageSize, 1 KiB to 1 MiB
	DeadLetter        string        // of RedrivePolicy: the queue that messages go to; "": none
	MaxReceives       int           // of RedrivePolicy: how often a message is received before
	ContentDedup      bool          // ContentBasedDeduplication of FIFO queues
}

// Default is a queue's if nobody says (SQS API, CreateQueue).
func Default() Config {
	return Config{VisibilityTimeout: 30 * time.Second, Retention: 4 * 24 * time.Hour, MaxMessage: MaxMessage}
}

// nameForm is a queue's name: 80 characters with the .fifo that names a FIFO queue.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,80}$|^[a-zA-Z0-9_-]{1,75}\.fifo$`)

// checkName says whether a queue can have a name.
func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%w: queue name %.100q, want 1 to 80 of a-z A-Z 0-9 - _, .fifo at the end for FIFO",
			ErrInvalid, name)
	}
	return nil
}

// FIFO says whether a queue of that name keeps order.
func FIFO(name string) bool { return strings.HasSuffix(name, ".fifo") }

// A Service has the queues of a log. Several goroutines may use it.
type Service struct {
	log  Log
	now  func() time.Time
	warn *slog.Logger

	mu     sync.Mutex // guards queues, and is held while one is made or deleted
	queues map[string]*Queue
}

// Open returns the queues that are in the log; warn is told of damage.
func Open(log Log, now func() time.Time, warn *slog.Logger) (*Service, error) {
	s := &Service{log: log, now: now, warn: warn, queues: map[string]*Queue{}}
	var errs []error
	for _, info := range log.List() {
		name, ok := strings.CutPrefix(info.Name, prefix)
		if !ok {
			continue
		}
		q, err := s.open(name, info)
		if err != nil {
			errs = append(errs, fmt.Errorf("queue %s: %w", name, err))
			continue
		}
		s.queues[name] = q
	}
	return s, errors.Join(errs...)
}

// Create makes a queue, or returns the one of that name if it is the same.
func (s *Service) Create(name string, c Config) (*Queue, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := c.check(name); err != nil {
		return nil, err
	}
	attributes, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[name]; q != nil {
		if q.Config() != c {
			return nil, fmt.Errorf("%w: queue %s is there with other attributes", ErrExists, name)
		}
		return q, nil
	}
	if len(s.queues) >= maxQueues {
		return nil, fmt.Errorf("%w: %d queues are there, and no more are taken", ErrInFlight, maxQueues)
	}
	if err := s.log.Create(StreamName(name), streams.Config{Shards: 1, Retention: c.Retention,
		Attributes: attributes}); err != nil {
		return nil, err
	}
	info, err := s.log.Describe(StreamName(name))
	if err != nil {
		return nil, err
	}
	q, err := s.open(name, info)
	if err == nil {
		s.queues[name] = q
	}
	return q, err
}

// Delete removes a queue and its messages.
func (s *Service) Delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return ErrNotFound
	}
	if err := s.log.Delete(q.stream); err != nil {
		return err
	}
	delete(s.queues, name)
	b := s.log.NewBatch()
	if err := s.log.Scan(q.key, func(key, _ []byte) bool { b.Unset(key); return true }); err != nil {
		return err
	}
	return s.log.Commit(context.Background(), b) // of some bytes, which nothing reads any more
}

// Get returns a queue.
func (s *Service) Get(name string) (*Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.queues[name]; q != nil {
		return q, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
}

// List returns the names of queues that begin with a text, sorted.
func (s *Service) List(begin string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.queues)), func(name string) bool {
		return !strings.HasPrefix(name, begin)
	})
}

// Configure has change make another configuration of a queue's.
func (s *Service) Configure(name string, change func(*Config) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return ErrNotFound
	}
	c := q.Config()
	if err := change(&c); err != nil {
		return err
	}
	if err := c.check(name); err != nil {
		return err
	}
	attributes, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := s.log.Update(q.stream, c.Retention, 0); err != nil {
		return err
	}
	if err := s.log.SetAttributes(q.stream, attributes); err != nil {
		return err
	}
	q.config.Store(&c)
	return nil
}

// check applies SQS's bounds.
func (c *Config) check(name string) error {
	for _, b := range []struct {
		name        string
		value       time.Duration
		least, most time.Duration
	}{
		{"VisibilityTimeout", c.VisibilityTimeout, 0, 12 * time.Hour},
		{"MessageRetentionPeriod", c.Retention, time.Minute, 14 * 24 * time.Hour},
		{"DelaySeconds", c.Delay, 0, 15 * time.Minute},
		{"ReceiveMessageWaitTimeSeconds", c.Wait, 0, 20 * time.Second},
	} {
		if b.value < b.least || b.value > b.most {
			return fmt.Errorf("%w: %s: %v, want %v to %v", ErrInvalid, b.name, b.value, b.least, b.most)
		}
	}
	switch {
	case c.MaxMessage < 1024 || c.MaxMessage > MaxMessage:
		return fmt.Errorf("%w: MaximumMessageSize: %d, want 1024 to %d", ErrInvalid, c.MaxMessage, MaxMessage)
	case c.ContentDedup && !FIFO(name):
		return fmt.Errorf("%w: ContentBasedDeduplication is for FIFO queues", ErrInvalid)
	case c.DeadLetter != "" && (c.MaxReceives < 1 || c.MaxReceives > 1000):
		return fmt.Errorf("%w: maxReceiveCount: %d, want 1 to 1000", ErrInvalid, c.MaxReceives)
	case c.DeadLetter == name:
		return fmt.Errorf("%w: a queue is not its own dead-letter queue", ErrInvalid)
	case c.DeadLetter != "" && FIFO(c.DeadLetter) != FIFO(name):
		return fmt.Errorf("%w: the dead-letter queue of a FIFO queue is one, and of another none", ErrInvalid)
	}
	return nil
}
