// Command flashbench measures what is written to a card for each reading, by the agent's
// spool and by Telegraf's disk buffer, with the same readings. "process" is what the
// kernel counts for the program (ru_oublock, getrusage(2)); "card" is what the block
// device under -dir was told to write, the file system's journal included. Time is not
// waited for: each program flushes as often as in the time that is stated.
//
// Make -dir a file system of its own, on a device that nobody else writes to.
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/agent/telemetry"
)

// telegrafVersion is the release of 2026-01 that the figures are of.
const telegrafVersion = "v1.37.2"

//go:embed telegraf.go.txt
var telegrafSource []byte

// A load is what is measured.
type load struct {
	name              string
	sensors, channels int
	hz                int // readings a second of each sensor
	seconds, telegraf int // that are measured, of the agent and of Telegraf, which syncs each reading
}

var loads = []load{
	{"1 reading/s, 3 channels", 1, 3, 1, 1800, 1800},
	{"10 sensors of one channel at 10 Hz", 10, 1, 10, 600, 60},
}

func main() {
	dir := flag.String("dir", os.TempDir(), "`folder` on the card")
	work := flag.String("spool", "", "internal: fill a spool, SENSORS,CHANNELS,HZ,SECONDS,FLUSH,SENT")
	flag.Parse()
	err := error(nil)
	if *work != "" {
		err = fill(*dir, *work)
	} else {
		err = run(*dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flashbench:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	telegraf, err := buildTelegraf()
	if err != nil {
		fmt.Fprintln(os.Stderr, "flashbench: without Telegraf:", err)
	} else {
		defer os.RemoveAll(filepath.Dir(telegraf))
	}
	fmt.Println("| load | | process, bytes a reading | MB a day | card, bytes a reading | MB a day |\n|---|---|---|---|---|---|")
	for _, l := range loads {
		for _, p := range []struct {
			name, program, flag string
			flush               int
			sent                bool
		}{
			{"agent, flush each 5 s, sent", self, "-spool", 5, true},
			{"agent, flush each 5 s, no link", self, "-spool", 5, false},
			{"agent, flush each 60 s, no link", self, "-spool", 60, false},
			{"Telegraf, disk_write_through, sent each 10 s", telegraf, "-load", 10, true},
			{"Telegraf, disk_write_through, no link", telegraf, "-load", 10, false},
		} {
			if p.program == "" {
				continue
			}
			at, err := os.MkdirTemp(dir, "flashbench")
			if err != nil {
				return err
			}
			l := l
			if p.program == telegraf {
				l.seconds = l.telegraf
			}
			what := fmt.Sprintf("%d,%d,%d,%d,%d,%t", l.sensors, l.channels, l.hz, l.seconds, p.flush, p.sent)
			err = l.measure(p.name, at, exec.Command(p.program, "-dir", at, p.flag, what))
			if err = errors.Join(err, os.RemoveAll(at)); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure runs a program and prints its line.
func (l *load) measure(name, dir string, c *exec.Cmd) error {
	syscall.Sync()
	before := card(dir)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return err
	}
	syscall.Sync()
	n := float64(l.sensors * l.hz * l.seconds)
	perDay := 86400 / float64(l.seconds) / 1e6
	own := float64(c.ProcessState.SysUsage().(*syscall.Rusage).Oublock) * 512
	all := float64(card(dir) - before)
	fmt.Printf("| %s | %s | %.0f | %.1f | %.0f | %.1f |\n", l.name, name, own/n, own*perDay, all/n, all*perDay)
	return nil
}

// card returns the bytes that the device of dir was told to write so far, 0 where
// that is not known (Documentation/block/stat.rst: the seventh number, in 512 bytes).
func card(dir string) int64 {
	var st syscall.Stat_t
	if syscall.Stat(dir, &st) != nil {
		return 0
	}
	text, _ := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&^0xff))
	f := strings.Fields(string(text))
	if len(f) < 7 {
		return 0
	}
	n, _ := strconv.ParseInt(f[6], 10, 64)
	return n * 512
}

// fill writes readings to a spool as the agent does.
func fill(dir, what string) error {
	var sensors, channels, hz, seconds, flush int
	var sent bool
	if _, err := fmt.Sscanf(what, "%d,%d,%d,%d,%d,%t", &sensors, &channels, &hz, &seconds, &flush, &sent); err != nil {
		return err
	}
	s, err := spool.Open(filepath.Join(dir, "spool.db"), spool.Options{FlushEvery: time.Hour})
	if err != nil {
		return err
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	chs, vals := make([]telemetry.Channel, channels), make([]telemetry.Value, channels)
	level := make([]float64, sensors*channels)
	for i := range chs {
		chs[i] = telemetry.Channel{Name: fmt.Sprintf("v%d", i), Kind: telemetry.Float}
	}
	for tick := range seconds * hz {
		for n := range sensors {
			for i := range chs {
				v := &level[n*channels+i]
				*v += r.NormFloat64() * 0.01
				vals[i] = telemetry.FloatValue(20 + math.Round(*v*100)/100)
			}
			if err := s.Append(fmt.Sprintf("s%d", n), chs, 1_790_000_000_000+int64(tick*1000/hz), vals); err != nil {
				return err
			}
		}
		if (tick+1)%(flush*hz) != 0 {
			continue
		}
		if err := s.Flush(); err != nil {
			return err
		}
		if sent { // a batch is acknowledged before the next flush
			h, err := telemetry.DecodeHeader(s.Last())
			if err != nil {
				return err
			}
			s.Ack(h.Seq)
		}
	}
	return nil
}

// buildTelegraf builds a program around Telegraf's own buffer, from the Go module proxy.
func buildTelegraf() (path string, err error) {
	dir, err := os.MkdirTemp("", "flashbench-telegraf")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), telegrafSource, 0o600); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"mod", "init", "flashbench"},
		{"get", "github.com/influxdata/telegraf@" + telegrafVersion}, {"build", "-mod=mod", "-o", "telegraf", "."}} {
		c := exec.Command("go", args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w: %s", args[0], err, out)
		}
	}
	return filepath.Join(dir, "telegraf"), nil
}
