#!/bin/sh
# Checks a certificate, and ends with 0 if it is good: verify_cert.sh NAME|FILE
set -eu
if [ $# -lt 1 ]; then
	echo "usage: verify_cert.sh NAME|FILE" >&2
	exit 2
fi
exec sealmq cert verify "$1"
