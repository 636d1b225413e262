// Package shadow is what a device shadow is on both ends: its document, the
// one merge, the delta, metadata, limits, topics and messages. It behaves as
// the AWS IoT Device Shadow service does where that is documented or has been
// observed, down to the texts of its errors.
//
// A JSON value is nil, bool, json.Number, string, []any or map[string]any, as
// Parse makes it, so that numbers stay as they were sent: 9007199254740993
// does not lose its last digit and 1.0 stays 1.0. Values are never changed
// once made; Merge and Document.Update return new trees that share what did
// not change. So a document may be read by several goroutines, and nobody may
// write to one that came from here.
//
// Points the public material leaves open, and what happens here:
//   - {} onto an object that has members changes nothing.
//   - An object left empty by removals stays as {}; an empty section goes.
//   - Numbers are compared by value: 1, 1.0 and 10e-1 are no difference.
//   - An update that names a version where no shadow is stored may name 0 or 1.
//   - A shadow made anew within 48 hours of its deletion at version N has
//     version N+2, later than that 1.
//   - A null clientToken or version counts as absent, an empty token too.
//   - The level of nesting counts arrays as well as objects.
package shadow
