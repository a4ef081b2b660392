#!/bin/sh
# Makes NAME.key, NAME.csr and NAME.crt in the current folder:
#     generate_cert.sh NAME [DOMAIN] [DAYS] [OPTION...]
# A name that means a role by convention also wants that role: --role proxy
set -eu
if [ $# -lt 1 ]; then
	echo "usage: generate_cert.sh NAME [DOMAIN] [DAYS] [OPTION...]" >&2
	exit 2
fi
name=$1 domain=${2:-default} days=${3:-365}
[ $# -gt 3 ] && shift 3 || shift $#
sealmq cert request "$name"
exec sealmq cert sign "$name" "$name.csr" --out . --domain "$domain" --days "$days" "$@"
