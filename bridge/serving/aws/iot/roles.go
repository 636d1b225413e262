package iot

import (
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

func (c *controlPlane) roleAliases() []operation {
	return []operation{
		{"CreateRoleAlias", "POST", "/role-aliases/:roleAlias", c.createAlias},
		{"DescribeRoleAlias", "GET", "/role-aliases/:roleAlias", c.describeAlias},
		{"UpdateRoleAlias", "PUT", "/role-aliases/:roleAlias", c.updateAlias},
		{"DeleteRoleAlias", "DELETE", "/role-aliases/:roleAlias", c.deleteAlias},
		{"ListRoleAliases", "GET", "/role-aliases", c.listAliases},
	}
}

type aliasRequest struct {
	Role string `json:"roleArn"`
	Life *int64 `json:"credentialDurationSeconds"`
	Tags []tag  `json:"tags"`
}

// life is a duration that JSON has in seconds; so many are none of a role alias.
func (in *aliasRequest) life() time.Duration {
	if in.Life == nil {
		return 0
	}
	return time.Duration(min(max(*in.Life, 1), 1<<20)) * time.Second
}

type aliasID struct {
	Name string `json:"roleAlias"`
	ARN  string `json:"roleAliasArn"`
}

func (c *controlPlane) aliasID(r *wire.Request) aliasID {
	return aliasID{r.Path("roleAlias"), c.arn(r, "rolealias", r.Path("roleAlias"))}
}

func (c *controlPlane) createAlias(r *wire.Request) (any, error) {
	var in aliasRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return c.aliasID(r), ofRoles.Update(r.Context(), c.registry, func(tx roleRecords) error {
		name := r.Path("roleAlias")
		if err := tx.CreateRoleAlias(registry.RoleAlias{Name: name, Role: in.Role, Life: in.life()}); err != nil {
			return err
		}
		return tx.Tag("rolealias/"+name, tagMap(in.Tags))
	})
}

func (c *controlPlane) describeAlias(r *wire.Request) (any, error) {
	var a registry.RoleAlias
	err := ofRoles.View(c.registry, func(tx roleRecords) (err error) {
		a, err = tx.RoleAlias(r.Path("roleAlias"))
		return err
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"roleAliasDescription": struct {
		aliasID
		Role     string  `json:"roleArn"`
		Owner    string  `json:"owner"`
		Life     int64   `json:"credentialDurationSeconds"`
		Created  float64 `json:"creationDate"`
		Modified float64 `json:"lastModifiedDate"`
	}{c.aliasID(r), a.Role, c.account, int64(a.Life / time.Second), seconds(a.Created), seconds(a.Modified)}}, nil
}

func (c *controlPlane) updateAlias(r *wire.Request) (any, error) {
	var in aliasRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return c.aliasID(r), ofRoles.Update(r.Context(), c.registry, func(tx roleRecords) error {
		return tx.UpdateRoleAlias(r.Path("roleAlias"), func(a *registry.RoleAlias) {
			if in.Role != "" {
				a.Role = in.Role
			}
			if in.Life != nil {
				a.Life = in.life()
			}
		})
	})
}

func (c *controlPlane) deleteAlias(r *wire.Request) (any, error) {
	return nil, ofRoles.Update(r.Context(), c.registry, func(tx roleRecords) error {
		return tx.DeleteRoleAlias(r.Path("roleAlias"))
	})
}

func (c *controlPlane) listAliases(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		Names []string `json:"roleAliases"`
		Next  string   `json:"nextMarker,omitempty"`
	}{Names: []string{}}
	err = ofRoles.View(c.registry, func(tx roleRecords) error {
		all, next, err := tx.RoleAliases(after, n)
		for _, a := range all {
			out.Names = append(out.Names, a.Name)
		}
		out.Next = token(next)
		return err
	})
	return out, err
}
