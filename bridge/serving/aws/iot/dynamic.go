package iot

import (
	"fmt"
	"net/http"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// dynamicRequest reads the request of a dynamic group. text is its query, ""
// where there is none.
func (c *controlPlane) dynamicRequest(r *wire.Request) (in groupRequest, text string, err error) {
	q := queryRequest{Index: index.Things}
	if err := decode(r, &in); err != nil {
		return in, "", err
	}
	if err := decode(r, &q); err != nil {
		return in, "", err
	}
	if q.Index != index.Things {
		return in, "", fmt.Errorf("%w: indexName %.100q, want %s", registry.ErrInvalid, q.Index, index.Things)
	}
	if q.Query != "" {
		_, err = parseQuery(q.Query, q.Version)
	}
	return in, q.Query, err
}

func (c *controlPlane) createDynamicGroup(r *wire.Request) (any, error) {
	in, text, err := c.dynamicRequest(r)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, fmt.Errorf("%w: no queryString", registry.ErrInvalid)
	}
	if c.index.Status(index.Things) == index.Off {
		return nil, fmt.Errorf("%w: things are not indexed; see UpdateIndexingConfiguration", registry.ErrInvalid)
	}
	if c.index.Stats().DynamicGroups >= index.MaxDynamicGroups {
		return nil, wire.Errorf(http.StatusGone, "LimitExceededException", // as AWS has it
			"there are %d dynamic thing groups already", index.MaxDynamicGroups)
	}
	g, err := c.makeGroup(r, &in, registry.Group{Query: text})
	if err != nil {
		return nil, err
	}
	return struct {
		groupAnswer
		Index   string `json:"indexName"`
		Query   string `json:"queryString"`
		Version string `json:"queryVersion"`
	}{c.groupAnswer(r, &g), index.Things, g.Query, queryVersion}, nil
}

func (c *controlPlane) updateDynamicGroup(r *wire.Request) (any, error) {
	in, text, err := c.dynamicRequest(r)
	if err != nil {
		return nil, err
	}
	return c.changeGroup(r, &in, func(g *registry.Group) error {
		if g.Query == "" {
			return notDynamic(g.Name)
		}
		if text != "" {
			g.Query = text
		}
		return nil
	})
}
