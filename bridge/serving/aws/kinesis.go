package aws

import (
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

// maxKinesisBody is PutRecords' 10 MiB as base64, and names and commas around
// its 500 records with keys of 256 characters.
const maxKinesisBody = 16 << 20

// kinesisTarget is Kinesis Data Streams: the operations of API version
// 2013-12-02.
func kinesisTarget(s *kinesis.Service) *target {
	t := &target{service: "kinesis", prefix: "Kinesis_20131202", maxBody: maxKinesisBody, actions: map[string]action{}}
	type api = kinesis.API
	p := kinesis.Patterns
	for name, a := range map[string]action{
		"AddTagsToStream":               command(p, s.In, api.AddTagsToStream),
		"CreateStream":                  command(p, s.In, api.CreateStream),
		"DecreaseStreamRetentionPeriod": command(p, s.In, api.DecreaseStreamRetentionPeriod),
		"DeleteResourcePolicy":          command(p, s.In, api.DeleteResourcePolicy),
		"DeleteStream":                  command(p, s.In, api.DeleteStream),
		"DeregisterStreamConsumer":      command(p, s.In, api.DeregisterStreamConsumer),
		"DescribeLimits":                query(p, s.In, api.DescribeLimits),
		"DescribeStream":                query(p, s.In, api.DescribeStream),
		"DescribeStreamConsumer":        query(p, s.In, api.DescribeStreamConsumer),
		"DescribeStreamSummary":         query(p, s.In, api.DescribeStreamSummary),
		"DisableEnhancedMonitoring":     query(p, s.In, api.DisableEnhancedMonitoring),
		"EnableEnhancedMonitoring":      query(p, s.In, api.EnableEnhancedMonitoring),
		"GetRecords":                    query(p, s.In, api.GetRecords).writes(getRecordsOutput).weighs(getRecordsSize),
		"GetResourcePolicy":             query(p, s.In, api.GetResourcePolicy),
		"GetShardIterator":              query(p, s.In, api.GetShardIterator),
		"IncreaseStreamRetentionPeriod": command(p, s.In, api.IncreaseStreamRetentionPeriod),
		"ListShards":                    query(p, s.In, api.ListShards),
		"ListStreamConsumers":           query(p, s.In, api.ListStreamConsumers),
		"ListStreams":                   query(p, s.In, api.ListStreams),
		"ListTagsForResource":           query(p, s.In, api.ListTagsForResource),
		"ListTagsForStream":             query(p, s.In, api.ListTagsForStream),
		"MergeShards":                   command(p, s.In, api.MergeShards),
		"PutRecord":                     query(p, s.In, api.PutRecord),
		"PutRecords":                    query(p, s.In, api.PutRecords),
		"PutResourcePolicy":             command(p, s.In, api.PutResourcePolicy),
		"RegisterStreamConsumer":        query(p, s.In, api.RegisterStreamConsumer),
		"RemoveTagsFromStream":          command(p, s.In, api.RemoveTagsFromStream),
		"SplitShard":                    command(p, s.In, api.SplitShard),
		"StartStreamEncryption":         command(p, s.In, api.StartStreamEncryption),
		"StopStreamEncryption":          command(p, s.In, api.StopStreamEncryption),
		"SubscribeToShard":              subscription(p, s.In, api.SubscribeToShard),
		"TagResource":                   command(p, s.In, api.TagResource),
		"UntagResource":                 command(p, s.In, api.UntagResource),
		"UpdateShardCount":              query(p, s.In, api.UpdateShardCount),
		"UpdateStreamMode":              command(p, s.In, api.UpdateStreamMode),
	} {
		a.name = name
		t.actions[name] = a
	}
	return t
}

// getRecordsOutput is written by hand, since it is most of what is read.
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
