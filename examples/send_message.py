#!/usr/bin/env python3
"""Submit a message to the pipeline, with nothing but Python's standard library.

    python3 send_message.py --sender +4915200000000 --message "Test message"

It ends with 0 when the message is stored in the queue. The certificate and its key are
certs/client.crt, certs/client.key and certs/ca.crt, unless options name others.
"""

import argparse
import http.client
import json
import ssl
import sys
import time
import uuid
from urllib.parse import urlsplit

ATTEMPTS = 5


def main():
    p = argparse.ArgumentParser(description="Submit a message to the pipeline.")
    p.add_argument("--sender", required=True, help="phone number of the sender, as +4915200000000")
    p.add_argument("--message", required=True, help="text of the message")
    p.add_argument("--id", help="own key of the message; submitted again with it, the message is stored once")
    p.add_argument("--url", default="https://localhost:8001", help="address of the proxy (default: %(default)s)")
    p.add_argument("--cert", default="certs/client.crt", help="certificate of the client (default: %(default)s)")
    p.add_argument("--key", default="certs/client.key", help="its private key (default: %(default)s)")
    p.add_argument("--ca", default="certs/ca.crt", help="certificate of the authority (default: %(default)s)")
    args = p.parse_args()

    url = urlsplit(args.url)
    if url.scheme != "https" or not url.hostname:
        p.error("--url: not https://host:port")
    try:
        tls = ssl.create_default_context(cafile=args.ca)
        tls.load_cert_chain(args.cert, args.key)
    except (OSError, ssl.SSLError) as e:
        sys.exit(f"cannot use {args.cert}, {args.key} and {args.ca}: {e}")

    # The key makes it safe to send the message again when the answer is lost.
    key = args.id or str(uuid.uuid4())
    body = json.dumps({"sender_number": args.sender, "message_body": args.message})
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(wait)
        wait = 2**attempt
        connection = http.client.HTTPSConnection(url.hostname, url.port or 443, timeout=30, context=tls)
        try:
            connection.request("POST", "/submit", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as e:
            problem = str(e)
            continue
        finally:
            connection.close()
        if answer.status == 202:
            print(content.decode().strip())
            return
        try:
            problem = json.loads(content)["message"]
        except (ValueError, KeyError, TypeError):
            problem = f"the answer is {answer.status} {answer.reason}"
        if answer.status not in (429, 503):
            break
        wait = max(wait, int(answer.getheader("Retry-After", "0")))
    sys.exit(f"not submitted: {problem}")


if __name__ == "__main__":
    main()
