package kinesis

import (
	"encoding/base64"
	"encoding/json"
	"time"
)

const (
	tokenLife = 300 * time.Second
	tokenMax  = 2048 // characters; the longest that we make has about 700
)

// A token is where a list goes on: the string that clients get is all there is
// of it. It is not secret; what it says is checked as a request would be.
type token struct {
	Op     string `json:"o"`
	Issued int64  `json:"t"`           // epoch ms
	Stream string `json:"s,omitempty"` // its name, and
	ID     uint32 `json:"i,omitempty"` // incarnation
	After  string `json:"a"`           // the last item given
	Filter string `json:"f,omitempty"` // of ListShards: its type, and
	At     int64  `json:"m,omitempty"` // time, epoch ms
}

func (a API) issue(t token) *string {
	t.Issued = a.s.now().UnixMilli()
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // of strings and numbers
	}
	s := base64.StdEncoding.EncodeToString(b)
	return &s
}

// redeem reads the token of an operation.
func (a API) redeem(op, s string) (token, error) {
	var t token
	invalid := errorf(InvalidArgument, "NextToken is invalid.")
	if len(s) > tokenMax {
		return t, invalid
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || json.Unmarshal(b, &t) != nil || t.Op != op || t.Issued < 0 {
		return token{}, invalid
	}
	now := a.s.now().UnixMilli()
	switch {
	case t.Issued > now+tokenLife.Milliseconds(): // a clock may go back a little
		return token{}, invalid
	case now-t.Issued > tokenLife.Milliseconds():
		return token{}, errorf(ExpiredNextToken, "NextToken has expired. A token is good for %d seconds.",
			int(tokenLife.Seconds()))
	}
	return t, nil
}
