#!/usr/bin/env python3
"""client.py WHO publish EXCHANGE KEY < lines, or client.py WHO consume QUEUE COUNT

WHO is the path of a certificate without its ending; its key and ca.crt lie beside it."""
import json, os, socket, ssl, sys, uuid

who, verb, *args = sys.argv[1:]
host, port = os.environ.get("SEALMQ_SERVER_ADDR", "localhost:5672").rsplit(":", 1)
tls = ssl.create_default_context(cafile=os.path.join(os.path.dirname(who), "ca.crt"))
tls.load_cert_chain(who + ".crt", who + ".key")
broker = tls.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
lines = broker.makefile("r", encoding="utf-8", newline="\n")

def ask(request, reply):
    broker.sendall(request.encode() + b"\n")
    if (got := lines.readline().rstrip("\n")) != reply:
        sys.exit(f"{verb}: {got or 'the connection is lost'}")

if verb == "publish":
    for message in map(json.loads, sys.stdin):
        message.setdefault("message_id", str(uuid.uuid4()))  # keep it for a repeat
        ask(f"publish {args[0]} {args[1]} {json.dumps(message)}", f"ACK {message['message_id']}")
else:
    ask("prefetch 1", "Prefetch 1")
    ask(f"consume {args[0]}", "Subscribed to queue")
    for _ in range(int(args[1])):
        _, message_id, message = lines.readline().rstrip("\n").split(" ", 2)
        print(message, flush=True)  # make it durable here, then acknowledge
        ask(f"ack {message_id}", f"ACK_CONFIRMED {message_id}")
