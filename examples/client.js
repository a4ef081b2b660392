// node client.js WHO publish EXCHANGE KEY < lines, or node client.js WHO consume QUEUE COUNT
// WHO is the path of a certificate without its ending; its key and ca.crt lie beside it.
const fs = require("fs"), path = require("path"), tls = require("tls"), readline = require("readline"), crypto = require("crypto");
const [who, verb, ...args] = process.argv.slice(2);
const [, host, port] = /^(.*):(\d+)$/.exec(process.env.SEALMQ_SERVER_ADDR || "localhost:5672");
const broker = tls.connect({ host, port, ca: fs.readFileSync(path.join(path.dirname(who), "ca.crt")),
  cert: fs.readFileSync(who + ".crt"), key: fs.readFileSync(who + ".key") });
const fail = (why) => { console.error(`${verb}: ${why || "the connection is lost"}`); process.exit(1); };
broker.on("error", (e) => fail(e.message));
const replies = readline.createInterface({ input: broker })[Symbol.asyncIterator]();
const next = async () => (await replies.next()).value;
const ask = async (request, reply) => { broker.write(request + "\n"); const got = await next(); if (got !== reply) fail(got); };

(async () => {
  if (verb === "publish") {
    for await (const line of readline.createInterface({ input: process.stdin })) {
      const message = { message_id: crypto.randomUUID(), ...JSON.parse(line) }; // keep the id for a repeat
      await ask(`publish ${args[0]} ${args[1]} ${JSON.stringify(message)}`, `ACK ${message.message_id}`);
    }
  } else {
    await ask("prefetch 1", "Prefetch 1");
    await ask(`consume ${args[0]}`, "Subscribed to queue");
    for (let left = Number(args[1]); left > 0; left--) {
      const [, id, message] = /^Message: (\S+) (.*)$/.exec(await next()) || fail();
      console.log(message); // make it durable here, then acknowledge
      await ask(`ack ${id}`, `ACK_CONFIRMED ${id}`);
    }
  }
  broker.end();
})();
