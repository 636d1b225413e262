package awsapi

import (
	"fmt"
	"strconv"
)

// Whole completes the errors of a batch's parts: err is the whole call's. An
// answer that does not tell of each part is no answer to any, since those that it
// leaves out cannot be told.
func Whole(parts []error, answered int, err error) []error {
	if err == nil && answered == len(parts) {
		return parts
	}
	if err == nil {
		err = fmt.Errorf("an answer for %d parts of %d", answered, len(parts))
	}
	for i := range parts {
		parts[i] = err
	}
	return parts
}

// A FailedEntry is what the answer to a batch of SQS or SNS has of an entry that was
// not taken. The ID is its place in the batch, as the request named it.
type FailedEntry struct {
	ID            string `json:"Id" xml:"Id"`
	Code, Message string
	SenderFault   bool
}

// ByID is Whole of such an answer: successful entries were taken, failed were not.
func ByID(parts []error, successful int, failed []FailedEntry, err error) []error {
	answered := successful
	for _, f := range failed {
		i, notOurs := strconv.Atoi(f.ID)
		if notOurs == nil && i >= 0 && i < len(parts) && parts[i] == nil {
			parts[i] = &PartError{Code: f.Code, Message: f.Message, Sender: f.SenderFault}
			answered++
		}
	}
	return Whole(parts, answered, err)
}

// Bytes is data that is written as "" and not as null if there is none.
func Bytes(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
