#!/bin/sh
# Write killed.tar.gz, stopped.tar.gz and list.json with the program of an older commit.
# Usage: make.sh [COMMIT]
set -eu
commit=${1:-45f7be0}
cd "$(dirname "$0")"
cd "$(git rev-parse --show-toplevel)"
work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree"; rm -rf "$work"' EXIT
git worktree add --detach "$work/tree" "$commit"
export CGO_ENABLED=0
(cd "$work/tree" && go build -o "$work/sealmq" ./cmd/sealmq)
go test ./cmd/sealmq -count=1 -run '^TestMakeFolders$' -make-folders "$work/sealmq"
