package sqs

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/queue"
)

// A value is that of a message's attribute.
type value struct {
	DataType    *string `aws:"required"`
	StringValue *string
	BinaryValue []byte
}

// A sent is a message as it is sent.
type sent struct {
	MessageBody            *string `aws:"required"`
	DelaySeconds           *int32
	MessageAttributes      map[string]value
	MessageDeduplicationId *string
	MessageGroupId         *string
}

type sendInput struct {
	byURL
	sent
}

type sendOutput struct {
	MD5OfMessageBody       string
	MD5OfMessageAttributes *string
	MessageId              string
	SequenceNumber         *string
}

func (x *service) send(r *wire.Request, in *sendInput) (*sendOutput, error) {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return nil, err
	}
	m, err := in.message(r)
	if err != nil {
		return nil, err
	}
	if err := q.Send(r.Context(), []*queue.Message{m})[0]; err != nil {
		return nil, err
	}
	out := answer(q, m)
	return &out, nil
}

// message is what was sent as the queue has it.
func (s *sent) message(r *wire.Request) (*queue.Message, error) {
	m := &queue.Message{Body: *s.MessageBody, Delay: seconds(s.DelaySeconds, 0), Group: text(s.MessageGroupId),
		DedupID: text(s.MessageDeduplicationId), Sender: r.Caller.Principal()}
	for name, v := range s.MessageAttributes {
		kind, _, _ := strings.Cut(*v.DataType, ".")
		a := queue.Attribute{Type: *v.DataType, Value: v.BinaryValue}
		switch {
		case kind == "String" && v.StringValue != nil, kind == "Number" && v.StringValue != nil:
			a.Value = []byte(*v.StringValue)
		case kind != "Binary" || v.BinaryValue == nil:
			return nil, fmt.Errorf("%w: message attribute %.100q: want String, Number or Binary, and a value of it",
				queue.ErrInvalid, name)
		}
		if m.Attributes == nil {
			m.Attributes = map[string]queue.Attribute{}
		}
		m.Attributes[name] = a
	}
	return m, nil
}

func answer(q *queue.Queue, m *queue.Message) sendOutput {
	out := sendOutput{MD5OfMessageBody: sum(m.Body), MessageId: m.ID, MD5OfMessageAttributes: sumOf(m.Attributes)}
	if queue.FIFO(q.Name()) {
		out.SequenceNumber = sequence(m.Sequence)
	}
	return out
}

// sequence is 20 digits, as AWS's.
func sequence(n uint64) *string {
	s := fmt.Sprintf("%020d", n)
	return &s
}

func sum(s string) string {
	h := md5.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

// sumOf is the MD5 of attributes, by their names: of each the name, the type and the
// value, with their lengths in four bytes before them, and between them 1 for a
// text and 2 for bytes (SQS developer guide, message metadata).
func sumOf(attributes map[string]queue.Attribute) *string {
	if len(attributes) == 0 {
		return nil
	}
	var b []byte
	add := func(s []byte) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		add([]byte(name))
		add([]byte(a.Type))
		if strings.HasPrefix(a.Type, "Binary") {
			b = append(b, 2)
		} else {
			b = append(b, 1)
		}
		add(a.Value)
	}
	s := sum(string(b))
	return &s
}

// A failure is an entry of a batch that was not done.
type failure struct {
	Id          string
	SenderFault bool
	Code        string
	Message     *string
}

// faults are the errors that are the sender's.
var faults = map[error]string{queue.ErrInvalid: "InvalidParameterValue", queue.ErrHandle: "ReceiptHandleIsInvalid",
	queue.ErrInFlight: "OverLimit"}

func failed(id string, err error) failure {
	for target, code := range faults {
		if errors.Is(err, target) {
			message := err.Error()
			return failure{Id: id, SenderFault: true, Code: code, Message: &message}
		}
	}
	message := "the message could not be stored, try again" // why stands in the bridge's log
	return failure{Id: id, Code: "InternalError", Message: &message}
}

