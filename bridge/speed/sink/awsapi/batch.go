package awsapi

import "fmt"

// Whole completes the errors of a batch's parts: err is the whole call's. An
// answer that does not tell of each part is no answer to any, since those that it
// leaves out cannot be told.
func Whole(parts []error, told int, err error) []error {
	if err == nil && told == len(parts) {
		return parts
	}
	if err == nil {
		err = fmt.Errorf("an answer for %d parts of %d", told, len(parts))
	}
	for i := range parts {
		parts[i] = err
	}
	return parts
}
