package shadow

import (
	"fmt"
	"strings"
)

// An Error is a refusal as the shadow service words it. Code is the code of
// the message on the rejected topic and the HTTP status.
type Error struct {
	Code    int
	Message string
}

// Error returns code and message.
func (e *Error) Error() string { return fmt.Sprintf("shadow: %d %s", e.Code, e.Message) }

// The refusals, with the texts of the developer guide ("Device Shadow error
// messages").
var (
	ErrInvalidJSON     = &Error{400, "Invalid JSON"}
	ErrNoState         = &Error{400, "Missing required node: state"}
	ErrStateType       = &Error{400, "State node must be an object"}
	ErrDesiredType     = &Error{400, "Desired node must be an object"}
	ErrReportedType    = &Error{400, "Reported node must be an object"}
	ErrVersion         = &Error{400, "Invalid version"}
	ErrToken           = &Error{400, "Invalid clientToken"}
	ErrNullInArray     = &Error{400, "Invalid JSON: null in an array"}
	ErrThingName       = &Error{400, "Invalid thing name"}
	ErrShadowName      = &Error{400, "Invalid shadow name"}
	ErrVersionConflict = &Error{409, "Version conflict"}
	ErrTooLarge        = &Error{413, "The payload exceeds the maximum size allowed"}
	ErrEncoding        = &Error{415, "Unsupported documented encoding; supported encoding is UTF-8"}
	ErrTooMany         = &Error{429, "Too many requests in flight"}
	ErrInternal        = &Error{500, "Internal service failure"}
)

// errDepth is the refusal of a section with more than most levels.
func errDepth(most int) *Error {
	return &Error{400, fmt.Sprintf("JSON contains too many levels of nesting; maximum is %d", most)}
}

// errNode is the refusal of a member of state that is no section.
func errNode(name string) *Error {
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "")
	}
	return &Error{400, fmt.Sprintf("State contains an invalid node: '%s'", name)}
}

// ErrThing is the refusal over HTTPS for a thing that is not there.
var ErrThing = &Error{404, "Thing not found"}

// ErrTooManyNamed and ErrThingTooLarge are the refusals of what would go over a
// thing's quotas. AWS has none, so the texts are ours.
func ErrTooManyNamed(most int) *Error {
	return &Error{400, fmt.Sprintf(
		"The thing has too many named shadows, those deleted in the last 48 hours included; maximum is %d", most)}
}

func ErrThingTooLarge(most int) *Error {
	return &Error{413, fmt.Sprintf(
		"The shadows of the thing exceed the maximum size allowed together, %d bytes with their metadata", most)}
}

// NotFound is the refusal for a shadow that is not there. The classic shadow
// goes by its thing's name.
func NotFound(thing, name string) *Error {
	if name == "" {
		name = thing
	}
	return &Error{404, fmt.Sprintf("No shadow exists with name: '%s'", name)}
}