// distinct checks the ids of a batch.
func distinct(ids []string) error {
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			return wire.Errorf(http.StatusBadRequest, "BatchEntryIdsNotDistinct", "Id %.100s repeated.", id)
		}
		seen[id] = true
	}
	switch {
	case len(ids) == 0:
		return wire.Errorf(http.StatusBadRequest, "EmptyBatchRequest",
			"There should be at least one entry in the request.")
	case len(ids) > queue.MaxReceive:
		return wire.Errorf(http.StatusBadRequest, "TooManyEntriesInBatchRequest",
			"Maximum number of entries per request are %d. You have sent %d.", queue.MaxReceive, len(ids))
	}
	return nil
}

type sendEntry struct {
	Id *string `aws:"required"`
	sent
}

type sendBatchInput struct {
	byURL
	Entries []sendEntry `aws:"required"`
}

type sendBatchSuccess struct {
	Id string
	sendOutput
}

type sendBatchOutput struct {
	Successful []sendBatchSuccess `aws:"required"`
	Failed     []failure
}

func (x *service) sendBatch(r *wire.Request, in *sendBatchInput) (*sendBatchOutput, error) {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return nil, err
	}
	var ids, of []string
	var ms []*queue.Message
	out := &sendBatchOutput{}
	size := 0
	for i := range in.Entries {
		e := &in.Entries[i]
		ids = append(ids, *e.Id)
		size += len(*e.MessageBody)
		m, err := e.message(r)
		if err != nil {
			out.Failed = append(out.Failed, failed(*e.Id, err))
			continue
		}
		ms, of = append(ms, m), append(of, *e.Id)
	}
	if err := distinct(ids); err != nil {
		return nil, err
	}
	if size > queue.MaxMessage {
		return nil, wire.Errorf(http.StatusBadRequest, "BatchRequestTooLong",
			"Batch requests cannot be longer than %d bytes. You have sent %d bytes.", queue.MaxMessage, size)
	}
	for i, err := range q.Send(r.Context(), ms) {
		if err != nil {
			out.Failed = append(out.Failed, failed(of[i], err))
		} else {
			out.Successful = append(out.Successful, sendBatchSuccess{of[i], answer(q, ms[i])})
		}
	}
	return out, nil
}

type receiveInput struct {
	byURL
	MaxNumberOfMessages         *int32 `aws:"min=1,max=10"`
	VisibilityTimeout           *int32 `aws:"min=0,max=43200"`
	WaitTimeSeconds             *int32 `aws:"min=0,max=20"`
	MessageAttributeNames       []string
	AttributeNames              []string
	MessageSystemAttributeNames []string
	ReceiveRequestAttemptId     *string
}

type received struct {
	MessageId              string
	ReceiptHandle          string
	MD5OfBody              string
	Body                   string
	Attributes             map[string]string
	MD5OfMessageAttributes *string
	MessageAttributes      map[string]value
}

type receiveOutput struct{ Messages []received }

func (x *service) receive(r *wire.Request, in *receiveInput) (*receiveOutput, error) {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return nil, err
	}
	n, c := 1, q.Config()
	if in.MaxNumberOfMessages != nil {
		n = int(*in.MaxNumberOfMessages)
	}
	got, err := q.Receive(r.Context(), n, seconds(in.VisibilityTimeout, c.VisibilityTimeout),
		seconds(in.WaitTimeSeconds, c.Wait))
	if err != nil {
		return nil, err
	}
	out := &receiveOutput{}
	for _, g := range got {
		m := received{MessageId: g.ID, ReceiptHandle: g.Receipt, MD5OfBody: sum(g.Body), Body: g.Body,
			Attributes: system(&g, append(in.AttributeNames, in.MessageSystemAttributeNames...))}
		asked := maps.Clone(g.Attributes)
		maps.DeleteFunc(asked, func(name string, _ queue.Attribute) bool {
			return !named(in.MessageAttributeNames, name)
		})
		m.MD5OfMessageAttributes = sumOf(asked)
		for name, a := range asked {
			if m.MessageAttributes == nil {
				m.MessageAttributes = map[string]value{}
			}
			v := value{DataType: &a.Type}
			if strings.HasPrefix(a.Type, "Binary") {
				v.BinaryValue = a.Value
			} else {
				s := string(a.Value)
				v.StringValue = &s
			}
			m.MessageAttributes[name] = v
		}
		out.Messages = append(out.Messages, m)
	}
	return out, nil
}

