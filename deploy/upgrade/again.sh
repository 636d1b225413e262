#!/usr/bin/env bash
# again.sh COMMIT: makes testdata/COMMIT.tar.gz and .json with the programs of COMMIT.
set -euo pipefail
cd "$(dirname "$0")/../.."
commit=$(git rev-parse --short=7 "$1")
work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree"; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/tree" "$commit"
for program in agent bridge; do
  (cd "$work/tree" && CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$commit" -o "$work/bin/tidemill-$program" "./$program")
done
go run ./deploy/upgrade/leave -bin "$work/bin" -version "$commit"
