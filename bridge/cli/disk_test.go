package cli

import (
	"bytes"
	"testing"

	"github.com/tidemill/tidemill/bridge/disk"
)

func TestDiskTable(t *testing.T) {
	var out bytes.Buffer
	c := &call{stdout: &out}
	err := c.showDisk(disk.Status{Dir: "data", Size: 10 << 30, Free: 1 << 30, Reserve: 2 << 30, Used: 3 << 20,
		Parts: []disk.Use{{Name: "log", Used: 3 << 20, Limit: 4 << 20}, {Name: "wal", Of: "log", Used: 1 << 20}},
		Full:  []string{"disk.log"}, Refused: "data", Why: "little\nroom"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `PART     USED     LIMIT    OF IT
disk     9.0 GiB  8.0 GiB  112 %
bridge   3.0 MiB           
log      3.0 MiB  4.0 MiB  75 %
log/wal  1.0 MiB           

1.0 GiB of data are free, 2.0 GiB stay so
80 % are used of disk.log
refused: data: little\nroom
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}
