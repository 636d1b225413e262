package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
)

// invalid is a document's error; no secret is in it.
func invalid(err error) *Error { return errorf(InvalidArgument, "%.4000s", err.Error()) }

// Create is CreateDeliveryStream: body is its document, in holds what is left to
// check of it.
func (s *Service) Create(_ context.Context, region string, in *CreateInput, body []byte) (*CreateOutput, error) {
	c, err := s.parse(in.Name(), body)
	if err != nil {
		return nil, err
	}
	tags, err := addTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	_, there := s.states[c.Name]
	many := len(s.states) >= s.opts.MaxStreams
	s.mu.Unlock()
	switch {
	case s.unread[c.Name]:
		return nil, errorf(ResourceInUse, "Firehose %s under accountId %s already exists and cannot be read or run: "+
			"the bridge's log says why. Mend that, or delete it.", c.Name, s.opts.Account)
	case there || s.streams.Config(c.Name) != nil:
		return nil, errorf(ResourceInUse, "Firehose %s under accountId %s already exists", c.Name, s.opts.Account)
	case many:
		return nil, errorf(LimitExceeded, "There are %d delivery streams, which is the most.", s.opts.MaxStreams)
	}
	// Its buffer comes with it; a crash before its state is kept leaves that alone.
	if err := s.streams.Apply(c); err != nil {
		return nil, err
	}
	st := &state{Document: compact(body), Version: 1, Created: s.opts.Now().UnixMilli(), Tags: tags}
	st.encrypt(body)
	if err := s.keep(c.Name, st); err != nil {
		return nil, err
	}
	arn := s.ARN(region, c.Name)
	return &CreateOutput{&arn}, nil
}

// parse reads and checks the document of the delivery stream name, for which the
// caller has the right: another reader of JSON may find another name in it, if it has
// one twice, or once in other letters.
func (s *Service) parse(name string, doc []byte) (*firehose.Config, error) {
	c, err := firehose.ParseRequest(doc)
	if err == nil {
		err = s.streams.Check(c)
	}
	if err == nil && c.Name != name {
		err = fmt.Errorf("DeliveryStreamName: it is there twice: %q and %q", name, c.Name)
	}
	if err != nil {
		return nil, invalid(err)
	}
	return c, nil
}

// compact leaves out of a document what is kept beside it.
func compact(body []byte) json.RawMessage {
	var doc map[string]json.RawMessage
	if json.Unmarshal(body, &doc) != nil {
		return body
	}
	delete(doc, "Tags")
	delete(doc, "DeliveryStreamEncryptionConfigurationInput")
	raw, err := json.Marshal(doc)
	if err != nil {
		return body
	}
	return raw
}

// encrypt notes what was said of encryption: it is seen and has no effect.
func (st *state) encrypt(body []byte) {
	var doc struct {
		DeliveryStreamEncryptionConfigurationInput *struct{ KeyARN, KeyType string }
	}
	if json.Unmarshal(body, &doc) == nil && doc.DeliveryStreamEncryptionConfigurationInput != nil {
		e := doc.DeliveryStreamEncryptionConfigurationInput
		st.Encryption, st.KeyARN, st.KeyType = "ENABLED", e.KeyARN, e.KeyType
	}
}

// Describe is DescribeDeliveryStream. There is one destination.
func (s *Service) Describe(_ context.Context, region string, in *DescribeInput) (*Description, error) {
	f, err := s.find(in.Name())
	if err != nil {
		return nil, err
	}
	c := f.config
	d := &Description{Name: c.Name, ARN: s.ARN(region, c.Name), Status: f.status, Type: "DirectPut",
		Version: strconv.Itoa(c.Version), Encryption: "DISABLED"}
	if st := f.state; st != nil {
		d.Created, d.Version = time.UnixMilli(st.Created), strconv.Itoa(st.Version)
		if st.Updated > 0 {
			d.Updated = time.UnixMilli(st.Updated)
		}
		if st.Encryption != "" {
			d.Encryption, d.KeyARN, d.KeyType = st.Encryption, st.KeyARN, st.KeyType
		}
	} else if info, err := s.log.Describe(firehose.StreamName(c.Name)); err == nil {
		d.Created = info.Created
	}
	if !c.Source.Direct() {
		d.Type, d.SourceARN, d.SourceStart = "KinesisStreamAsSource", c.Source.ARN, d.Created
		_ = json.Unmarshal(c.Kept["KinesisStreamSourceConfiguration.RoleARN"], &d.SourceRole) // else there is none
	}
	if in.ExclusiveStartDestinationId == nil {
		d.Destination, err = described(c)
	}
	return d, err
}

