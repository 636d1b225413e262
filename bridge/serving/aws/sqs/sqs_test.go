package sqs

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// newClient returns AWS's client of a service over an empty log. It checks the sums
// of bodies by itself.
func newClient(t *testing.T) *sqs.Client {
	t.Helper()
	queues, err := queue.Open(pebbletest.Start(t), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(wire.New(wiretest.Options(Service(queues, "123456789012"))))
	t.Cleanup(srv.Close)
	return sqs.New(sqs.Options{Region: "eu-test-7", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(wiretest.Key.ID, wiretest.Key.Secret, "")})
}

func TestSDK(t *testing.T) {
	c, ctx := newClient(t), t.Context()
	made, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("work"),
		Attributes: map[string]string{"VisibilityTimeout": "120"}, Tags: map[string]string{"a": "b"}})
	if err != nil || !strings.HasSuffix(*made.QueueUrl, "/123456789012/work") {
		t.Fatal(made, err)
	}
	got, err := c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("work")})
	if err != nil || *got.QueueUrl != *made.QueueUrl {
		t.Error(got, err)
	}
	url := made.QueueUrl
	attributes := map[string]types.MessageAttributeValue{
		"unit": {DataType: aws.String("String"), StringValue: aws.String("C")},
		"raw":  {DataType: aws.String("Binary"), BinaryValue: []byte{0, 255}},
	}
	if _, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String(`{"t":"ü"}`),
		MessageAttributes: attributes}); err != nil {
		t.Fatal(err)
	}
	var entries []types.SendMessageBatchRequestEntry
	for i := range 9 {
		entries = append(entries, types.SendMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)),
			MessageBody: aws.String(fmt.Sprint("m", i))})
	}
	entries[3].MessageBody = aws.String("bad\x01")
	batch, err := c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: url, Entries: entries})
	if err != nil || len(batch.Successful) != 8 || len(batch.Failed) != 1 || *batch.Failed[0].Id != "3" {
		t.Error(batch, err)
	}
	first, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: 10,
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}})
	if err != nil || len(first.Messages) != 9 {
		t.Fatal(first, err)
	}
	m := first.Messages[0]
	if *m.Body != `{"t":"ü"}` || *m.MessageAttributes["unit"].StringValue != "C" ||
		m.MessageAttributes["raw"].BinaryValue[1] != 255 || m.Attributes["ApproximateReceiveCount"] != "1" {
		t.Errorf("%+v", m)
	}
	if _, err := c.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: url,
		ReceiptHandle: m.ReceiptHandle}); err != nil {
		t.Error(err)
	}
	again, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: url, WaitTimeSeconds: 1})
	if err != nil || len(again.Messages) != 1 || *again.Messages[0].MessageId != *m.MessageId {
		t.Error(again, err)
	}
	var gone []types.DeleteMessageBatchRequestEntry
	for i, m := range first.Messages {
		gone = append(gone, types.DeleteMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)),
			ReceiptHandle: m.ReceiptHandle})
	}
	gone[8].ReceiptHandle = aws.String("junk")
	deleted, err := c.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: url, Entries: gone})
	if err != nil || len(deleted.Successful) != 8 || len(deleted.Failed) != 1 {
		t.Error(deleted, err)
	}
	state, err := c.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: url,
		AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil || state.Attributes["ApproximateNumberOfMessagesNotVisible"] != "1" ||
		state.Attributes["VisibilityTimeout"] != "120" || state.Attributes["QueueArn"] !=
		"arn:aws:sqs:eu-test-7:123456789012:work" {
		t.Error(state, err)
	}
	if _, err := c.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: url,
		ReceiptHandle: first.Messages[8].ReceiptHandle}); err != nil {
		t.Error(err)
	}
}

func TestSDKFIFO(t *testing.T) {
	c, ctx := newClient(t), t.Context()
	dead, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("dead.fifo"),
		Attributes: map[string]string{"FifoQueue": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("work.fifo"),
		Attributes: map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true",
			"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:eu-test-7:123456789012:dead.fifo",` +
				`"maxReceiveCount":"1"}`}})
	if err != nil {
		t.Fatal(err)
	}
	var before string
	for _, body := range []string{"a", "b", "a"} {
		sent, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: &body,
			MessageGroupId: aws.String("g")})
		if err != nil || body == "b" && *sent.SequenceNumber <= before {
			t.Fatal(sent, err)
		}
		before = *sent.SequenceNumber
	}
	for range 2 { // the second time they go to the dead letters
		got, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: made.QueueUrl, MaxNumberOfMessages: 10,
			VisibilityTimeout: 0})
		if err != nil || len(got.Messages) > 2 {
			t.Fatal(got, err)
		}
		for _, m := range got.Messages {
			if _, err := c.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: made.QueueUrl,
				ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: dead.QueueUrl, MaxNumberOfMessages: 10})
	if err != nil || len(got.Messages) != 2 || *got.Messages[0].Body != "a" || *got.Messages[1].Body != "b" {
		t.Errorf("dead letters %+v, %v", got, err)
	}
}

func TestSDKErrors(t *testing.T) {
	c, ctx := newClient(t), t.Context()
	if _, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("work")}); err != nil {
		t.Fatal(err)
	}
	url, none := aws.String("work"), aws.String("https://host/123456789012/none")
	for name, call := range map[string]func() error{
		"QueueDoesNotExist": func() error {
			_, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: none, MessageBody: aws.String("x")})
			return err
		},
		"QueueNameExists": func() error {
			_, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: url,
				Attributes: map[string]string{"DelaySeconds": "7"}})
			return err
		},
		"InvalidAttributeName": func() error {
			_, err := c.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: url,
				Attributes: map[string]string{"Colour": "red"}})
			return err
		},
		"InvalidAttributeValue": func() error {
			_, err := c.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: url,
				Attributes: map[string]string{"DelaySeconds": "soon"}})
			return err
		},
		"InvalidParameterValue": func() error {
			_, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("\x00")})
			return err
		},
		"ReceiptHandleIsInvalid": func() error {
			_, err := c.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: aws.String("x")})
			return err
		},
		"EmptyBatchRequest": func() error {
			_, err := c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: url,
				Entries: []types.SendMessageBatchRequestEntry{}})
			return err
		},
		"BatchEntryIdsNotDistinct": func() error {
			e := types.SendMessageBatchRequestEntry{Id: aws.String("1"), MessageBody: aws.String("x")}
			_, err := c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: url,
				Entries: []types.SendMessageBatchRequestEntry{e, e}})
			return err
		},
	} {
		e, ok := errors.AsType[smithy.APIError](call())
		if !ok || e.ErrorCode() != name {
			t.Errorf("%v, want %s", e, name)
		}
	}
}