// named says whether names have a name: as it is, all, or by its beginning.
func named(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		begin, all := strings.CutSuffix(n, ".*")
		return n == name || n == "All" || all && strings.HasPrefix(name, begin)
	})
}

// system are the attributes that the service keeps of a message.
func system(g *queue.Received, names []string) map[string]string {
	all := map[string]string{
		"SenderId":                         g.Sender,
		"SentTimestamp":                    strconv.FormatInt(g.Sent.UnixMilli(), 10),
		"ApproximateReceiveCount":          strconv.Itoa(g.Times),
		"ApproximateFirstReceiveTimestamp": strconv.FormatInt(g.First.UnixMilli(), 10),
	}
	if g.Group != "" {
		all["MessageGroupId"] = g.Group
	}
	if g.DedupID != "" {
		all["MessageDeduplicationId"], all["SequenceNumber"] = g.DedupID, *sequence(g.Sequence)
	}
	if !slices.Contains(names, "All") {
		maps.DeleteFunc(all, func(name, _ string) bool { return !slices.Contains(names, name) })
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// A receipt names a message that was received.
type receipt struct {
	ReceiptHandle *string `aws:"required"`
}

type deleteInput struct {
	byURL
	receipt
}

func (x *service) deleteMessage(r *wire.Request, in *deleteInput) error {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return err
	}
	return q.Delete(r.Context(), []string{*in.ReceiptHandle})[0]
}

type visibilityInput struct {
	byURL
	receipt
	VisibilityTimeout *int32 `aws:"required"`
}

func (x *service) changeVisibility(_ *wire.Request, in *visibilityInput) error {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return err
	}
	return q.Hide(*in.ReceiptHandle, time.Duration(*in.VisibilityTimeout)*time.Second)
}

// An entry of a batch about messages that were received.
type entry struct {
	Id *string `aws:"required"`
	receipt
	VisibilityTimeout *int32
}

type batchInput struct {
	byURL
	Entries []entry `aws:"required"`
}

type success struct{ Id string }

type batchOutput struct {
	Successful []success `aws:"required"`
	Failed     []failure
}

func (in *batchInput) check() (ids, receipts []string, err error) {
	for i := range in.Entries {
		ids, receipts = append(ids, *in.Entries[i].Id), append(receipts, *in.Entries[i].ReceiptHandle)
	}
	return ids, receipts, distinct(ids)
}

func (out *batchOutput) add(id string, err error) {
	if err == nil {
		out.Successful = append(out.Successful, success{id})
		return
	}
	out.Failed = append(out.Failed, failed(id, err))
}

func (x *service) deleteBatch(r *wire.Request, in *batchInput) (*batchOutput, error) {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return nil, err
	}
	ids, receipts, err := in.check()
	if err != nil {
		return nil, err
	}
	out := &batchOutput{}
	for i, err := range q.Delete(r.Context(), receipts) {
		out.add(ids[i], err)
	}
	return out, nil
}

func (x *service) changeVisibilityBatch(_ *wire.Request, in *batchInput) (*batchOutput, error) {
	q, err := x.queue(&in.byURL)
	if err != nil {
		return nil, err
	}
	ids, receipts, err := in.check()
	if err != nil {
		return nil, err
	}
	out := &batchOutput{}
	for i := range in.Entries {
		out.add(ids[i], q.Hide(receipts[i], seconds(in.Entries[i].VisibilityTimeout, 0)))
	}
	return out, nil
}
