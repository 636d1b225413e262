package board

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// BusRecovery says how a bus is freed that a chip holds. Many controllers'
// drivers in the kernel do it by themselves, before an error is seen here; the
// Raspberry Pi's does not.
//
// A pin that belongs to a controller cannot simply be taken as a line: on a
// Raspberry Pi the kernel hands it out, but gives it back as an input and not to
// the controller, and the bus is dead until its driver is bound anew
// (pinctrl-bcm2835.c, pinctrl-rp1.c: gpio_disable_free). So there are three ways:
// spare pins that are wired to the bus too; on a Raspberry Pi 0 to 4 the pins'
// registers, by /dev/gpiomem, where the function of a pin can be put back; and,
// for root alone, binding the controller's driver anew, with the pins as lines in
// between.
type BusRecovery struct {
	SCL, SDA string // lines, as for Input; "" for none
	Spare    bool   // they are pins of their own, wired to the bus
	Rebind   bool   // unbind the controller's driver, and bind it again
}

// halfClock is half a clock of 100 kHz, the slowest that every chip follows
// (UM10204, table 10). The machine makes it longer.
const halfClock = 5 * time.Microsecond

// transferEnd is how long a transfer is waited for that runs: the kernel gives up
// after a second (i2c-core, adapter.timeout).
const transferEnd = 1500 * time.Millisecond

// A pair is the two lines of a bus, each driven low or let go.
type pair interface {
	drive(scl, sda bool) error // true: let go
	read() (scl, sda bool, err error)
}

// clockFree clocks a bus until its data line is high, nine times at most, and
// ends with a STOP (UM10204, 3.1.16). Nothing else uses the lines meanwhile.
func clockFree(p pair) error {
	step := func(scl, sda bool) error {
		err := p.drive(scl, sda)
		time.Sleep(halfClock)
		return err
	}
	if err := step(true, true); err != nil {
		return err
	}
	for clock := 0; ; clock++ {
		scl, sda, err := p.read()
		switch {
		case err != nil:
			return err
		case !scl:
			return errors.New("SCL is held low: a chip stretches the clock, or a short circuit; clocks can't help")
		case sda && clock > 0:
			return errors.Join(step(false, true), step(false, false), step(true, false), step(true, true))
		case clock == 9:
			return errors.New("SDA is held low after nine clocks: a short circuit, or the chip needs its supply cut")
		}
		if err := errors.Join(step(false, true), step(true, true)); err != nil {
			return err
		}
	}
}

// RecoverBus frees a bus by what Options and the machine allow, one way after the
// other until one helps. What hangs in the kernel at ctx's end is left behind: it
// keeps the bus's transfers and other recoveries away until it ends, and Close waits
// for it.
func (b *Board) RecoverBus(ctx context.Context, name string) (did string, err error) {
	h, err := b.I2C(name) // nobody has it open where a chip holds it since the boot
	if err != nil {
		return "", err
	}
	select {
	case b.freeing <- struct{}{}: // recovery is rare: one at a time
	case <-ctx.Done():
		_ = h.Close() // the context's error says more
		return "", fmt.Errorf("%s: another recovery has not ended: %w", name, ctx.Err())
	}
	f := &freeing{bus: h.(*handle).shared}
	f.doing.Store(errHangs)
	type outcome struct {
		did string
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		did, err := b.free(ctx, f)
		f.leave()
		err = errors.Join(err, h.Close())
		<-b.freeing
		done <- outcome{did, err}
	}()
	select {
	case o := <-done:
		return o.did, o.err
	case <-ctx.Done():
		return "", fmt.Errorf("%s: %w: %w", name, f.doing.Load().(error), ctx.Err())
	}
}

