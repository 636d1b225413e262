package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Limits of provisioning templates (service quotas, fleet provisioning).
const (
	MaxTemplateBody     = 10240 // bytes
	MaxTemplateVersions = 5
	MaxTemplateText     = 500 // bytes of the description
)

var templateName = regexp.MustCompile(`^[0-9A-Za-z_-]{1,36}$`)

// A TemplateType says by whom a template is used.
type TemplateType string

// The types of templates.
const (
	FleetProvisioning TemplateType = "FLEET_PROVISIONING" // devices with a claim certificate
	JITP              TemplateType = "JITP"               // a CA, for certificates it has signed
)

// A Template says how a device's thing, certificate and policy are made. The
// registry keeps its bodies and does not read them.
type Template struct {
	Name        string            `json:"-"`
	Description string            `json:"description,omitempty"`
	Type        TemplateType      `json:"type"`
	Enabled     bool              `json:"enabled"`
	Role        string            `json:"role,omitempty"` // an ARN, kept and not used
	Hook        *Hook             `json:"hook,omitempty"` // asked before a device is provisioned
	Default     int               `json:"default"`        // version in force
	Next        int               `json:"next"`
	Versions    []TemplateVersion `json:"versions"` // in order
	Created     time.Time         `json:"created"`
	Modified    time.Time         `json:"modified"`
}

// A Hook is who is asked before a device is provisioned.
type Hook struct {
	Target         string `json:"target"` // an ARN
	PayloadVersion string `json:"payload_version,omitempty"`
}

// A TemplateVersion is one body of a template.
type TemplateVersion struct {
	Number  int       `json:"number"`
	Created time.Time `json:"created"`
}

func (tp *Template) check() error {
	switch {
	case !templateName.MatchString(tp.Name):
		return fmt.Errorf("provisioning template name %q: %w: want 1 to 36 of a-z A-Z 0-9 _ -", tp.Name, ErrInvalid)
	case tp.Type != FleetProvisioning && tp.Type != JITP:
		return fmt.Errorf("provisioning template %s: type %q: %w: want %s or %s", tp.Name, tp.Type, ErrInvalid,
			FleetProvisioning, JITP)
	case len(tp.Description) > MaxTemplateText:
		return fmt.Errorf("provisioning template %s: description of %d bytes, want at most %d: %w", tp.Name,
			len(tp.Description), MaxTemplateText, ErrInvalid)
	case tp.Hook != nil && tp.Type == JITP:
		return fmt.Errorf("provisioning template %s: %w: a JITP template has no hook", tp.Name, ErrInvalid)
	}
	return nil
}

// CreateTemplate makes a template of Name, Description, Type, Enabled, Role and
// Hook, with a body that the caller has checked. One of that name is ErrExists.
func (t *Tx) CreateTemplate(tp Template, body []byte) (Template, error) {
	if tp.Type == "" {
		tp.Type = FleetProvisioning
	}
	if err := tp.check(); err != nil {
		return tp, err
	}
	if t.has(bTemplates, tp.Name) {
		return tp, fmt.Errorf("provisioning template %s: %w", tp.Name, ErrExists)
	}
	now := t.reg.now().UTC()
	tp.Created, tp.Modified, tp.Next, tp.Versions = now, now, 1, nil
	n, err := t.addTemplateVersion(&tp, body)
	if err != nil {
		return tp, err
	}
	tp.Default = n
	return tp, t.put(bTemplates, tp.Name, &tp)
}

func (t *Tx) addTemplateVersion(tp *Template, body []byte) (int, error) {
	if len(body) > MaxTemplateBody {
		return 0, fmt.Errorf("provisioning template %s: body of %d bytes, want at most %d: %w", tp.Name, len(body),
			MaxTemplateBody, ErrInvalid)
	}
	if len(tp.Versions) >= MaxTemplateVersions {
		return 0, fmt.Errorf("provisioning template %s has %d versions: %w", tp.Name, len(tp.Versions), ErrLimit)
	}
	n := tp.Next
	tp.Next++
	tp.Versions = append(tp.Versions, TemplateVersion{n, t.reg.now().UTC()})
	return n, t.tx.Table(bTemplateBodies).Put(link(tp.Name, strconv.Itoa(n)), body)
}

