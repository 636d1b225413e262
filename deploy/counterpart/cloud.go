package counterpart

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	fhtypes "github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// MotoAccount is whose everything in Moto is.
const MotoAccount = "123456789012"

// A Cloud is what rules and delivery streams act on at AWS, or in Moto.
type Cloud struct {
	Queues         []string // those that end in .fifo are FIFO
	Topic          string   // its messages go to the queue of the same name, raw
	Machine        string   // that does nothing
	LogGroup       string
	Tables         map[string][]string // their keys, hash and range: "n:N"
	Buckets        []string
	Stream         string // of Kinesis, one shard
	DeliveryStream string // into the first bucket, below delivered/
}

// Furnish makes all of it and returns the URLs of queues by name.
func (c Cloud) Furnish(t testing.TB, ctx context.Context, cfg aws.Config) (urls map[string]string) {
	t.Helper()
	urls = map[string]string{}
	err := errors.Join(c.queues(ctx, cfg, urls), c.topic(ctx, cfg), c.tables(ctx, cfg), c.buckets(ctx, cfg),
		c.others(ctx, cfg))
	if err != nil {
		t.Fatal(err)
	}
	return urls
}

func (c Cloud) queues(ctx context.Context, cfg aws.Config, urls map[string]string) error {
	client := sqs.NewFromConfig(cfg)
	for _, name := range c.Queues {
		in := &sqs.CreateQueueInput{QueueName: &name}
		if strings.HasSuffix(name, ".fifo") {
			in.Attributes = map[string]string{"FifoQueue": "true"}
		}
		out, err := client.CreateQueue(ctx, in)
		if err != nil {
			return err
		}
		urls[name] = *out.QueueUrl
	}
	return nil
}

func motoARN(region, service, what string) *string {
	return new("arn:aws:" + service + ":" + region + ":" + MotoAccount + ":" + what)
}

func (c Cloud) topic(ctx context.Context, cfg aws.Config) error {
	client := sns.NewFromConfig(cfg)
	if _, err := client.CreateTopic(ctx, &sns.CreateTopicInput{Name: &c.Topic}); err != nil {
		return err
	}
	_, err := client.Subscribe(ctx, &sns.SubscribeInput{TopicArn: motoARN(cfg.Region, "sns", c.Topic),
		Protocol: new("sqs"), Endpoint: motoARN(cfg.Region, "sqs", c.Topic),
		Attributes: map[string]string{"RawMessageDelivery": "true"}})
	return err
}

func (c Cloud) tables(ctx context.Context, cfg aws.Config) error {
	client := dynamodb.NewFromConfig(cfg)
	for name, keys := range c.Tables {
		in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: ddbtypes.BillingModePayPerRequest}
		for i, k := range keys {
			field, kind, _ := strings.Cut(k, ":")
			in.AttributeDefinitions = append(in.AttributeDefinitions, ddbtypes.AttributeDefinition{
				AttributeName: &field, AttributeType: ddbtypes.ScalarAttributeType(kind)})
			in.KeySchema = append(in.KeySchema, ddbtypes.KeySchemaElement{AttributeName: &field,
				KeyType: []ddbtypes.KeyType{ddbtypes.KeyTypeHash, ddbtypes.KeyTypeRange}[i]})
		}
		if _, err := client.CreateTable(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

func (c Cloud) buckets(ctx context.Context, cfg aws.Config) error {
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	for _, name := range c.Buckets {
		if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
			return err
		}
	}
	return nil
}

// others are the machine, the log group and the streams.
func (c Cloud) others(ctx context.Context, cfg aws.Config) error {
	_, err := sfn.NewFromConfig(cfg).CreateStateMachine(ctx, &sfn.CreateStateMachineInput{Name: &c.Machine,
		Definition: new(`{"StartAt":"a","States":{"a":{"Type":"Pass","End":true}}}`),
		RoleArn:    new("arn:aws:iam::" + MotoAccount + ":role/flow")})
	if err != nil {
		return err
	}
	_, err = cloudwatchlogs.NewFromConfig(cfg).CreateLogGroup(ctx,
		&cloudwatchlogs.CreateLogGroupInput{LogGroupName: &c.LogGroup})
	if err != nil {
		return err
	}
	_, err = kinesis.NewFromConfig(cfg).CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &c.Stream,
		ShardCount: new(int32(1))})
	if err != nil {
		return err
	}
	_, err = firehose.NewFromConfig(cfg).CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{
		DeliveryStreamName: &c.DeliveryStream,
		ExtendedS3DestinationConfiguration: &fhtypes.ExtendedS3DestinationConfiguration{
			BucketARN: new("arn:aws:s3:::" + c.Buckets[0]), Prefix: new("delivered/"),
			RoleARN: new("arn:aws:iam::" + MotoAccount + ":role/fh")}})
	return err
}
