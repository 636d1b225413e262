package telemetry

import "slices"

// Same says whether s and o are of one sensor and have the same columns.
func (s *Series) Same(o *Series) bool {
	return s.Sensor == o.Sensor && slices.EqualFunc(s.Columns, o.Columns, func(a, b Column) bool {
		return a.definition() == b.definition()
	})
}

// Empty returns a series as s is, without readings.
func (s *Series) Empty() Series {
	out := Series{Sensor: s.Sensor, Columns: make([]Column, len(s.Columns))}
	for i, c := range s.Columns {
		out.Columns[i] = Column{Name: c.Name, Unit: c.Unit, Kind: c.Kind}
	}
	return out
}

// Take adds reading i of from, of which s is the Same.
func (s *Series) Take(from *Series, i int) {
	row := len(s.Times)
	s.Times = append(s.Times, from.Times[i])
	for j := range s.Columns {
		v := Value{}
		switch c := &from.Columns[j]; {
		case c.Present != nil && !c.Present[i]:
		case c.Kind == Float:
			v = FloatValue(c.Floats[i])
		case c.Kind == Int:
			v = IntValue(c.Ints[i])
		case c.Kind == Bool:
			v = BoolValue(c.Bools[i])
		case c.Kind == Text:
			v = TextValue(c.Texts[i])
		}
		s.Columns[j].add(&v, row)
	}
}
