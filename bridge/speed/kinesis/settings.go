package kinesis

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// The hours of a retention period.
const (
	minHours = 24
	maxHours = 8760
)

// IncreaseStreamRetentionPeriod keeps records for longer, up to a year.
func (a API) IncreaseStreamRetentionPeriod(ctx context.Context, in *IncreaseStreamRetentionPeriodInput) error {
	return a.retain(in.StreamRef, *in.RetentionPeriodHours, "shorter", "DecreaseRetentionPeriod")
}

// DecreaseStreamRetentionPeriod keeps records for less long, 24 hours at
// least; those that are older than that can't be read from now on.
func (a API) DecreaseStreamRetentionPeriod(ctx context.Context, in *DecreaseStreamRetentionPeriodInput) error {
	return a.retain(in.StreamRef, *in.RetentionPeriodHours, "longer", "IncreaseRetentionPeriod")
}

func (a API) retain(ref StreamRef, want int32, never, other string) error {
	if err := a.rate("RetentionPeriod", 5); err != nil {
		return err
	}
	return a.change(ref, func(st *stream) error {
		if err := a.requireActive(st); err != nil {
			return err
		}
		have := hours(st.Retention)
		switch {
		case want < minHours:
			return errorf(InvalidArgument,
				"Minimum allowed retention period is %d hours. Requested retention period (%d hours) is too short.",
				minHours, want)
		case want > maxHours:
			return errorf(InvalidArgument,
				"Maximum allowed retention period is %d hours. Requested retention period (%d hours) is too long.",
				maxHours, want)
		case never == "shorter" && want < have, never == "longer" && want > have:
			return errorf(InvalidArgument,
				"Requested retention period (%d hours) for stream %s can not be %s than existing retention "+
					"period (%d hours). Use %s API.",
				want, st.Name, never, have, other)
		}
		if want == have && st.Retention != 0 {
			return nil
		}
		if err := a.s.store.Update(st.Name, time.Duration(want)*time.Hour, st.MaxBytes); err != nil {
			return err
		}
		a.s.update(st)
		return nil
	})
}

const modesPerDay = 2

// UpdateStreamMode changes between provisioned and on-demand, twice in 24
// hours. The stream keeps its shards, and gets more where a warm throughput
// asks for them.
func (a API) UpdateStreamMode(ctx context.Context, in *UpdateStreamModeInput) error {
	if err := a.rate("UpdateStreamMode", 5); err != nil {
		return err
	}
	mode := *in.StreamModeDetails.StreamMode
	var warm int32
	if in.WarmThroughputMiBps != nil {
		if mode != onDemand {
			return errorf(Validation, "WarmThroughputMiBps can only be given for a stream in On-Demand mode.")
		}
		if warm = *in.WarmThroughputMiBps; warm < 0 {
			return errorf(InvalidArgument, "WarmThroughputMiBps must not be negative.")
		}
	}
	a.s.quota.Lock()
	defer a.s.quota.Unlock()
	return a.change(refer(in.StreamARN), func(st *stream) error {
		if err := a.requireActive(st); err != nil {
			return err
		}
		at, now := st.copy(), a.s.now()
		if *st.mode().StreamMode != mode {
			if at.Moded = recent(at.Moded, now); len(at.Moded) >= modesPerDay {
				return errorf(LimitExceeded,
					"The mode of stream %s under account %s was changed %d times within 24 hours, which is the limit.",
					st.Name, a.s.opts.Account, len(at.Moded))
			}
			at.Moded = append(at.Moded, now.UnixMilli())
		}
		at.Mode, at.Warm = strings.TrimPrefix(mode, provisioned), warm
		at.Auto = at.Auto && at.Mode == onDemand
		var changes []streams.Change
		if int(warm) > len(a.s.open(st.Name)) {
			var err error
			if changes, err = a.plan(st, int(warm)); err != nil {
				return err
			}
		}
		return a.reshardAs(st, at, changes...)
	})
}

// shardMetrics are what ALL stands for.
var shardMetrics = []string{"IncomingBytes", "IncomingRecords", "IteratorAgeMilliseconds", "OutgoingBytes",
	"OutgoingRecords",
	"ReadProvisionedThroughputExceeded", "WriteProvisionedThroughputExceeded"}

// EnableEnhancedMonitoring notes which metrics of shards are wanted. It is kept
// and answered; the bridge's own metrics have them in any case.
func (a API) EnableEnhancedMonitoring(ctx context.Context,
	in *EnableEnhancedMonitoringInput) (*EnhancedMonitoringOutput, error) {
	return a.monitor(in.StreamRef, in.ShardLevelMetrics, func(m string, asked, had bool) bool { return asked || had })
}

// DisableEnhancedMonitoring notes which are wanted no longer.
func (a API) DisableEnhancedMonitoring(ctx context.Context,
	in *DisableEnhancedMonitoringInput) (*EnhancedMonitoringOutput, error) {
	return a.monitor(in.StreamRef, in.ShardLevelMetrics, func(m string, asked, had bool) bool { return had && !asked })
}

func (a API) monitor(ref StreamRef, names []string,
	keep func(m string, asked, had bool) bool) (out *EnhancedMonitoringOutput, err error) {
	if err := a.rate("EnhancedMonitoring", 5); err != nil {
		return nil, err
	}
	err = a.edit(ref, func(st *stream, at *attributes) error {
		if err := a.requireActive(st); err != nil {
			return err
		}
		at.Metrics = nil
		for _, m := range shardMetrics {
			if keep(m, slices.Contains(names, m) || slices.Contains(names, "ALL"), slices.Contains(st.Metrics, m)) {
				at.Metrics = append(at.Metrics, m)
			}
		}
		a.s.update(st)
		arn := a.streamARN(st.Name)
		out = &EnhancedMonitoringOutput{&st.Name, st.Metrics, at.Metrics, &arn}
		return nil
	})
	return out, err
}

// StartStreamEncryption makes the stream and its records say that they are
// encrypted with a key. It is a state that clients can see and no more: on the
// bridge's disk the records lie as they did before, and what protects them
// there is the disk's own encryption.
func (a API) StartStreamEncryption(ctx context.Context, in *StartStreamEncryptionInput) error {
	return a.encrypt(in.StreamRef, *in.EncryptionType, *in.KeyId)
}

// StopStreamEncryption ends what StartStreamEncryption began.
func (a API) StopStreamEncryption(ctx context.Context, in *StopStreamEncryptionInput) error {
	return a.encrypt(in.StreamRef, *in.EncryptionType, "")
}

func (a API) encrypt(ref StreamRef, kind, key string) error {
	if err := a.rate("StreamEncryption", 5); err != nil {
		return err
	}
	if kind != "KMS" {
		return errorf(InvalidArgument, "EncryptionType must be KMS.")
	}
	return a.edit(ref, func(st *stream, at *attributes) error {
		if err := a.requireActive(st); err != nil {
			return err
		}
		at.KeyID = key
		a.s.update(st)
		return nil
	})
}
