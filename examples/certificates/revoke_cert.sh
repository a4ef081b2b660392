#!/bin/sh
# Revokes every certificate of a name at once: revoke_cert.sh NAME [REASON]
set -eu
if [ $# -lt 1 ]; then
	echo "usage: revoke_cert.sh NAME [REASON]" >&2
	exit 2
fi
exec sealmq cert revoke "$1" --reason "${2:-Unspecified}" --force
