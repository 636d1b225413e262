package declare

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// A declaration is what a file of streams or delivery streams asks for.
type declaration struct {
	name  string
	apply func() error
}

// applyStreams applies the files of a folder and notes in now what became of
// each. Two files that take turns would be a mistake.
func (d *Dir) applyStreams(files []file, parse func([]byte) (declaration, error), all bool, now map[string]outcome) {
	from := map[string]string{}
	for _, f := range files {
		old := d.applied[f.path]
		n := outcome{sum: f.sum, err: f.err}
		var decl declaration
		switch {
		case f.err != nil:
		case !all && old.sum == f.sum && old.err == nil:
			decl = declaration{old.name, func() error { return nil }}
		default:
			decl, n.err = parse(f.doc)
		}
		if other := from[decl.name]; n.err == nil && other != "" {
			n.err = takenError{fmt.Errorf("%s is in %s already", decl.name, other)}
		}
		if n.err == nil {
			n.name, from[decl.name] = decl.name, f.path
			n.err = decl.apply()
		}
		if n.err == nil {
			n.holds = 1
		} else {
			n.name, n.holds = old.name, old.holds
		}
		now[f.path] = n
	}
}

func (d *Dir) parseTable(doc []byte) (declaration, error) {
	t, err := catalogue.Parse(doc)
	if err != nil {
		return declaration{}, err
	}
	return declaration{t.Key(), func() error { d.opts.Tables.Put(t); return nil }}, nil
}

// keepTables ends the tables that no file of dir declares any more.
func (d *Dir) keepTables(dir string, now map[string]outcome) {
	keys := map[string]bool{}
	for path, o := range now {
		if filepath.Dir(path) == dir && o.holds > 0 {
			keys[o.name] = true
		}
	}
	d.opts.Tables.Keep(keys)
}

func (d *Dir) parseDelivery(doc []byte) (declaration, error) {
	c, err := firehose.Parse(doc)
	if err != nil {
		return declaration{}, err
	}
	return declaration{c.Name, func() error { return d.opts.DeliveryStreams.Declare(c) }}, nil
}

// parseStream reads CreateStream's members and RetentionPeriodHours of
// IncreaseStreamRetentionPeriod. A ShardCount that differs from what the file
// said before is brought about as by UpdateShardCount, but at once, whatever
// the difference.
func (d *Dir) parseStream(doc []byte) (declaration, error) {
	var in struct {
		StreamName           string
		ShardCount           *int32
		StreamModeDetails    *kinesis.StreamModeDetails
		Tags                 map[string]string
		MaxRecordSizeInKiB   *int32
		RetentionPeriodHours *int
	}
	if err := strictjson.Decode(doc, &in); err != nil {
		return declaration{}, err
	}
	k := kinesis.Declaration{StreamName: in.StreamName, ShardCount: in.ShardCount,
		StreamModeDetails: in.StreamModeDetails,
		Tags:              in.Tags, MaxRecordSizeInKiB: in.MaxRecordSizeInKiB}
	if h := in.RetentionPeriodHours; h != nil {
		if *h < 24 || *h > 8760 {
			return declaration{}, fmt.Errorf("RetentionPeriodHours: %d, want 24 to 8760", *h)
		}
		keep := time.Duration(*h) * time.Hour
		k.Retention = &keep
	}
	return declaration{in.StreamName, func() error { return d.declareStream(k) }}, nil
}

// declareStream has a mistake of the file told without the API's code for it.
func (d *Dir) declareStream(k kinesis.Declaration) error {
	err := d.opts.Streams.Declare(k)
	if e, ok := errors.AsType[*kinesis.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}
