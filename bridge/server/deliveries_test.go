package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// What of an exported delivery stream has no effect is kept and shown.
func TestDeliveryKeepsWhatIsNotServed(t *testing.T) {
	b := start(t, configure(t))
	const doc = `{"DeliveryStreamName": "archive", "ExtendedS3DestinationConfiguration": {"BucketARN": "arn:aws:s3:::archive", "RoleARN": "arn:aws:iam::1:role/x",
		"ErrorOutputPrefix": "errors/", "CloudWatchLoggingOptions": {"Enabled": true, "LogGroupName": "g"}}}`
	if err := os.WriteFile(filepath.Join(b.cfg.BridgeD.Dir, "delivery-streams", "archive.json"), []byte(doc),
		0o600); err != nil {
		t.Fatal(err)
	}
	b.must("POST", "/v1/reload", "", nil)
	var all []admin.DeliveryInfo
	b.must("GET", "/v1/delivery-streams", "", &all)
	if len(all) != 1 || len(all[0].Kept) != 2 ||
		!strings.Contains(string(all[0].Kept["CloudWatchLoggingOptions"]), `"g"`) {
		t.Errorf("%+v", all)
	}
}
