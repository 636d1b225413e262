package gateway

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A LimitError says that what a client asks for is over a limit of Config.
type LimitError struct {
	Limit string // the member of Config
	Got   string // what the client asked for
	Most  int    // what it may
}

func (e *LimitError) Error() string { return fmt.Sprintf("%s, at most %d", e.Got, e.Most) }

func over(limit string, most int, got string, args ...any) error {
	return &LimitError{limit, fmt.Sprintf(got, args...), most}
}

// withinLimits checks the configured size of a name or filter, without the
// prefix $aws/rules/{rule}/. The error is a LimitError.
func (c *Config) withinLimits(t string) error {
	if _, rest, ok := topic.CutRule(t); ok && rest != "" {
		t = rest
	}
	if c.MaxTopic > 0 && len(t) > c.MaxTopic {
		return over("MaxTopic", c.MaxTopic, "a topic or filter of %d bytes", len(t))
	}
	if n := topic.Levels(t) - 1; c.MaxSlashes > 0 && n > c.MaxSlashes {
		return over("MaxSlashes", c.MaxSlashes, "a topic or filter with %d slashes", n)
	}
	return nil
}

// validName says why nobody may publish to a topic of this name.
func (c *Config) validName(name string) error {
	if err := topic.ValidName(name); err != nil {
		return fmt.Errorf("%w: topic %.64q: %w", packet.ErrMalformed, name, err)
	}
	return c.withinLimits(name)
}
