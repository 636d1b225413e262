package health

import (
	"math"
	"strconv"
	"strings"
)

// Metrics is a page in the Prometheus text format 0.0.4.
type Metrics struct{ b strings.Builder }

// Family begins a metric; kind is "counter" or "gauge".
func (m *Metrics) Family(name, kind, help string) {
	m.b.WriteString("# HELP " + name + " " + strings.NewReplacer("\\", `\\`, "\n", `\n`).Replace(help) + "\n# TYPE " +
		name + " " + kind + "\n")
}

// Sample adds a value of the family begun last; labels are pairs of name and
// value.
func (m *Metrics) Sample(name string, v float64, labels ...string) {
	m.b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		m.b.WriteByte("{,"[min(i, 1)])
		m.b.WriteString(labels[i] + `="` + strings.NewReplacer("\\", `\\`, "\n", `\n`, `"`, `\"`).Replace(labels[i+1]) +
			`"`)
	}
	if len(labels) > 1 {
		m.b.WriteByte('}')
	}
	m.b.WriteString(" " + number(v) + "\n")
}

// One adds a family of one sample without labels.
func (m *Metrics) One(name, kind, help string, v float64) {
	m.Family(name, kind, help)
	m.Sample(name, v)
}

// String returns the page.
func (m *Metrics) String() string { return m.b.String() }

func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
