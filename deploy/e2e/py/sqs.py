"""A queue's life through boto3. The endpoint is AWS_ENDPOINT_URL. Ends with 1 at the
first thing that is not as a program written for AWS expects it."""
import os

import boto3
from botocore.config import Config

q = boto3.client("sqs", endpoint_url=os.environ["AWS_ENDPOINT_URL"],
                 config=Config(retries={"max_attempts": 0}, read_timeout=30))


def equal(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))


url = q.create_queue(QueueName="work", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
equal(q.get_queue_url(QueueName="work")["QueueUrl"], url)
equal(q.list_queues(QueueNamePrefix="wo")["QueueUrls"], [url])
q.send_message(QueueUrl=url, MessageBody="one", MessageAttributes={"n": {"DataType": "Number", "StringValue": "1"}})
q.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "two"}, {"Id": "b", "MessageBody": "three"}])
got = q.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageAttributeNames=["All"])
equal([m["Body"] for m in got["Messages"]], ["one", "two", "three"])
equal(got["Messages"][0]["MessageAttributes"]["n"]["StringValue"], "1")
for m in got["Messages"]:
    q.delete_message(QueueUrl=url, ReceiptHandle=m["ReceiptHandle"])
equal("Messages" in q.receive_message(QueueUrl=url), False)
try:
    q.send_message(QueueUrl=url + "x", MessageBody="x")
    raise AssertionError("no such queue, and no error")
except q.exceptions.QueueDoesNotExist:
    pass
q.purge_queue(QueueUrl=url)
q.delete_queue(QueueUrl=url)
print("boto3 %s: a queue's life" % boto3.__version__)