// Template returns a provisioning template.
func (t *Tx) Template(name string) (Template, error) {
	tp := Template{Name: name}
	err := t.get(bTemplates, "provisioning template", name, &tp)
	return tp, err
}

// TemplateBody returns the body of a version, 0 for the default.
func (t *Tx) TemplateBody(name string, version int) ([]byte, error) {
	tp, err := t.Template(name)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		version = tp.Default
	}
	body := t.tx.Table(bTemplateBodies).Get(link(name, strconv.Itoa(version)))
	if body == nil {
		return nil, fmt.Errorf("provisioning template %s version %d: %w", name, version, ErrNotFound)
	}
	return bytes.Clone(body), nil
}

// UpdateTemplate gives a template what f makes of it: Description, Enabled,
// Role, Hook and Default count.
func (t *Tx) UpdateTemplate(name string, f func(*Template) error) error {
	tp, err := t.Template(name)
	if err != nil {
		return err
	}
	keep := tp
	if err := f(&tp); err != nil {
		return err
	}
	tp.Name, tp.Type, tp.Next, tp.Versions, tp.Created = keep.Name, keep.Type, keep.Next, keep.Versions, keep.Created
	if err := tp.check(); err != nil {
		return err
	}
	if !tp.has(tp.Default) {
		return fmt.Errorf("provisioning template %s version %d: %w", name, tp.Default, ErrNotFound)
	}
	tp.Modified = t.reg.now().UTC()
	return t.put(bTemplates, name, &tp)
}

func (tp *Template) has(version int) bool {
	return slices.ContainsFunc(tp.Versions, func(v TemplateVersion) bool { return v.Number == version })
}

// CreateTemplateVersion adds a body; more than MaxTemplateVersions is ErrLimit.
func (t *Tx) CreateTemplateVersion(name string, body []byte, setDefault bool) (number int, err error) {
	tp, err := t.Template(name)
	if err != nil {
		return 0, err
	}
	if number, err = t.addTemplateVersion(&tp, body); err != nil {
		return 0, err
	}
	if setDefault {
		tp.Default = number
	}
	tp.Modified = t.reg.now().UTC()
	return number, t.put(bTemplates, name, &tp)
}

// DeleteTemplateVersion deletes a body; the default one is ErrInUse.
func (t *Tx) DeleteTemplateVersion(name string, number int) error {
	tp, err := t.Template(name)
	if err != nil {
		return err
	}
	if !tp.has(number) {
		return fmt.Errorf("provisioning template %s version %d: %w", name, number, ErrNotFound)
	}
	if number == tp.Default {
		return fmt.Errorf("provisioning template %s version %d is the default: %w", name, number, ErrInUse)
	}
	tp.Versions = slices.DeleteFunc(tp.Versions, func(v TemplateVersion) bool { return v.Number == number })
	tp.Modified = t.reg.now().UTC()
	if err := t.tx.Table(bTemplateBodies).Delete(link(name, strconv.Itoa(number))); err != nil {
		return err
	}
	return t.put(bTemplates, name, &tp)
}

// DeleteTemplate deletes a template. With versions beside the default it is
// ErrInUse, as for AWS's DeleteProvisioningTemplate.
func (t *Tx) DeleteTemplate(name string) error {
	tp, err := t.Template(name)
	if err != nil {
		return err
	}
	if len(tp.Versions) > 1 {
		return fmt.Errorf("provisioning template %s has %d versions: delete those that are not the default: %w", name,
			len(tp.Versions), ErrInUse)
	}
	for _, v := range tp.Versions {
		if err := t.tx.Table(bTemplateBodies).Delete(link(name, strconv.Itoa(v.Number))); err != nil {
			return err
		}
	}
	if err := t.deleteTags("provisioningtemplate/" + name); err != nil {
		return err
	}
	return t.tx.Table(bTemplates).Delete([]byte(name))
}

// Templates lists provisioning templates by name; see Things.
func (t *Tx) Templates(after string, n int) (page []Template, next string, err error) {
	next, err = t.page(bTemplates, after, n, func(key string, raw []byte) (bool, error) {
		tp := Template{Name: key}
		if err := json.Unmarshal(raw, &tp); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, tp)
		return true, nil
	})
	return page, next, err
}
