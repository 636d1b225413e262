// Package form judges the form of names. It is in the place of package regexp, which
// would be 100 KB of a device's program.
package form

// A Set is a set of ASCII bytes: pairs of the first and the last of a range.
type Set string

// Sets that several have.
const (
	Digits Set = "09"
	Lower  Set = "az"
	Hex    Set = "09afAF"
	Name   Set = "azAZ09__--"
	Thing  Set = Name + "::" // as AWS IoT has it for things
)

func (s Set) has(c byte) bool {
	for i := 0; i+1 < len(s); i += 2 {
		if s[i] <= c && c <= s[i+1] {
			return true
		}
	}
	return false
}

// Is says whether text is least to most bytes, all of the set.
func (s Set) Is(text string, least, most int) bool {
	_, rest := s.Cut(text)
	return rest == "" && least <= len(text) && len(text) <= most
}

// Cut cuts text after the bytes of the set that it begins with.
func (s Set) Cut(text string) (begin, rest string) {
	i := 0
	for i < len(text) && s.has(text[i]) {
		i++
	}
	return text[:i], text[i:]
}

// Replace puts with in the place of each run of bytes that are not of the set.
func (s Set) Replace(text string, with byte) string {
	var out []byte
	for i := range len(text) {
		switch {
		case s.has(text[i]):
			out = append(out, text[i])
		case i == 0 || s.has(text[i-1]):
			out = append(out, with)
		}
	}
	return string(out)
}

// Channel says whether a channel may have the name, as hal.Channel says.
func Channel(name string) bool {
	return Set("az09__").Is(name, 1, 32) && Lower.has(name[0])
}
