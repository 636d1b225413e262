package action

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/tidemill/tidemill/bridge/speed/sink/kafka"
)

// kafkaTopic is a topic's name (Kafka's Topic class: legal characters).
var kafkaTopic = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// toKafka is the kafka action: the document becomes a record.
var toKafka = sentKind{
	name: "kafka",
	members: []member{
		{name: "destinationArn", form: text, required: true},
		{name: "topic", required: true},
		{name: "key"},
		{name: "partition"},
		{name: "headers", form: pairs, nested: &nested{key: "key", count: 100, mostKey: 16384,
			value: member{empty: true, most: 16384}}},
		{name: "clientProperties", form: properties, required: true,
			nested: &nested{count: 100, value: member{form: text, secret: true}}},
	},
	resource: "topic",
	check: func(p *parser) {
		set := kafka.Properties{}
		for _, x := range p.all(&member{name: "clientProperties", form: properties,
			nested: &nested{value: member{form: text}}}) {
			set[x.name[len("clientProperties/"):]] = x.value
		}
		if err := kafka.Check(set); err != nil {
			p.bad("clientProperties: %w", err)
		}
	},
	judge: func(d *Delivery) error {
		if err := d.judge("topic", isKafkaTopic); err != nil {
			return err
		}
		return d.judge("partition", func(text string) error {
			if n, err := strconv.ParseInt(text, 10, 32); err != nil || n < 0 {
				return fmt.Errorf("%.100q, want a number from 0", text)
			}
			return nil
		})
	},
	stage: func(d *Delivery) error {
		if n := d.Size(); n > kafka.MaxRecord {
			return fmt.Errorf("record of %d bytes, want at most %d", n, kafka.MaxRecord)
		}
		return nil
	},
}

func isKafkaTopic(t string) error {
	if !kafkaTopic.MatchString(t) || t == "." || t == ".." {
		return fmt.Errorf("%.100q, want 1 to 249 of a-z A-Z 0-9 . _ -", t)
	}
	return nil
}
