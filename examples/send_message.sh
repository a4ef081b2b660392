#!/bin/sh
# Submits a message to the pipeline with curl:
#
#     send_message.sh SENDER MESSAGE [KEY]
#     send_message.sh +4915200000000 "Test message"
#
# KEY is the client's own key for the message. Submitted again with it, the message is stored
# once; that also makes it safe that curl tries again. Where things are is said by variables:
# PROXY_URL, CERT, KEY_FILE and CA. The curl of Windows takes no PEM files; there use --p12
# of "sealmq cert export", and --cert client.p12 --cert-type P12.
set -eu
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
	echo "usage: send_message.sh SENDER MESSAGE [KEY]" >&2
	exit 2
fi

# quoted TEXT is TEXT as a string of JSON.
quoted() {
	printf '%s\n' "$1" | sed 's/[\\"]/\\&/g' | awk '{ gsub(/\t/, "\\t"); gsub(/\r/, "\\r"); printf "%s%s", sep, $0; sep = "\\n" } BEGIN { printf "\"" } END { printf "\"" }'
}

key=${3:-$(date +%s)-$$}
curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --max-time 60 \
	--cert "${CERT:-certs/client.crt}" --key "${KEY_FILE:-certs/client.key}" --cacert "${CA:-certs/ca.crt}" \
	-H "Content-Type: application/json" -H "Idempotency-Key: $key" \
	-d "{\"sender_number\": $(quoted "$1"), \"message_body\": $(quoted "$2")}" \
	"${PROXY_URL:-https://localhost:8001}/submit"
