package lambda

import (
	"cmp"
	"errors"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/lambda/store"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// directoryBucket is a bucket whose keys are folders of this machine, which are
// functions in the place of packages. LocalStack has it by this name.
const directoryBucket = "hot-reload"

// code is what a request brings. Its bytes are base64, which encoding/json reads.
type code struct {
	ZipFile                   []byte
	S3Bucket, S3Key           string
	S3ObjectVersion, ImageUri string
}

// read returns the code of a request. Who has it read from a bucket must have the right
// to read that object, as with AWS.
func (s *service) read(r *wire.Request, c code) (store.Code, error) {
	switch {
	case c.ImageUri != "":
		return store.Code{}, invalid("container images are not served here")
	case c.ZipFile != nil && c.S3Bucket == "":
		return store.Code{Zip: c.ZipFile}, nil
	case c.S3Bucket == "" || c.S3Key == "" || c.ZipFile != nil:
		return store.Code{}, invalid("Please provide a source for function code.")
	case c.S3Bucket == directoryBucket:
		return store.Code{Dir: c.S3Key}, nil
	case c.S3ObjectVersion != "":
		return store.Code{}, invalid("objects have no versions here")
	}
	if err := r.Authorize("s3:GetObject", arn.Bucket(c.S3Bucket+"/"+c.S3Key)); err != nil {
		return store.Code{}, err
	}
	zip, err := s.Object(r.Context(), c.S3Bucket, c.S3Key, store.MaxZip)
	if err != nil {
		return store.Code{}, invalid("Error occurred while GetObject. %w", err)
	}
	return store.Code{Zip: zip}, nil
}

// settings are those of CreateFunction and UpdateFunctionConfiguration; refusals has the others.
type settings struct {
	Description, Runtime, Handler, Role *string
	Timeout, MemorySize                 *int
	Environment                         *struct{ Variables map[string]string }
	RevisionId                          string
}

// configured is what a request has set, unless it asks for what is refused, or for a role
// that who asks may not give.
func (s *service) configured(r *wire.Request, in *settings) (store.Configuration, error) {
	c := store.Configuration{Description: in.Description, Runtime: in.Runtime, Handler: in.Handler, Role: in.Role,
		Timeout: in.Timeout, Memory: in.MemorySize}
	if in.Environment != nil {
		c.Environment = &in.Environment.Variables
	}
	if err := refused(r.Body); err != nil {
		return c, err
	}
	return c, s.passRole(r, ptr(in.Role))
}

// passRole returns an error if who asks may not give a function a role that has rights.
func (s *service) passRole(r *wire.Request, role string) error {
	if s.Granted == nil || !s.Granted(role) {
		return nil
	}
	return r.Authorize("iam:PassRole", role)
}

func (s *service) create(r *wire.Request) (any, error) {
	var in struct {
		settings
		FunctionName  string
		Code          code
		PackageType   string
		Publish       bool
		Architectures []string
		Tags          map[string]string
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if err := s.Functions.Isolated(); err != nil {
		return nil, err
	}
	name, qualifier, err := s.Store.Parse(in.FunctionName)
	switch {
	case err != nil:
		return nil, err
	case qualifier != "":
		return nil, invalid("FunctionName %.200q has a qualifier", in.FunctionName)
	case in.PackageType != "" && in.PackageType != "Zip":
		return nil, invalid("package type %.20q, want Zip", in.PackageType)
	}
	c, err := s.configured(r, &in.settings)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(ptr(in.Runtime), "provided") && in.Handler == nil {
		c.Handler = new("bootstrap")
	}
	from, err := s.read(r, in.Code)
	if err != nil {
		return nil, err
	}
	v, err := s.Store.Create(name, c, from, in.Publish, in.Tags)
	if err != nil {
		return nil, err
	}
	if len(in.Architectures) > 0 && in.Architectures[0] != v.Arch {
		return nil, errors.Join(invalid("architecture %.20q, this machine has %s", in.Architectures[0], v.Arch),
			s.Store.Delete(name, ""))
	}
	return s.describe(v, v.Version), nil
}

func ptr(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// A configuration is AWS's FunctionConfiguration.
type configuration struct {
	FunctionName, FunctionArn, Runtime, Role, Handler string
	CodeSize                                          int64
	Description                                       string
	Timeout, MemorySize                               int
	LastModified, CodeSha256, Version                 string
	Environment                                       any `json:",omitempty"`
	TracingConfig                                     any
	RevisionId                                        string
	State, LastUpdateStatus, PackageType              string
	Architectures                                     []string
	EphemeralStorage, SnapStart, LoggingConfig        any
}

// describe writes a version, asked for by a qualifier.
func (s *service) describe(v *store.Version, qualifier string) *configuration {
	if v.Version == store.Latest && qualifier == store.Latest {
		qualifier = ""
	}
	c := &configuration{
		FunctionName: v.Function, FunctionArn: s.Store.ARN(v.Function, qualifier), Runtime: v.Runtime, Role: v.Role,
		Handler: v.Handler, CodeSize: v.Size, Description: v.Description, Timeout: v.Timeout, MemorySize: v.Memory,
		LastModified: v.Modified.UTC().Format("2006-01-02T15:04:05.000+0000"), CodeSha256: v.CodeSHA256(),
		Version: v.Version, RevisionId: v.Revision, State: "Active", LastUpdateStatus: "Successful", PackageType: "Zip",
		Architectures: []string{v.Arch}, TracingConfig: map[string]string{"Mode": "PassThrough"},
		EphemeralStorage: map[string]int{"Size": 512},
		SnapStart:        map[string]string{"ApplyOn": "None", "OptimizationStatus": "Off"},
		LoggingConfig:    map[string]string{"LogFormat": "Text", "LogGroup": "/aws/lambda/" + v.Function},
	}
	if len(v.Environment) > 0 {
		c.Environment = map[string]any{"Variables": v.Environment}
	}
	return c
}

func (s *service) version(r *wire.Request) (*configuration, *store.Version, error) {
	name, qualifier, err := s.qualified(r)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.Store.Version(name, qualifier)
	if err != nil {
		return nil, nil, err
	}
	return s.describe(v, qualifier), v, nil
}

func (s *service) get(r *wire.Request) (any, error) {
	c, v, err := s.version(r)
	if err != nil {
		return nil, err
	}
	tags, err := s.Store.Tags(v.Function)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"Configuration": c, "Code": map[string]string{"RepositoryType": "Tidemill"}}
	if len(tags) > 0 {
		out["Tags"] = tags
	}
	if n, err := s.Store.Concurrency(v.Function); err == nil && n != nil {
		out["Concurrency"] = map[string]int{"ReservedConcurrentExecutions": *n}
	}
	return out, nil
}

func (s *service) configuration(r *wire.Request) (any, error) {
	c, _, err := s.version(r)
	return c, err
}

func (s *service) updateConfiguration(r *wire.Request) (any, error) {
	var in settings
	name, err := s.function(r)
	if err == nil {
		err = decode(r, &in)
	}
	if err != nil {
		return nil, err
	}
	c, err := s.configured(r, &in)
	if err != nil {
		return nil, err
	}
	v, err := s.Store.UpdateConfiguration(name, c, in.RevisionId)
	if err != nil {
		return nil, err
	}
	s.Functions.End(name)
	return s.describe(v, ""), nil
}

func (s *service) updateCode(r *wire.Request) (any, error) {
	var in struct {
		code
		Publish, DryRun bool
		RevisionId      string
	}
	name, err := s.function(r)
	if err == nil {
		err = decode(r, &in)
	}
	if err == nil {
		err = s.Functions.Isolated()
	}
	if err != nil {
		return nil, err
	}
	from, err := s.read(r, in.code)
	if err != nil {
		return nil, err
	}
	v, err := s.Store.UpdateCode(name, from, in.RevisionId, in.Publish, in.DryRun)
	if err != nil {
		return nil, err
	}
	s.Functions.End(name)
	return s.describe(v, v.Version), nil
}

func (s *service) list(r *wire.Request) (any, error) {
	all := s.Store.List()
	if r.Query.Get("FunctionVersion") == "ALL" {
		var every []*store.Version
		for _, v := range all {
			versions, err := s.Store.Versions(v.Function)
			if err == nil { // else it is gone meanwhile
				every = append(every, versions...)
			}
		}
		all = every
	}
	return s.describeAll(r, all, "Functions")
}

func (s *service) versions(r *wire.Request) (any, error) {
	name, err := s.function(r)
	if err != nil {
		return nil, err
	}
	all, err := s.Store.Versions(name)
	if err != nil {
		return nil, err
	}
	return s.describeAll(r, all, "Versions")
}

func (s *service) describeAll(r *wire.Request, all []*store.Version, member string) (any, error) {
	part, next, err := page(r, all)
	if err != nil {
		return nil, err
	}
	list := make([]*configuration, len(part))
	for i, v := range part {
		list[i] = s.describe(v, cmp.Or(v.Version, store.Latest))
	}
	out := map[string]any{member: list}
	if next != "" {
		out["NextMarker"] = next
	}
	return out, nil
}

func (s *service) delete(r *wire.Request) (any, error) {
	name, qualifier, err := s.qualified(r)
	if err != nil {
		return nil, err
	}
	if err := s.Store.Delete(name, qualifier); err != nil {
		return nil, err
	}
	s.Functions.End(name)
	return nil, nil
}

func (s *service) publish(r *wire.Request) (any, error) {
	var in struct {
		CodeSha256, Description string
		RevisionId              string
	}
	name, err := s.function(r)
	if err == nil {
		err = decode(r, &in)
	}
	if err != nil {
		return nil, err
	}
	v, err := s.Store.Publish(name, in.Description, in.CodeSha256, in.RevisionId)
	if err != nil {
		return nil, err
	}
	return s.describe(v, v.Version), nil
}