// free is RecoverBus without an end of its own.
func (b *Board) free(ctx context.Context, f *freeing) (did string, err error) {
	name := f.bus.name
	hangs := f.enter(ctx)
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: %w", name, errors.Join(hangs, ctx.Err()))
	}
	var tried []string
	var errs []error
	if hangs == nil {
		held, err := f.clocking(ctx)
		switch {
		case err == nil && !held:
			return "", fmt.Errorf("%s: %w", name, hal.ErrBusFree)
		case err == nil:
			return "a transfer to nobody", nil
		}
		errs = append(errs, err)
	}
	for _, w := range b.ways(f.bus.number, name) {
		what, err := w(ctx, f)
		if what == "" {
			continue // not here
		}
		tried = append(tried, what)
		if err == nil {
			err = f.probe(ctx)
		}
		if err == nil {
			return strings.Join(tried, ", then "), nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", what, err))
		if ctx.Err() != nil {
			break
		}
	}
	return strings.Join(tried, ", then "), fmt.Errorf("%s is still held: %w", name, errors.Join(errs...))
}

// A way to free a bus says "" if it is none here.
type way func(ctx context.Context, f *freeing) (what string, err error)

func (b *Board) ways(n int, name string) []way {
	o := b.options.Recover[name]
	lines := o.SCL != "" && o.SDA != ""
	if !lines && n == 1 {
		// The bus of a Raspberry Pi's header; the registers tell whether it is.
		o.SCL, o.SDA = "GPIO3", "GPIO2"
	}
	var all []way
	switch {
	case lines && o.Spare:
		all = append(all, func(context.Context, *freeing) (string, error) {
			return "nine clocks by spare lines", b.byLines(o)
		})
	case o.SCL != "" && o.SDA != "":
		all = append(all, func(context.Context, *freeing) (string, error) { return b.byRegisters(o) })
	}
	if o.Rebind {
		all = append(all, func(ctx context.Context, f *freeing) (string, error) {
			between := func() error { return nil }
			if lines && !o.Spare {
				between = func() error { return b.byLines(o) }
			}
			return "its driver bound anew", b.rebind(ctx, f, between)
		})
	}
	return all
}

// byLines clocks by lines of the kernel, as an open drain: they are never driven
// high.
func (b *Board) byLines(o BusRecovery) error {
	open := func(name string) (*line, error) {
		r, err := parseLine(name)
		if err != nil {
			return nil, err
		}
		r.output, r.high, r.drain = true, true, true
		return b.openLine(r)
	}
	scl, err := open(o.SCL)
	if err != nil {
		return err
	}
	defer scl.Close()
	sda, err := open(o.SDA)
	if err != nil {
		return err
	}
	defer sda.Close()
	return clockFree(&linePair{scl, sda})
}

type linePair struct{ scl, sda hal.DigitalOutput }

func (p *linePair) drive(scl, sda bool) error { return errors.Join(p.scl.Set(scl), p.sda.Set(sda)) }

func (p *linePair) read() (scl, sda bool, err error) {
	scl, err = p.scl.Get()
	if err == nil {
		sda, err = p.sda.Get()
	}
	return scl, sda, err
}

// rebind unbinds the controller from its driver, which resets it, and binds it
// again, with something between. The kernel waits for all who have the bus open
// before it lets go, so our file is closed first; a program that keeps its own
// holds this up. After ctx's end the driver is only bound again.
func (b *Board) rebind(ctx context.Context, f *freeing, between func() error) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	// …/3f804000.i2c/i2c-1
	adapter, err := filepath.EvalSymlinks(filepath.Join(b.sys, "bus/i2c/devices", fmt.Sprintf("i2c-%d", f.bus.number)))
	if err != nil {
		return err
	}
	device := filepath.Dir(adapter)
	driver, err := filepath.EvalSymlinks(filepath.Join(device, "driver"))
	if err != nil {
		return fmt.Errorf("the bus has no driver of its own: %w", err)
	}
	f.bus.drop(false)
	f.doing.Store(errKept)
	defer f.doing.Store(errHangs)
	err = b.put(filepath.Join(driver, "unbind"), filepath.Base(device))
	if err == nil {
		if err = ctx.Err(); err == nil {
			err = between()
		}
		err = errors.Join(err, b.put(filepath.Join(driver, "bind"), filepath.Base(device)))
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: this takes root", err)
	}
	return err
}
