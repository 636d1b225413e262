package awsapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/arn"
)

// A region is part of a host name.
var validRegion = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

var errVariant = errors.New("FIPS and dual-stack endpoints have to be named as endpoint_url")

// endpoint is where the service is, found as the SDK finds it: where the Place says, in
// AWS_ENDPOINT_URL_<SERVICE> or the profile's services, in the configuration, at
// Amazon's.
func (s Service) endpoint(c aws.Config) (string, error) {
	_, all := os.LookupEnv("AWS_ENDPOINT_URL")
	_, own := os.LookupEnv("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(s.ID, " ", "_")))
	if own || !all {
		if endpoint, err := s.configured(c); endpoint != "" || err != nil {
			return endpoint, err
		}
	}
	if c.BaseEndpoint != nil {
		return *c.BaseEndpoint, nil
	}
	if variant(c) {
		return "", errVariant
	}
	if !validRegion.MatchString(c.Region) {
		return "", fmt.Errorf("%q is no region", c.Region)
	}
	return "https://" + s.Name + "." + c.Region + "." + arn.Host(c.Region), nil
}

// configured is the service's endpoint in the environment or the shared files, "" if
// there is none.
func (s Service) configured(c aws.Config) (string, error) {
	for _, source := range c.ConfigSources {
		if p, ok := source.(interface {
			GetIgnoreConfiguredEndpoints(context.Context) (bool, bool, error)
		}); ok {
			if ignore, found, err := p.GetIgnoreConfiguredEndpoints(context.Background()); err != nil || found {
				if ignore || err != nil {
					return "", err
				}
				break
			}
		}
	}
	for _, source := range c.ConfigSources {
		if p, ok := source.(interface {
			GetServiceBaseEndpoint(context.Context, string) (string, bool, error)
		}); ok {
			if endpoint, found, err := p.GetServiceBaseEndpoint(context.Background(), s.ID); err != nil || found {
				return endpoint, err
			}
		}
	}
	return "", nil
}

// variant says whether the configuration asks for another kind of endpoint.
func variant(c aws.Config) bool {
	for _, source := range c.ConfigSources {
		if p, ok := source.(interface {
			GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error)
		}); ok {
			if state, found, err := p.GetUseFIPSEndpoint(context.Background()); err == nil && found &&
				state == aws.FIPSEndpointStateEnabled {
				return true
			}
		}
		if p, ok := source.(interface {
			GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error)
		}); ok {
			if state, found, err := p.GetUseDualStackEndpoint(context.Background()); err == nil && found &&
				state == aws.DualStackEndpointStateEnabled {
				return true
			}
		}
	}
	return false
}
