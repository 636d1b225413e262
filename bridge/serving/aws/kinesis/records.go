package kinesis

import (
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

// getRecordsOutput writes an answer of GetRecords.
func getRecordsOutput(w *shape.Writer, v any) {
	out := v.(*kinesis.GetRecordsOutput)
	w.OpenMap()
	writeRecords(w, out.Records)
	if out.NextShardIterator != nil {
		w.Name("NextShardIterator")
		w.Text(*out.NextShardIterator)
	}
	if out.MillisBehindLatest != nil {
		w.Name("MillisBehindLatest")
		w.Int(*out.MillisBehindLatest)
	}
	writeChildren(w, out.ChildShards)
	w.CloseMap()
}

// getRecordsSize is what the records have in memory, roughly.
func getRecordsSize(v any) (n int64) {
	for _, r := range v.(*kinesis.GetRecordsOutput).Records {
		n += int64(len(r.Data)+len(r.PartitionKey)) + 100
	}
	return n
}

func writeRecords(w *shape.Writer, all []kinesis.Record) {
	w.Name("Records")
	w.OpenList()
	for i := range all {
		r := &all[i]
		w.Item()
		w.OpenMap()
		w.Name("SequenceNumber")
		w.Digits(&r.SequenceNumber)
		w.Name("ApproximateArrivalTimestamp")
		w.Time(r.ApproximateArrivalTimestamp)
		w.Name("Data")
		w.Blob(r.Data)
		w.Name("PartitionKey")
		w.Text(r.PartitionKey)
		if r.EncryptionType != nil {
			w.Name("EncryptionType")
			w.Text(*r.EncryptionType)
		}
		w.CloseMap()
	}
	w.CloseList()
}

var children = shape.Of[struct{ ChildShards []kinesis.ChildShard }](nil)

// writeChildren writes the shards that follow on one that has ended: before, the
// KCL wants none.
func writeChildren(w *shape.Writer, all []kinesis.ChildShard) {
	if len(all) > 0 {
		children.Members(w, &struct{ ChildShards []kinesis.ChildShard }{all})
	}
}
