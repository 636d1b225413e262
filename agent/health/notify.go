package health

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Notify tells systemd a state such as "READY=1", over the socket that
// NOTIFY_SOCKET names (sd_notify(3)). Without one it does nothing.
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}

// Reloading tells systemd that a reload has begun; READY=1 ends it. The time
// is what Type=notify-reload asks for.
func Reloading() error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return err
	}
	return Notify("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(ts.Nano()/1000, 10))
}

// WatchdogEvery returns half the time that systemd lets pass without a sign
// of life, 0 if it does not watch this process (sd_watchdog_enabled(3)).
func WatchdogEvery() time.Duration {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err != nil || usec <= 0 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// Watchdog gives systemd a sign of life each period while alive returns true,
// until ctx is done. When alive says no, it calls tired once per such spell
// and stays silent, so that systemd restarts the process.
func Watchdog(ctx context.Context, every time.Duration, alive func() bool, tired func()) {
	if every <= 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	well := true
	for {
		if ok := alive(); ok {
			_ = Notify("WATCHDOG=1") // the next one comes soon
			well = true
		} else if well {
			well = false
			tired()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
