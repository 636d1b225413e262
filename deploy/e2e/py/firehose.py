"""A delivery stream's life through boto3. The endpoint is AWS_ENDPOINT_URL. Ends
with 1 at the first thing that is not as a program written for AWS expects it."""
import os
import time
from contextlib import contextmanager

import boto3
from botocore.config import Config

fh = boto3.client("firehose", endpoint_url=os.environ["AWS_ENDPOINT_URL"],
                  config=Config(retries={"max_attempts": 0}, read_timeout=30))
ROLE = "arn:aws:iam::000000000000:role/x"
S3 = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::lake", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60}}


def equal(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))


@contextmanager
def fails(code):
    """The block fails with a modeled exception of that name."""
    try:
        yield
    except getattr(fh.exceptions, code) as e:
        if not e.response["Error"]["Message"]:
            raise AssertionError("%s without a message" % code)
        return
    raise AssertionError("no error, want " + code)


def status(name, want, tries=200):
    seen = set()
    for _ in range(tries):
        d = fh.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]
        seen.add(d["DeliveryStreamStatus"])
        if d["DeliveryStreamStatus"] == want:
            return d, seen
        time.sleep(0.05)
    raise AssertionError("never " + want)


arn = fh.create_delivery_stream(DeliveryStreamName="b", S3DestinationConfiguration=S3)["DeliveryStreamARN"]
equal(arn, "arn:aws:firehose:eu-local-1:000000000000:deliverystream/b")
with fails("ResourceNotFoundException"):  # it is not ACTIVE yet
    fh.put_record(DeliveryStreamName="b", Record={"Data": b"x"})
d, seen = status("b", "ACTIVE")
equal("CREATING" in seen, True)
equal(d["Destinations"][0]["S3DestinationDescription"]["BucketARN"], "arn:aws:s3:::lake")
equal(d["DeliveryStreamEncryptionConfiguration"]["Status"], "DISABLED")
if abs(time.time() - d["CreateTimestamp"].timestamp()) > 60:
    raise AssertionError(d["CreateTimestamp"])

answer = fh.put_record(DeliveryStreamName="b", Record={"Data": bytes(range(256))})
equal(bool(answer["RecordId"]) and not answer["Encrypted"], True)
answer = fh.put_record_batch(DeliveryStreamName="b", Records=[{"Data": b"%d" % i} for i in range(500)])
equal(answer["FailedPutCount"], 0)
equal(len({r["RecordId"] for r in answer["RequestResponses"]}), 500)
fh.put_record_batch(DeliveryStreamName="b", Records=[{"Data": b"x" * 1024000}] * 4)
with fails("InvalidArgumentException"):
    fh.put_record_batch(DeliveryStreamName="b", Records=[{"Data": b"x" * 1024000}] * 5)
for bad in ([{"Data": b"x" * 1024001}], [{"Data": b""}] * 501):
    try:
        fh.put_record_batch(DeliveryStreamName="b", Records=bad)
        raise AssertionError("accepted")
    except fh.exceptions.ClientError as e:
        equal(e.response["ResponseMetadata"]["HTTPStatusCode"], 400)

with fails("InvalidArgumentException"):
    fh.create_delivery_stream(DeliveryStreamName="none")
with fails("InvalidArgumentException"):
    fh.create_delivery_stream(DeliveryStreamName="c", S3DestinationConfiguration=S3,
                              ExtendedS3DestinationConfiguration=S3)
with fails("InvalidArgumentException"):
    fh.create_delivery_stream(DeliveryStreamName="c", S3DestinationConfiguration=dict(
        S3, BufferingHints={"SizeInMBs": 129, "IntervalInSeconds": 60}))
with fails("ResourceInUseException"):
    fh.create_delivery_stream(DeliveryStreamName="b", S3DestinationConfiguration=S3)

kinesis = boto3.client("kinesis", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
kinesis.create_stream(StreamName="in", ShardCount=1)
kinesis.get_waiter("stream_exists").wait(StreamName="in", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
stream = kinesis.describe_stream(StreamName="in")["StreamDescription"]["StreamARN"]
fh.create_delivery_stream(DeliveryStreamName="fed", DeliveryStreamType="KinesisStreamAsSource",
                          KinesisStreamSourceConfiguration={"KinesisStreamARN": stream, "RoleARN": ROLE},
                          ExtendedS3DestinationConfiguration=S3)
d, _ = status("fed", "ACTIVE")
equal(d["Source"]["KinesisStreamSourceDescription"]["KinesisStreamARN"], stream)
with fails("InvalidSourceException"):
    fh.put_record(DeliveryStreamName="fed", Record={"Data": b"x"})
equal(fh.list_delivery_streams()["DeliveryStreamNames"], ["b", "fed"])
page = fh.list_delivery_streams(Limit=1, DeliveryStreamType="KinesisStreamAsSource")
equal((page["DeliveryStreamNames"], page["HasMoreDeliveryStreams"]), (["fed"], False))

fh.tag_delivery_stream(DeliveryStreamName="b", Tags=[{"Key": "k", "Value": "v"}, {"Key": "l"}])
page = fh.list_tags_for_delivery_stream(DeliveryStreamName="b", Limit=1)
equal((page["Tags"], page["HasMoreTags"]), ([{"Key": "k", "Value": "v"}], True))
with fails("ConcurrentModificationException"):
    fh.update_destination(DeliveryStreamName="b", CurrentDeliveryStreamVersionId="7",
                          DestinationId="destinationId-000000000001", S3DestinationUpdate={"Prefix": "q/"})
fh.update_destination(DeliveryStreamName="b", CurrentDeliveryStreamVersionId="1",
                      DestinationId="destinationId-000000000001", S3DestinationUpdate={"Prefix": "q/"})
d, _ = status("b", "ACTIVE")
equal((d["VersionId"], d["Destinations"][0]["S3DestinationDescription"]["Prefix"]), ("2", "q/"))
equal(d["LastUpdateTimestamp"] >= d["CreateTimestamp"], True)

fh.delete_delivery_stream(DeliveryStreamName="b")
_, seen = status("b", "DELETING")
for _ in range(200):
    if "b" not in fh.list_delivery_streams()["DeliveryStreamNames"]:
        break
    time.sleep(0.05)
with fails("ResourceNotFoundException"):
    fh.describe_delivery_stream(DeliveryStreamName="b")
print("boto3 %s: all as on AWS" % boto3.__version__)
