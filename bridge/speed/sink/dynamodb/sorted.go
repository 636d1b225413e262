package dynamodb

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// sorted has requests written with their members in order: the SDK writes maps as
// they come, so that a request that is made again would be another.
func sorted(o *dynamodb.Options) {
	o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
		return s.Build.Add(middleware.BuildMiddlewareFunc("SortMembers", sortMembers), middleware.Before)
	})
}

func sortMembers(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (
	out middleware.BuildOutput, meta middleware.Metadata, err error) {
	r, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return out, meta, fmt.Errorf("request of type %T", in.Request)
	}
	if r, err = sortBody(r); err != nil {
		return out, meta, err
	}
	in.Request = r
	return next.HandleBuild(ctx, in)
}

func sortBody(r *smithyhttp.Request) (*smithyhttp.Request, error) {
	body, err := io.ReadAll(r.GetStream())
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var members map[string]any // json.Marshal sorts them
	if err := dec.Decode(&members); err != nil {
		return nil, err
	}
	if body, err = json.Marshal(members); err != nil {
		return nil, err
	}
	return r.SetStream(bytes.NewReader(body))
}
