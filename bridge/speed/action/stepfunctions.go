package action

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// Limits of StartExecution: the input's bytes, and what the name has room for
// before a UUID of 36 characters.
const (
	maxInput  = 262_144
	maxPrefix = 80 - 36
)

var machineName = regexp.MustCompile(`^[^\x00-\x20\x7f<>{}\[\]?*"#%\\^|~` + "`" + `$&,;:/]{1,80}$`)

// toMachine is the stepFunctions action: the document is the input of an
// execution, whose name is the prefix and the delivery's id.
var toMachine = sentKind{
	name: "stepFunctions",
	members: []member{
		{name: "stateMachineName", required: true},
		{name: "executionNamePrefix", empty: true},
	},
	resource: "stateMachineName",
	judge: func(d *Delivery) error {
		if err := d.judge("stateMachineName", isMachine); err != nil {
			return err
		}
		prefix := d.Parameter("executionNamePrefix")
		if len(prefix) > maxPrefix || strings.ContainsFunc(prefix, func(r rune) bool {
			return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("<>{}[]?*\"#%\\^|~`$&,;:/", r)
		}) {
			return fmt.Errorf("executionNamePrefix: %.100q, want at most %d bytes without white space and "+
				"<>{}[]?*\"#%%\\^|~`$&,;:/", prefix, maxPrefix)
		}
		return nil
	},
	stage: func(d *Delivery) error { return d.jsonData(maxInput) },
}

func isMachine(name string) error {
	if !machineName.MatchString(name) {
		return fmt.Errorf("%.100q is no name of a state machine", name)
	}
	return nil
}
