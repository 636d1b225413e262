package emit

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/javatime"
)

// A name is text with expressions !{timestamp:PATTERN} (letters of Java's
// DateTimeFormatter, UTC), !{stream} and !{shard}.
type name []func(b *connector.Batch, t time.Time) string

func parseName(text string) (n name, err error) {
	for rest := text; rest != ""; {
		plain, expression, found := strings.Cut(rest, "!{")
		n = append(n, func(*connector.Batch, time.Time) string { return plain })
		if !found {
			return n, nil
		}
		body, after, closed := strings.Cut(expression, "}")
		if !closed {
			return nil, errors.New("!{ without }")
		}
		rest = after
		what, pattern, _ := strings.Cut(body, ":")
		switch {
		case what == "timestamp" && pattern != "":
			p, err := javatime.Java(pattern)
			if err != nil {
				return nil, fmt.Errorf("!{%s}: %w", body, err)
			}
			n = append(n, func(_ *connector.Batch, t time.Time) string { return string(p.Append(nil, t.UTC())) })
		case body == "stream":
			n = append(n, func(b *connector.Batch, _ time.Time) string { return streamName(b.Stream) })
		case body == "shard":
			n = append(n, func(b *connector.Batch, _ time.Time) string { return b.Shard })
		default:
			return nil, fmt.Errorf("!{%s}: want !{timestamp:PATTERN}, !{stream} or !{shard}", body)
		}
	}
	return n, nil
}

func (p *parse) name(member, text string) name {
	n, err := parseName(text)
	if err != nil {
		p.bad("%s: %w", member, err)
	}
	return n
}

// at is the name for what came at t.
func (n name) at(b *connector.Batch, t time.Time) string {
	var s strings.Builder
	for _, part := range n {
		s.WriteString(part(b, t))
	}
	return s.String()
}

// streamName is the name of a stream that may be given by its ARN.
func streamName(stream string) string { return stream[strings.LastIndexByte(stream, '/')+1:] }
