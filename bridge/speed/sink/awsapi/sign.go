package awsapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Sign adds AWS's Signature Version 4 to a request whose body is given, for what
// no client of the SDK's serves.
func Sign(ctx context.Context, c aws.Config, service string, r *http.Request, body []byte) error {
	if c.Credentials == nil {
		return errors.New("no AWS credentials")
	}
	cred, err := c.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", hash)
	return v4.NewSigner().SignHTTP(ctx, cred, r, hash, service, c.Region, time.Now())
}
