#!/bin/sh
# Lists certificates: list_certs.sh [all|active|revoked|expired]
exec sealmq cert list --status "${1:-all}"