// List is ListDeliveryStreams, by name.
func (s *Service) List(_ context.Context, in *ListInput) (*ListOutput, error) {
	limit := 10
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	out := &ListOutput{HasMoreDeliveryStreams: new(bool)}
	for _, name := range s.names() {
		if in.ExclusiveStartDeliveryStreamName != nil && name <= *in.ExclusiveStartDeliveryStreamName {
			continue
		}
		if c := s.streams.Config(name); in.DeliveryStreamType != nil && c != nil &&
			c.Source.Direct() != (*in.DeliveryStreamType == "DirectPut") {
			continue
		}
		if len(out.DeliveryStreamNames) == limit {
			*out.HasMoreDeliveryStreams = true
			break
		}
		out.DeliveryStreamNames = append(out.DeliveryStreamNames, name)
	}
	return out, nil
}

func (s *Service) names() []string {
	names := s.streams.Names()
	s.mu.Lock()
	for name := range s.states {
		names = append(names, name)
	}
	s.mu.Unlock()
	slices.Sort(names)
	return slices.Compact(names)
}

// destinationID is that of the one destination.
const destinationID = "destinationId-000000000001"

// Update is UpdateDestination; body is its document.
func (s *Service) Update(_ context.Context, in *UpdateInput, body []byte) (*Empty, error) {
	err := s.change(in.Name(), func(f found, st *state) error {
		switch {
		case f.status != active:
			return errorf(ResourceInUse, "Firehose %s under account %s is not in ACTIVE state.", in.Name(),
				s.opts.Account)
		case *in.CurrentDeliveryStreamVersionId != strconv.Itoa(st.Version):
			return errorf(ConcurrentModification, "Cannot update firehose: %s since the current version id: %d and "+
				"specified version id: %s do not match", in.Name(), st.Version, *in.CurrentDeliveryStreamVersionId)
		case *in.DestinationId != destinationID:
			return errorf(InvalidArgument, "Destination Id %s not found", *in.DestinationId)
		}
		doc, err := updated(st.Document, body)
		if err != nil {
			return invalid(err)
		}
		c, err := s.parse(in.Name(), doc)
		if err != nil {
			return err
		}
		if err := mayFollow(f.config, c); err != nil {
			return err
		}
		st.Document, st.Version, st.Updated = doc, st.Version+1, s.opts.Now().UnixMilli()
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	st := s.states[in.Name()]
	s.mu.Unlock()
	if st == nil || st.Deleting > 0 {
		return &Empty{}, nil
	}
	return &Empty{}, s.run(st)
}

// mayFollow says what does not change once a delivery stream is there.
func mayFollow(old, next *firehose.Config) error {
	search := func(c *firehose.Config) bool { return c.Search != nil }
	switch {
	case search(old) != search(next) || search(old) && old.Kind != next.Kind:
		return errorf(InvalidArgument, "A destination cannot change to or from a search service.")
	case (old.Partitioning == nil) != (next.Partitioning == nil):
		return errorf(InvalidArgument, "Dynamic partitioning is switched on when a delivery stream is made, or "+
			"not at all.")
	case old.SourceBackup != nil && next.SourceBackup == nil && old.Kind == next.Kind:
		return errorf(InvalidArgument, "S3BackupMode cannot be switched off.")
	case old.BackupAll != next.BackupAll && old.Kind == next.Kind:
		return errorf(InvalidArgument, "S3BackupMode cannot be changed.")
	}
	return nil
}

// Delete is DeleteDeliveryStream. What is buffered goes with it.
func (s *Service) Delete(ctx context.Context, in *DeleteInput) (*Empty, error) {
	if unread, err := s.deleteUnread(ctx, in.Name()); unread || err != nil {
		return &Empty{}, err
	}
	err := s.change(in.Name(), func(f found, st *state) error {
		if st.Deleting == 0 {
			st.Deleting = s.opts.Now().UnixMilli()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.opts.Delay == 0 {
		s.end(ctx)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return &Empty{}, nil
}

// deleteUnread deletes at once a delivery stream that is kept and cannot be run, if
// name is that of one.
func (s *Service) deleteUnread(ctx context.Context, name string) (unread bool, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if !s.unread[name] {
		return false, nil
	}
	if err := s.streams.Remove(ctx, name); err != nil {
		return true, err
	}
	delete(s.unread, name)
	return true, nil
}

// StartEncryption is StartDeliveryStreamEncryption: it is seen and has no effect.
func (s *Service) StartEncryption(_ context.Context, in *StartEncryptionInput) (*Empty, error) {
	return &Empty{}, s.change(in.Name(), func(_ found, st *state) error {
		st.Encryption, st.KeyType, st.KeyARN = "ENABLED", "AWS_OWNED_CMK", ""
		if e := in.DeliveryStreamEncryptionConfigurationInput; e != nil {
			st.KeyType = *e.KeyType
			if e.KeyARN != nil {
				st.KeyARN = *e.KeyARN
			}
		}
		return nil
	})
}

// StopEncryption is StopDeliveryStreamEncryption.
func (s *Service) StopEncryption(_ context.Context, in *StopEncryptionInput) (*Empty, error) {
	return &Empty{}, s.change(in.Name(), func(_ found, st *state) error {
		st.Encryption, st.KeyType, st.KeyARN = "DISABLED", "", ""
		return nil
	})
}
