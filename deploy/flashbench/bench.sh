#!/usr/bin/env bash
# The table of bytes written for each reading, on a new ext4 of 512 MiB behind a loop
# device, so that the device's own count is of this alone. Without root it is measured in
# /tmp, and the card's columns are of all that is written there.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'umount "$work/card" 2>/dev/null || true; rm -rf "$work"' EXIT
go build -trimpath -o "$work/flashbench" ./deploy/flashbench
truncate -s 512M "$work/image"
mkdir "$work/card"
mkfs.ext4 -q -F "$work/image"
mount -o loop "$work/image" "$work/card" || echo "no loop device: the card's columns are of all that is written" >&2
uname -srm
date -u +%F
"$work/flashbench" -dir "$work/card"
