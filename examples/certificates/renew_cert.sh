#!/bin/sh
# Replaces NAME.key and NAME.crt in the current folder: renew_cert.sh NAME [DAYS]
# The old files go to the folder backup.
set -eu
if [ $# -lt 1 ]; then
	echo "usage: renew_cert.sh NAME [DAYS]" >&2
	exit 2
fi
exec sealmq cert renew "$1" --out . --days "${2:-365}"
