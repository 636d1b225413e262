package connector

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// A Stage transforms an item, filters it, or both: it changes it.Data, and says
// whether the item goes on. It must give the same for the same item: a delivery
// that a crash interrupted is made again from the records. It must not change
// what the slice has that it finds in it. An item whose stage fails goes to the
// dead letters.
type Stage func(ctx context.Context, it *Item) (keep bool, err error)

// sql returns a stage that evaluates a statement of the rules' dialect over the
// item's data: WHERE filters, SELECT transforms. topic() is
// STREAM/PARTITION_KEY, timestamp() the arrival; rand() and newuuid() repeat
// for the same record. FROM has no effect.
func sql(stream string, s *iotsql.Statement) Stage {
	return func(ctx context.Context, it *Item) (bool, error) {
		seed := sha256.Sum256([]byte(stream + "/" + Position{Sequence: it.Sequence, Sub: it.Sub}.String()))
		m := iotsql.Input{Message: message.Message{Topic: stream + "/" + it.Key, Payload: it.Data,
			Time: it.Time.UnixMilli(), Protocol: "http"}}
		copy(m.Seed[:], seed[:])
		out, fired, err := s.Eval(ctx, nil, &m)
		it.Data = out
		return fired, err
	}
}

var errNotJSON = errors.New("the record is not JSON")

// onlyJSON returns a stage that stops what is not JSON: drop passes it over, else
// it fails.
func onlyJSON(drop bool) Stage {
	return func(_ context.Context, it *Item) (bool, error) {
		switch {
		case json.Valid(it.Data):
			return true, nil
		case drop:
			return false, nil
		}
		return false, errNotJSON
	}
}

// newline returns a stage that ends each item with a newline.
func newline() Stage {
	return func(_ context.Context, it *Item) (bool, error) {
		if !bytes.HasSuffix(it.Data, []byte("\n")) {
			it.Data = append(it.Data[:len(it.Data):len(it.Data)], '\n')
		}
		return true, nil
	}
}

// pass runs an item through all stages.
func pass(ctx context.Context, stages []Stage, it *Item) (keep bool, err error) {
	for _, s := range stages {
		if keep, err = s(ctx, it); !keep || err != nil {
			return false, err
		}
	}
	return true, nil
}
