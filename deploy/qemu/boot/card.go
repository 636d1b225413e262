package boot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// CardBytes is the size of a card. QEMU takes powers of two alone.
const CardBytes = 64 << 20

// MakeCard makes an image of an SD card at path, one ext4 file system with what is
// in the folder from. Its files belong to root in the device. It needs mke2fs, which
// every Debian has.
func MakeCard(ctx context.Context, path, from string) error {
	program, err := exec.LookPath("mke2fs")
	if err != nil {
		program = "/usr/sbin/mke2fs" // not everybody's PATH has sbin
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // it holds keys
		return fmt.Errorf("card: %w", err)
	}
	if err := os.Truncate(path, CardBytes); err != nil {
		return fmt.Errorf("card: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d", from, path)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("card %s: mke2fs (of the package e2fsprogs): %w: %s", filepath.Base(path), err, out)
	}
	return nil
}
