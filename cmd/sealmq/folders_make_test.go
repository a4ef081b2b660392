package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
)

var makeFolders = flag.String("make-folders", "", "rewrite testdata/folders with this old sealmq `program`")

// TestMakeFolders writes the fixture of TestOldDataFoldersOpen. See testdata/folders/make.sh.
func TestMakeFolders(t *testing.T) {
	if *makeFolders == "" {
		t.Skip("it needs an old program, named with -make-folders")
	}
	exe, err := filepath.Abs(*makeFolders)
	if err != nil {
		t.Fatal(err)
	}
	f := newFolder(t, exe)
	f.serve()
	var l folderList
	f.declareAll()
	f.publishKeys(&l)
	f.fillLedger(&l.Ledger)
	f.fillSegments(&l)
	f.comeBack()
	f.fillSpool(&l)
	f.publishLast()

	f.kill()
	f.pack(filepath.Join(foldersDir, "killed.tar.gz"))
	f.serve()
	f.stop()
	f.pack(filepath.Join(foldersDir, "stopped.tar.gz"))

	g := newFolder(t, exe)
	g.chains = l.Chains
	g.unpack(filepath.Join(foldersDir, "killed.tar.gz"))
	g.serve()
	g.waitUntilOld()
	seen := g.look()
	g.drain("admin", seen.Queues)
	l.Queues, l.Exchanges, l.Log, l.Keys, l.BareKeys = seen.Queues, seen.Exchanges, seen.Log, seen.Keys, seen.BareKeys
	g.dial("admin").want("Queue purged", "purge again")
	l.Routes = g.routes()
	data, err := json.MarshalIndent(&l, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foldersDir, "list.json"), append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// declareAll declares queues with every option, exchanges of every kind, and bindings. It
// removes some of them again.
func (f *folder) declareAll() {
	c := f.dial("admin")
	for _, q := range []string{
		"plain", "second", "inbox", "again", "errors", "logs", "all", "grüße", "rejects", "returns", "empty", "removed", "purged", "moved",
		`limited {"max_messages":3,"max_bytes":100000,"delivery_limit":5,"ack_timeout":"45s","prefetch":7,"max_line_bytes":4096}`,
		`narrow {"max_messages":2}`,
		`latest {"max_messages":2,"drop_oldest":true}`,
		`brief {"ttl":"10s"}`,
		`patient {"ttl":"720h","ack_timeout":"1h"}`,
		`later {"prefetch":1}`,
		`strict {"delivery_limit":1}`,
		`big {"max_line_bytes":500000,"max_bytes":50000000}`,
		`secret {"sealed":["hpke-mlkem768x25519-aes256gcm","hpke-x25519-aes256gcm"]}`,
		`rejects.dead {"max_messages":50,"drop_oldest":true}`,
	} {
		c.want("Queue declared", "declare_queue %s", q)
	}
	for _, e := range []string{"post direct", "everyone fanout", "events topic", "grüße direct", "removed topic", "unused fanout"} {
		c.want("Exchange declared", "declare_exchange %s", e)
	}
	for _, b := range []string{
		"plain post plain", "inbox post inbox", "inbox post box", "again post box", "plain everyone x", "second everyone y", "grüße everyone z",
		"errors events *.error", "logs events logs.#", "all events #", "grüße grüße schön", "limited post limited", "narrow post narrow",
		"latest post latest", "brief post brief", "later post later", "strict post strict", "big post big", "secret post secret", "rejects post rejects",
		"returns post returns", "purged post purged", "removed post unbound", "plain post unbound", "plain removed #", "removed removed #",
	} {
		c.want("Queue bound", "bind %s", b)
	}
	c.want("Queue unbound", "unbind plain post unbound")
	c.want("Queue deleted", "delete_queue removed")
	c.want("Exchange deleted", "delete_exchange removed")
}

// publish publishes a text under an id and returns the body.
func (c *lineConn) publish(exchange, key, id, text string) string {
	c.t.Helper()
	body := fmt.Sprintf(`{"message_id":%q,"text":%q}`, id, text)
	c.want("ACK "+id, "publish %s %s %s", exchange, key, body)
	return body
}

// publishKeys fills the key directory and pins some of its keys.
func (f *folder) publishKeys(l *folderList) {
	if err := os.MkdirAll(filepath.Join(f.dir, "client"), 0o700); err != nil {
		f.t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob", "carol", "dora"} {
		f.must("", "cert", "issue", name)
	}
	f.must("", "key", "generate", "--out", "bob")
	f.must("", "key", "generate", "--out", "bob2", "--suite", "hpke-x25519-aes256gcm")
	f.must("", "key", "generate", "--out", "carol")
	own := func(name string) []string {
		return []string{"--as", name, "--directory", "fixture", "--pins", name + ".json"}
	}
	f.must("", append([]string{"key", "publish", "bob.key", "--force"}, own("bob")...)...)
	f.must("", append([]string{"key", "publish", "carol.key"}, own("carol")...)...)
	for i := 3; i > 0; i-- {
		key, _ := receiverKey(f.t, fmt.Sprint(i))
		l.Ledger.Fingerprints = append(l.Ledger.Fingerprints, key.Public().Fingerprint())
	}
	newest, _ := receiverKey(f.t, "3")
	if err := os.WriteFile(filepath.Join(f.dir, "dora.key"), newest.PEM(), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.dial("dora").want("Public key registered", "register_public_key %s", base64.StdEncoding.EncodeToString(newest.Public().Bytes()))
	bare := bytes.Repeat([]byte{7}, 32)
	f.dial("alice").want("Public key registered", "register_key alice %s", base64.StdEncoding.EncodeToString(bare))

	f.must("", "key", "rotate", "bob.key")
	f.must("", append([]string{"key", "publish", "bob.key", "--force"}, own("bob")...)...)
	for _, name := range []string{"bob", "carol"} {
		f.must("", "key", "verify", name, "--as", "alice", "--directory", "fixture", "--pins", "client/pins.json")
	}
	f.must("one\ntwo\n", "send", "--as", "alice", "--to", "dora", "--allow-unproven", "--suite", string(ciphermq.G5), "--exchange", "post", "--key", "box",
		"--directory", "fixture", "--pins", "client/pins.json", "--lines")

	// The pins do not know these changes.
	f.dial("admin").want("Key reset", "reset_key carol")
	f.dial("admin").want("Key reset", "reset_key alice unproven")
	f.must("", append([]string{"key", "publish", "bob2.key", "--force"}, own("bob")...)...)
	l.Pins = folderPins{Authority: f.authority(), Pinned: f.pinned()}
}

// fillLedger receives messages with and without a proven sender.
func (f *folder) fillLedger(l *folderLedger) {
	send := func(text, to, suite, key string) {
		f.must(text, "send", "--as", "alice", "--to", to, "--suite", suite, "--exchange", "post", "--key", key,
			"--allow-unproven", "--directory", "fixture", "--pins", "alice.json", "--lines")
	}
	hybrid, g5 := string(seal.HPKEHybrid), string(ciphermq.G5)
	send("three\nfour\nfive\n", "bob", hybrid, "inbox")
	f.must("", "receive", "inbox", "--as", "bob", "--key-file", "bob.key", "--key-file", "dora.key", "--name", "bob", "--name", "dora",
		"--out", "client/inbox.jsonl", "--count", "5")
	send("six\n", "dora", g5, "box") // waits in inbox and again
	send("seven\neight\n", "bob", hybrid, "secret")
	send("nine\n", "bob", string(seal.HPKEX25519), "secret")

	output, err := os.ReadFile(filepath.Join(f.dir, "client", "inbox.jsonl"))
	if err != nil {
		f.t.Fatal(err)
	}
	l.Output, l.Messages, l.Known, l.New = sum(output), readOutput(f.t, output), 2, 1
	var who sealmq.Who
	f.dial("alice").object("Whoami: ", &who, "whoami")
	l.Issuer = who.Issuer
}

// fillSegments publishes until segments are full and there is a checkpoint.
func (f *folder) fillSegments(l *folderList) {
	c := f.dial("admin")
	for i := range 3 {
		body := c.publish("post", "plain", fmt.Sprint("settled-", i), "it is acknowledged")
		c.want("Message: ", "fetch plain")
		c.want("ACK_CONFIRMED ", "ack settled-%d", i)
		l.Settled = append(l.Settled, folderSettled{fmt.Sprint("settled-", i), "post", "plain", body})
	}
	c.publish("everyone", "x", "in-three-queues", "plain, second and grüße hold it")
	for i := range 9 {
		c.publish("post", "big", fmt.Sprint("big-", i), strings.Repeat(fmt.Sprint("zero one two ", i, " "), 25_000))
	}
	for i := range 6 {
		c.want("Message: ", "fetch big")
		c.want("ACK_CONFIRMED ", "ack big-%d", i)
	}
	files := func(pattern string) []string {
		list, err := filepath.Glob(filepath.Join(f.dir, "data", "store", pattern))
		if err != nil {
			f.t.Fatal(err)
		}
		return list
	}
	f.poll("there is no checkpoint", func() bool { return len(files("checkpoint"))*len(files("definitions-*"))*len(files("*.idx")) > 0 })
}

// comeBack returns messages, with and without a delay, and makes dead letters.
func (f *folder) comeBack() {
	c := f.dial("admin")
	take := func(queue, id, how string) {
		c.want("Message: "+id+" ", "fetch %s", queue)
		verb, rest, _ := strings.Cut(how, " ")
		c.want(strings.ToUpper(verb)+"_CONFIRMED "+id, "%s %s %s", verb, id, rest)
	}
	c.publish("post", "returns", "returned-twice", "a")
	take("returns", "returned-twice", "nack")
	take("returns", "returned-twice", "nack")
	c.publish("post", "returns", "released", "b")
	c.want("Message: returned-twice ", "fetch returns") // unacknowledged when the broker is killed
	take("returns", "released", "release")
	c.publish("post", "later", "delayed-nack", "c")
	take("later", "delayed-nack", "nack delay 20s")
	c.publish("post", "later", "delayed-release", "d")
	take("later", "delayed-release", "release delay 20s")
	c.publish("post", "rejects", "dead-with-a-reason", "e")
	take("rejects", "dead-with-a-reason", "nack dead the reader could not read it")
	c.publish("post", "rejects", "dead-without-a-reason", "f")
	take("rejects", "dead-without-a-reason", "nack dead")
	c.publish("post", "rejects", "dead-for-good", "g")
	take("rejects", "dead-for-good", "nack dead no key opens it")
	c.publish("post", "strict", "delivered-once-too-often", "h")
	take("strict", "delivered-once-too-often", "nack")
	c.publish("post", "purged", "purged-1", "i")
	c.want("Queue purged 1", "purge purged")
	for i := range 4 {
		c.publish("post", "latest", fmt.Sprint("latest-", i), "two of four stay")
	}
	c.publish("events", "disk.error", "event-1", "errors and all hold it")
	c.publish("events", "logs.disk.error", "event-2", "logs and all hold it")
	c.publish("grüße", "schön", "grüße-1", "schöne Grüße")
	batch := `[{"message_id":"batch-1","n":1.50,"tag":"t"},{"n":[{"deep":null}],"message_id":"batch-2"}]`
	c.want("ACK batch-1", "publish_batch post limited %s", batch)
	if line, err := c.r.ReadString('\n'); err != nil || line != "ACK batch-2\n" {
		f.t.Fatalf("%q, %v", line, err)
	}
	dead := func(queue string, n int) {
		f.poll("dead letters are missing in "+queue, func() bool {
			var list []folderMessage
			if strings.HasPrefix(c.ask("queue %s", queue), "Error: ") {
				return false
			}
			c.object("Messages: ", &list, "peek %s", queue)
			return len(list) == n
		})
	}
	dead("rejects.dead", 3)
	dead("strict.dead", 1)
	c.want("Moved 2", "move rejects.dead moved 2")
	c.want("Moved 1", "move moved rejects 1")
	c.publish("post", "rejects", "dead-at-last", "j")
	c.want("Message: dead-with-a-reason ", "fetch rejects")
	take("rejects", "dead-at-last", "nack dead it is of no use")
	dead("rejects.dead", 2)
}

// fillSpool sends more than the queue takes. It interrupts the first sender, which then
// records the confirmed messages, and kills the second one.
func (f *folder) fillSpool(l *folderList) {
	const lines = "one\n\ntwo\nthree\nfour\nfive\nsix\n"
	f.sendSome(lines, 6, os.Interrupt)
	f.sendSome(lines+"seven\n", 5, os.Kill)
	l.Spool = f.copiedSpool()
	l.Pins.Pinned = f.pinned()

	cert := f.certificate("alice")
	alice, err := seal.NewSigner("alice", cert.Certificate, cert.PrivateKey)
	if err != nil {
		f.t.Fatal(err)
	}
	_, hash := alice.Chain()
	l.Chains = []string{hex.EncodeToString(hash[:])}
}

// sendSome starts a sender, waits until the spool holds n messages and the queue is full,
// and ends the sender.
func (f *folder) sendSome(lines string, n int, end os.Signal) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, "lines.txt"), []byte(lines), 0o600); err != nil {
		f.t.Fatal(err)
	}
	errs, err := os.Create(filepath.Join(f.t.TempDir(), "errors"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer errs.Close()
	cmd := f.command("", "send", "--as", "alice", "--to", "bob", "--exchange", "post", "--key", "narrow", "--directory", "fixture", "--pins", "client/pins.json",
		"--spool", "client/spool", "--lines", "--file", "lines.txt")
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	defer cmd.Process.Kill()
	f.poll("the sender does not wait", func() bool {
		said, err := os.ReadFile(errs.Name())
		return err == nil && bytes.Contains(said, []byte("waiting: ")) && len(f.copiedSpool()) == n
	})
	cmd.Process.Signal(end)
	cmd.Wait()
}

// copiedSpool lists a copy of the spool, because a sender may have locked the spool itself.
func (f *folder) copiedSpool() []folderSpooled {
	f.t.Helper()
	scratch := filepath.Join(f.t.TempDir(), "spool")
	if err := os.CopyFS(scratch, os.DirFS(filepath.Join(f.dir, "client", "spool"))); err != nil {
		f.t.Fatal(err)
	}
	return readSpool(f.t, scratch)
}

// readSpool lists a spool that no sender uses.
func readSpool(t *testing.T, dir string) (list []folderSpooled) {
	spool, err := send.OpenSpool(dir, send.SpoolConfig{})
	if err != nil {
		return nil
	}
	defer spool.Close()
	for _, e := range spool.Entries() {
		e, err := spool.Read(e.Seq)
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			File string
			Line int
		}
		if err := json.Unmarshal(e.Position, &p); err != nil {
			t.Fatal(err)
		}
		list = append(list, folderSpooled{e.ID, filepath.Base(p.File), p.Line, sum(e.Body)})
	}
	return list
}

// publishLast writes records after the checkpoint. One message is unacknowledged when the
// broker is killed.
func (f *folder) publishLast() {
	c := f.dial("admin")
	c.want("Queue declared", "declare_queue last")
	c.want("Queue bound", "bind last post last")
	c.publish("post", "last", "held-when-all-ended", "somebody has it")
	c.publish("post", "last", "last", "the last one")
	c.publish("post", "brief", "expired", "nobody will read it")
	c.want("Message: held-when-all-ended ", "fetch last")
}

// waitUntilOld waits until the delays and the ttl are over.
func (f *folder) waitUntilOld() {
	f.poll("messages are delayed, or not expired", func() bool {
		var later, brief []folderMessage
		c := f.dial("admin")
		defer c.c.Close()
		c.object("Messages: ", &later, "peek later")
		c.object("Messages: ", &brief, "peek brief")
		return len(later) == 2 && len(brief) == 0
	})
}

// poll waits for a condition.
func (f *folder) poll(missing string, met func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	for !met() {
		select {
		case <-ctx.Done():
			f.t.Fatal(missing)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
