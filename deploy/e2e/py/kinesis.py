"""A data stream's life through boto3. The endpoint is AWS_ENDPOINT_URL, and
argv[1] a name for the stream. Ends with 1 at the first thing that is not as a
program written for AWS expects it."""
import os
import sys
import time
from contextlib import contextmanager

import boto3
from botocore.config import Config

# AWS_ENDPOINT_URL is heard by botocore 1.31 and later by itself.
k = boto3.client("kinesis", endpoint_url=os.environ["AWS_ENDPOINT_URL"],
                 config=Config(retries={"max_attempts": 0}, read_timeout=30))
stream = sys.argv[1]
QUICK = {"Delay": 0.1, "MaxAttempts": 300} if boto3.__version__ >= "1.30" else {"Delay": 1, "MaxAttempts": 30}
TOP = str(2**128 - 1)


def step(text):
    print("boto3 %s: %s" % (boto3.__version__, text), flush=True)


def equal(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))


@contextmanager
def fails(code):
    """The block fails with a modeled exception of that name."""
    try:
        yield
    except getattr(k.exceptions, code) as e:
        if not e.response["Error"]["Message"]:
            raise AssertionError("%s without a message" % code)
        return
    except k.exceptions.ClientError as e:
        # Older models lack some types; the code is there all the same.
        equal(e.response["Error"]["Code"], code)
        return
    raise AssertionError("no error, want " + code)


def active():
    k.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig=QUICK)
    return k.describe_stream(StreamName=stream)["StreamDescription"]


def opened():
    shards = k.list_shards(StreamName=stream, ShardFilter={"Type": "AT_LATEST"})["Shards"]
    shards.sort(key=lambda s: int(s["HashKeyRange"]["StartingHashKey"]))
    at = 0
    for s in shards:
        equal(int(s["HashKeyRange"]["StartingHashKey"]), at)
        at = int(s["HashKeyRange"]["EndingHashKey"]) + 1
    equal(at, 2**128)
    return [s["ShardId"] for s in shards]


def read(shard, kind="TRIM_HORIZON", **position):
    """All records from there to the tip or the end, and the last answer."""
    it = k.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType=kind, **position)["ShardIterator"]
    records = []
    while True:
        out = k.get_records(ShardIterator=it, Limit=7)
        records += out["Records"]
        it = out.get("NextShardIterator")
        if not it or not out["Records"] and out["MillisBehindLatest"] == 0:
            return records, out


step("create, and the states")
k.create_stream(StreamName=stream, ShardCount=2)
equal(k.describe_stream(StreamName=stream)["StreamDescription"]["StreamStatus"], "CREATING")
d = active()
arn = d["StreamARN"]
equal(len(d["Shards"]), 2)
equal(d["RetentionPeriodHours"], 24)
equal(arn.split(":")[5], "stream/" + stream)
assert abs(d["StreamCreationTimestamp"].timestamp() - time.time()) < 60, d
assert stream in [n for p in k.get_paginator("list_streams").paginate() for n in p["StreamNames"]]
summary = k.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
equal((summary["OpenShardCount"], summary["StreamStatus"]), (2, "ACTIVE"))
with fails("ResourceInUseException"):
    k.create_stream(StreamName=stream, ShardCount=2)

step("put and read")
low = k.put_record(StreamName=stream, Data=b"\x00\xffbytes", PartitionKey="k", ExplicitHashKey="0")
equal(low["ShardId"], "shardId-000000000000")
many = k.put_records(StreamName=stream, Records=[
    {"Data": b"%d" % i, "PartitionKey": "schl\u00fcssel-%d" % i, "ExplicitHashKey": TOP} for i in range(20)])
equal(many["FailedRecordCount"], 0)
equal({r["ShardId"] for r in many["Records"]}, {"shardId-000000000001"})
numbers = [r["SequenceNumber"] for r in many["Records"]]
equal([int(n) for n in numbers], sorted(int(n) for n in numbers))
got, _ = read("shardId-000000000000")
equal([(r["Data"], r["PartitionKey"], r["SequenceNumber"]) for r in got], [(b"\x00\xffbytes", "k", low["SequenceNumber"])])
got, _ = read("shardId-000000000001")
equal([(r["Data"], r["PartitionKey"], r["SequenceNumber"]) for r in got],
      [(b"%d" % i, "schl\u00fcssel-%d" % i, n) for i, n in enumerate(numbers)])
second = "shardId-000000000001"
equal(len(read(second, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[12])[0]), 8)
equal(len(read(second, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[12])[0]), 7)
equal(len(read(second, "AT_TIMESTAMP", Timestamp=got[0]["ApproximateArrivalTimestamp"])[0]), 20)
equal(len(read(second, "LATEST")[0]), 0)
latest = k.get_shard_iterator(StreamName=stream, ShardId=second, ShardIteratorType="LATEST")["ShardIterator"]
k.put_record(StreamName=stream, Data=b"late", PartitionKey="k", ExplicitHashKey=TOP)
equal([r["Data"] for r in k.get_records(ShardIterator=latest)["Records"]], [b"late"])

step("errors of puts and reads")
with fails("ResourceNotFoundException"):
    k.put_record(StreamName=stream + "-none", Data=b"x", PartitionKey="k")
with fails("ResourceNotFoundException"):
    k.get_shard_iterator(StreamName=stream, ShardId="shardId-000000000009", ShardIteratorType="LATEST")
