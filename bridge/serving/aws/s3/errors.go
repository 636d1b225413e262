package s3

import (
	"errors"
	"net/http"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// errorNames are S3's (API reference, "Error responses"). A bucket whose name
// cannot be one is there no more than others.
var errorNames = []wire.Rule{
	wire.Is(objects.ErrNoBucket, "NoSuchBucket", 404),
	wire.Say(sink.ErrNotFound, "NoSuchKey", 404, "The specified key does not exist."),
	wire.Is(objects.ErrBucketExists, "BucketAlreadyOwnedByYou", 409),
	wire.Say(objects.ErrNotEmpty, "BucketNotEmpty", 409, "The bucket you tried to delete is not empty"),
	wire.Say(objects.ErrCondition, "PreconditionFailed", 412,
		"At least one of the pre-conditions you specified did not hold"),
	wire.Is(objects.ErrNoUpload, "NoSuchUpload", 404),
	wire.Is(objects.ErrNoPart, "InvalidPart", 400),
	wire.Is(objects.ErrPartOrder, "InvalidPartOrder", 400),
	wire.Is(objects.ErrPartSmall, "EntityTooSmall", 400),
	wire.Is(objects.ErrChecksum, "BadDigest", 400),
	wire.Is(objects.ErrAttributes, "MetadataTooLarge", 400),
	wire.Is(objects.ErrNoAttributes, "NotImplemented", 501),
	wire.Is(objects.ErrTooManyUploads, "TooManyMultipartUploads", 400),
	wire.Is(objects.ErrBucketFull, "QuotaExceeded", 403),
	wire.Say(objects.ErrNoRoom, "ServiceUnavailable", 503,
		"The service has too little room for new objects. Try again later."),
	func(err error) *wire.Error {
		if !errors.Is(err, sink.ErrName) {
			return nil
		}
		return wire.Errorf(http.StatusBadRequest, "InvalidArgument", "%v", err)
	},
}

func invalid(format string, args ...any) error {
	return wire.Errorf(http.StatusBadRequest, "InvalidArgument", format, args...)
}

func invalidRequest(format string, args ...any) error {
	return wire.Errorf(http.StatusBadRequest, "InvalidRequest", format, args...)
}

func notImplemented(format string, args ...any) error {
	return wire.Errorf(http.StatusNotImplemented, "NotImplemented", format, args...)
}

var errMalformedXML = wire.Errorf(http.StatusBadRequest, "MalformedXML",
	"The XML you provided was not well-formed or did not validate against our published schema")
