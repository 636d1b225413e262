package rules

import (
	"strings"
	"testing"
)

// What AWS exports of a rule is taken as it is: the answer of get-topic-rule, and a
// resource of a CloudFormation template.
func TestParseExported(t *testing.T) {
	const resource = `{"Type":"AWS::IoT::TopicRule","DeletionPolicy":"Retain","Properties":{"RuleName":"hot",
	  "TopicRulePayload":{"Sql":"SELECT * FROM 'a'","AwsIotSqlVersion":"2016-03-23","RuleDisabled":"true",
	  "Actions":[{"Kinesis":{"StreamName":"out","PartitionKey":"k","RoleArn":"arn:aws:iam::000000000000:role/r"}},
	    {"Republish":{"Topic":"b","Qos":1,"RoleArn":"r","Headers":{"UserProperties":[{"Key":"K","Value":"V"}]}}},
	    {"DynamoDBv2":{"PutItem":{"TableName":"T"},"RoleArn":"r"}}],
	  "ErrorAction":{"S3":{"BucketName":"errors","Key":"k","RoleArn":"r"}}},"Tags":[]}}`
	const answer = `{"ruleArn":"arn:aws:iot:eu-local-1:000000000000:rule/hot","rule":{"ruleName":"hot",
	  "sql":"SELECT * FROM 'a'","createdAt":"2026-05-04T09:14:12+00:00","ruleDisabled":true,"awsIotSqlVersion":"2016-03-23",
	  "actions":[{"kinesis":{"roleArn":"r","streamName":"out","partitionKey":"k"}},{"republish":{"topic":"b","qos":1}},
	  {"dynamoDBv2":{"putItem":{"tableName":"T"}}}],"errorAction":{"s3":{"bucketName":"errors","key":"k"}}}}`
	for _, doc := range []string{resource, answer} {
		r, err := (&Compiler{}).Parse("of_the_file", []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, a := range r.targets() {
			kinds = append(kinds, a.Kind())
		}
		if got := strings.Join(kinds, " "); r.Name != "hot" || !r.Disabled || got != "kinesis republish dynamoDBv2 s3" {
			t.Errorf("%s, %v, %s", r.Name, r.Disabled, got)
		}
	}
	for doc, want := range map[string]string{
		strings.Replace(resource, `"out"`, `{"Ref":"Out"}`, 1): "Properties.TopicRulePayload.Actions[0].Kinesis.StreamName: " +
			`{"Ref": …} is computed by CloudFormation`,
		strings.Replace(resource, `"Tags"`, `"Tagz"`, 1):             "Properties.Tagz: unknown member; take it out",
		strings.Replace(resource, "IoT::TopicRule", "SNS::Topic", 1): "want AWS::IoT::TopicRule",
		strings.Replace(resource, `"Kinesis"`, `"IotEvents"`, 1):     `action "iotEvents" is not served`,
		`{"Resources":{"Rule":` + resource + `}}`:                    "one of its resources a file",
		`{"Type":"AWS::IoT::TopicRule","Properties":{}}`:             "Properties.TopicRulePayload: missing",
		strings.Replace(answer, `"createdAt"`, `"createAt"`, 1):      "createAt: unknown member",
	} {
		if _, err := (&Compiler{}).Parse("x", []byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzUnwrapped(f *testing.F) {
	f.Add([]byte(`{"Type":"AWS::IoT::TopicRule","Properties":{"TopicRulePayload":{"Sql":"x"}}}`))
	f.Add([]byte(`{"ruleArn":"a","rule":{"ruleName":"n"}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if n, err := unwrapped(doc); err == nil && len(n.doc) == 0 && len(doc) > 0 {
			t.Fatalf("%q became nothing", doc)
		}
	})
}