with fails("InvalidArgumentException"):
    k.get_shard_iterator(StreamName=stream, ShardId=second, ShardIteratorType="AT_SEQUENCE_NUMBER")
with fails("InvalidArgumentException"):
    k.get_records(ShardIterator="bm90IG9uZQ==")
with fails("InvalidArgumentException"):
    k.put_record(StreamName=stream, Data=b"x", PartitionKey="k", ExplicitHashKey=str(2**128))
with fails("ValidationException"):
    k.put_record(StreamName=stream, Data=b"x", PartitionKey="k" * 257)
with fails("ValidationException"):
    k.get_shard_iterator(StreamName=stream, ShardId=second, ShardIteratorType="SOMEWHERE")

step("split, merge, count")
k.split_shard(StreamName=stream, ShardToSplit=second, NewStartingHashKey=str(3 * 2**126))
equal(k.describe_stream(StreamName=stream)["StreamDescription"]["StreamStatus"], "UPDATING")
with fails("ResourceInUseException"):
    k.merge_shards(StreamName=stream, ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000003")
d = active()
equal(opened(), ["shardId-000000000000", "shardId-000000000002", "shardId-000000000003"])
equal([s.get("ParentShardId") for s in d["Shards"]], [None, None, second, second])
assert "EndingSequenceNumber" in d["Shards"][1]["SequenceNumberRange"], d["Shards"][1]
got, end = read(second)
equal(len(got), 21)
equal(sorted(c["ShardId"] for c in end.get("ChildShards", [])), ["shardId-000000000002", "shardId-000000000003"])
with fails("InvalidArgumentException"):
    k.merge_shards(StreamName=stream, ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000003")
k.merge_shards(StreamName=stream, ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000002")
d = active()
equal((d["Shards"][4]["ParentShardId"], d["Shards"][4]["AdjacentParentShardId"]), ("shardId-000000000000", "shardId-000000000002"))
equal(len(opened()), 2)
equal(k.put_record(StreamName=stream, Data=b"x", PartitionKey="k", ExplicitHashKey="0")["ShardId"], "shardId-000000000004")
u = k.update_shard_count(StreamName=stream, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
equal((u["CurrentShardCount"], u["TargetShardCount"]), (2, 4))
active()
equal(len(opened()), 4)
with fails("InvalidArgumentException"):
    k.update_shard_count(StreamName=stream, TargetShardCount=9, ScalingType="UNIFORM_SCALING")

step("retention, tags, monitoring")
k.increase_stream_retention_period(StreamName=stream, RetentionPeriodHours=48)
equal(active()["RetentionPeriodHours"], 48)
with fails("InvalidArgumentException"):
    k.increase_stream_retention_period(StreamName=stream, RetentionPeriodHours=47)
k.decrease_stream_retention_period(StreamName=stream, RetentionPeriodHours=24)
equal(active()["RetentionPeriodHours"], 24)
k.add_tags_to_stream(StreamName=stream, Tags={"team": "north sea", "stage": "test"})
k.remove_tags_from_stream(StreamName=stream, TagKeys=["stage"])
equal(k.list_tags_for_stream(StreamName=stream)["Tags"], [{"Key": "team", "Value": "north sea"}])
k.enable_enhanced_monitoring(StreamName=stream, ShardLevelMetrics=["IncomingBytes"])
equal(active()["EnhancedMonitoring"], [{"ShardLevelMetrics": ["IncomingBytes"]}])
assert k.describe_limits()["OpenShardCount"] >= 4

step("consumers, fan-out")
c = k.register_stream_consumer(StreamARN=arn, ConsumerName="app")["Consumer"]
equal(c["ConsumerStatus"], "CREATING")
with fails("ResourceInUseException"):
    k.register_stream_consumer(StreamARN=arn, ConsumerName="app")
while k.describe_stream_consumer(ConsumerARN=c["ConsumerARN"])["ConsumerDescription"]["ConsumerStatus"] != "ACTIVE":
    time.sleep(0.1)
equal([x["ConsumerName"] for x in k.list_stream_consumers(StreamARN=arn)["Consumers"]], ["app"])
events = k.subscribe_to_shard(ConsumerARN=c["ConsumerARN"], ShardId=second, StartingPosition={"Type": "TRIM_HORIZON"})["EventStream"]
got, children = [], []
for e in events:  # ends by itself: the shard is closed
    got += e["SubscribeToShardEvent"]["Records"]
    children = e["SubscribeToShardEvent"].get("ChildShards", children)
equal(len(got), 21)
equal(len(children), 2)
k.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
equal(active()["StreamModeDetails"]["StreamMode"], "ON_DEMAND")
with fails("ValidationException"):
    k.split_shard(StreamName=stream, ShardToSplit=opened()[0], NewStartingHashKey="1000")
k.start_stream_encryption(StreamName=stream, EncryptionType="KMS", KeyId="alias/aws/kinesis")
equal(active()["EncryptionType"], "KMS")
with fails("ResourceInUseException"):
    k.delete_stream(StreamName=stream)
k.deregister_stream_consumer(ConsumerARN=c["ConsumerARN"])
with fails("ResourceInUseException"):
    k.create_stream(StreamName=stream, ShardCount=1)

step("delete")
k.delete_stream(StreamName=stream, EnforceConsumerDeletion=True)
k.get_waiter("stream_not_exists").wait(StreamName=stream, WaiterConfig=QUICK)
with fails("ResourceNotFoundException"):
    k.describe_stream(StreamName=stream)
step("done")
