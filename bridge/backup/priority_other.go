//go:build !linux

package backup

import "log/slog"

// lowerPriority does nothing: threads have no priority of their own here.
func lowerPriority(*slog.Logger) {}
