package sensor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/payload"
)

// attrBytes is what is read of a file of /sys at most; the kernel's own limit of an
// attribute is a page.
const attrBytes = 4096

// filesOf returns what holds sys and dev: a folder, or what the board has in place of
// the machine's.
func filesOf(b hal.Board, root string) fs.FS {
	if s, ok := b.(hal.FileSource); ok && root == "/" {
		return s.Files()
	}
	return os.DirFS(root)
}

// A sysDir is a folder of /sys.
type sysDir struct {
	fs   fs.FS
	path string // without a slash before it
}

func (d sysDir) name() string { return path.Base(d.path) }

// has says whether there is a file.
func (d sysDir) has(name string) bool {
	_, err := fs.Stat(d.fs, path.Join(d.path, name))
	return err == nil
}

// text returns what a file says, without blanks around it. What the kernel says of a
// failed read is told by its kind.
func (d sysDir) text(name string) (string, error) {
	f, err := d.fs.Open(path.Join(d.path, name))
	if err != nil {
		return "", attrError(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, attrBytes))
	if err != nil {
		return "", attrError(err)
	}
	return strings.TrimSpace(string(b)), nil
}

// number is text of a decimal.
func (d sysDir) number(name string) (float64, error) {
	s, err := d.text(name)
	if err != nil {
		return 0, err
	}
	if f, ok := payload.Scalar(s).(float64); ok {
		return f, nil
	}
	return 0, fmt.Errorf("%w: %s reads %.40q", ErrImplausible, name, s)
}

// attrError wraps err in its kind. A driver of the kernel returns EAGAIN and EBUSY
// while it measures, ENODATA while it has nothing (hwmon), ETIMEDOUT when its chip
// did not come to an end, and EIO or EREMOTEIO when the bus failed.
func attrError(err error) error {
	var no syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
	case !errors.As(err, &no):
		return fmt.Errorf("%w: %w", ErrFault, err)
	}
	switch no {
	case syscall.ENODEV, syscall.ENXIO:
		return fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
	case syscall.EAGAIN, syscall.EBUSY, syscall.ENODATA, syscall.ETIMEDOUT, syscall.EINTR:
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	case syscall.EACCES, syscall.EPERM:
		return err
	case syscall.EOPNOTSUPP, syscall.EINVAL:
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return fmt.Errorf("%w: %w", ErrFault, err)
}

// findDevice returns the device that want names by its name, label or folder's name,
// among those of a pattern. The numbers in the folders' names may be others at each
// start.
func findDevice(files fs.FS, pattern, want string, accept func(sysDir) bool) (sysDir, error) {
	paths, _ := fs.Glob(files, pattern) // the pattern is well formed
	var fit []sysDir
	var seen []string
	for _, p := range paths {
		dir := sysDir{files, p}
		names := []string{dir.name()}
		for _, file := range []string{"name", "label"} {
			if s, err := dir.text(file); err == nil && s != "" {
				names = append(names, s)
			}
		}
		seen = append(seen, strings.Join(names, " "))
		if slices.Contains(names, want) && (accept == nil || accept(dir)) {
			fit = append(fit, dir)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return sysDir{}, fmt.Errorf("%d devices are %q: name the one you mean by its label or number; there are: %s",
			len(fit), want, strings.Join(seen, ", "))
	case len(seen) == 0:
		return sysDir{}, fmt.Errorf("%w: the kernel shows none in /%s", hal.ErrNoDevice, path.Dir(pattern))
	}
	return sysDir{}, fmt.Errorf("%w: none is %q; there are: %s", hal.ErrNoDevice, want, strings.Join(seen, ", "))
}

// sysfs is a sensor that reads files of a kernel's device. A channel whose file fails
// is absent while others can be read; that all fail is the first one's error.
type sysfs struct {
	name     string // of the driver and device
	find     func() (sysDir, error)
	channels []hal.Channel
	read     []func(sysDir) (hal.Value, error) // one for each channel
	calls    calls
	dir      sysDir // zero when it has to be found again; belongs to the goroutine that reads
}

// add adds a channel.
func (s *sysfs) add(c hal.Channel, read func(dir sysDir) (hal.Value, error)) {
	s.channels, s.read = append(s.channels, c), append(s.read, read)
}

func (s *sysfs) Channels() []hal.Channel { return s.channels }

// Read reads each file once: a driver of the kernel may measure at that, for up to a
// second.
func (s *sysfs) Read(ctx context.Context) ([]hal.Value, error) {
	var vals []hal.Value
	err := s.calls.do(ctx, func() (err error) {
		vals, err = s.once(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return vals, nil
}

func (s *sysfs) once(ctx context.Context) ([]hal.Value, error) {
	if s.dir.fs == nil {
		dir, err := s.find()
		if err != nil {
			return nil, err
		}
		s.dir = dir
	}
	vals := make([]hal.Value, len(s.read))
	var first error
	good := false
	for i, read := range s.read {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v, err := read(s.dir)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		vals[i], good = v, true
	}
	if !good {
		s.dir = sysDir{} // it may have another number when it comes back
		return nil, first
	}
	return vals, nil
}

// Close leaves a read that hangs in the kernel behind.
func (s *sysfs) Close() error {
	return s.calls.close()
}

// numbered drops the number of a channel that is the only one of its kind: bases and
// numbers are one for each channel.
func numbered(bases, numbers []string) []string {
	out := make([]string, len(bases))
	for i, base := range bases {
		n := 0
		for _, b := range bases {
			if b == base {
				n++
			}
		}
		if out[i] = base; n > 1 {
			out[i] = base + numbers[i]
		}
	}
	return out
}

// distinct makes names of labels where they are there and differ from all others.
func distinct(names, labels []string) []string {
	out := slices.Clone(names)
	for i, l := range labels {
		if l == "" {
			continue
		}
		name := payload.Name(l)
		if !slices.Contains(out, name) {
			out[i] = name
		}
	}
	return out
}
