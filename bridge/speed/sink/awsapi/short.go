package awsapi

import (
	"context"
	"strings"
	"unicode"

	"github.com/aws/smithy-go/middleware"
)

// maxShown is how long the text of a client's error may be, in bytes: what the SDK says
// of a request, and what of an answer is quoted elsewhere.
const maxShown = 2 * maxQuoted

// A shortError is an error of the SDK whose text is one line. A service, or what stands
// before it, may answer with pages, and the text is logged and shown.
type shortError struct {
	text string
	err  error
}

func (e *shortError) Error() string { return e.text }

// Unwrap returns the error itself.
func (e *shortError) Unwrap() error { return e.err }

// shortened is err with a text of one line.
func shortened(err error) error {
	text := err.Error()
	if len(text) <= maxShown && strings.IndexFunc(text, unicode.IsControl) < 0 {
		return err
	}
	cut, more := text, ""
	if len(cut) > maxShown {
		cut, more = strings.ToValidUTF8(cut[:maxShown], ""), "…"
	}
	cut = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, cut)
	return &shortError{strings.Join(strings.Fields(cut), " ") + more, err}
}

// shortErrors has a client of the SDK return shortened errors.
func shortErrors(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("ShortErrors", func(ctx context.Context,
		in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput,
		middleware.Metadata, error) {
		out, about, err := next.HandleInitialize(ctx, in)
		if err != nil {
			err = shortened(err)
		}
		return out, about, err
	}), middleware.Before)
}
