package firehose

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose/transform"
)

// Metrics of a delivery stream, beside its Stats, count since the start of the
// process, in the terms of AWS's metrics for Firehose (developer guide, "Monitoring
// with CloudWatch metrics").
type Metrics struct {
	IncomingBytes int64 // of records, as they are first read for delivery

	Calls, CallsFailed int64         // of the function: ExecuteProcessing
	CallTime           time.Duration // they took
	Processed          Amount        // what a function made: SucceedProcessing

	Converted, NotConverted Amount // SucceedConversion, FailedConversion

	Backup                         Amount // BackupToS3
	BackupAttempts, BackupFailures int64  // to write its objects

	Behind time.Duration // how far the source is ahead: KinesisMillisBehindLatest
	Fed    bool          // there is a source, and it was read
}

// An Amount is records and their bytes.
type Amount struct{ Records, Bytes int64 }

func (a *Amount) add(records, bytes int64) { a.Records, a.Bytes = a.Records+records, a.Bytes+bytes }

// meters count for Metrics.
type meters struct {
	mu  sync.Mutex // guards now
	now Metrics

	counted atomic.Uint64 // records below this offset are in IncomingBytes
	feeding atomic.Pointer[taker]
}

func (m *meters) count(f func(*Metrics)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.now)
}

// came counts a record that the log has at an offset, once.
func (m *meters) came(offset uint64, bytes int) {
	if offset < m.counted.Load() {
		return
	}
	m.counted.Store(offset + 1)
	m.count(func(n *Metrics) { n.IncomingBytes += int64(bytes) })
}

// metrics are those of now.
func (m *meters) metrics() Metrics {
	m.mu.Lock()
	n := m.now
	m.mu.Unlock()
	if t := m.feeding.Load(); t != nil {
		n.Behind, n.Fed = t.behind(), true
	}
	return n
}

// Metrics returns those of each delivery stream.
func (s *Service) Metrics() map[string]Metrics {
	s.mu.Lock()
	all := maps.Clone(s.streams)
	s.mu.Unlock()
	now := make(map[string]Metrics, len(all))
	for name, d := range all {
		now[name] = d.meters.metrics()
	}
	return now
}

// A meteredInvoker counts calls of a function.
type meteredInvoker struct {
	transform.Invoker
	m *meters
}

// Invoke implements transform.Invoker.
func (i meteredInvoker) Invoke(ctx context.Context, function string, event []byte) ([]byte, string, error) {
	began := time.Now()
	answer, functionError, err := i.Invoker.Invoke(ctx, function, event)
	i.m.call(began, err == nil && functionError == "")
	return answer, functionError, err
}

func (m *meters) call(began time.Time, ok bool) {
	m.count(func(n *Metrics) {
		n.Calls++
		n.CallTime += time.Since(began)
		if !ok {
			n.CallsFailed++
		}
	})
}
