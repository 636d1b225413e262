package send

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

// What a table answers to get_dynamodb, with its own idea of what a key is.
func TestItem(t *testing.T) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x",
		"AWS_REGION": "eu-local-1"} {
		t.Setenv(name, value)
	}
	place := awsapi.Place{EndpointURL: counterpart.Dynalite(t)}
	c, err := place.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db := dynamodb.NewFromConfig(c)
	table := func(name string, keys ...types.AttributeDefinition) {
		t.Helper()
		in := &dynamodb.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: keys}
		for i, k := range keys {
			in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: k.AttributeName,
				KeyType: []types.KeyType{types.KeyTypeHash, types.KeyTypeRange}[i]})
		}
		if _, err := db.CreateTable(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	id := types.AttributeDefinition{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}
	seq := types.AttributeDefinition{AttributeName: aws.String("seq"), AttributeType: types.ScalarAttributeTypeN}
	table("Devices", id)
	table("Readings", id, seq)
	item := map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: "é\""},
		"tags": &types.AttributeValueMemberSS{Value: []string{"a"}}, "b": &types.AttributeValueMemberB{Value: []byte("hi")},
		"m": &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{
			"x": &types.AttributeValueMemberNULL{Value: true}}}}
	for _, name := range []string{"Devices", "Readings"} {
		if _, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &name, Item: item}); err != nil {
			t.Fatal(err)
		}
		item["seq"] = &types.AttributeValueMemberN{Value: "7"}
		delete(item, "b")
	}
	a := NewAsks(Options{Places: map[string]awsapi.Place{"dynamoDB": place}, Region: "eu-local-1"})
	for _, c := range []struct{ table, key, value, sortKey, sort, want, fails string }{
		{"Devices", "id", `"\u00e9\""`, "", "", `{"b":"aGk=","id":"é\"","m":{"x":null},"tags":["a"]}`, ""},
		{"Devices", "id", `"none"`, "", "", "", ""},
		{"Readings", "id", `"é\""`, "seq", "7.0", `{"id":"é\"","m":{"x":null},"seq":7,"tags":["a"]}`, ""},
		{"Readings", "id", `"é\""`, "", "", "", "ValidationException"},
		{"Readings", "id", `"é\""`, "seq", `"7"`, "", "ValidationException"},
		{"none", "id", `"x"`, "", "", "", "ResourceNotFoundException"},
	} {
		got, err := a.Item(t.Context(), c.table, c.key, []byte(c.value), c.sortKey, []byte(c.sort))
		if string(got) != c.want || (err == nil) != (c.fails == "") ||
			err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
}
