package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// folderList is what a folder of testdata/folders holds: list.json.
type folderList struct {
	Queues    []folderQueue
	Exchanges []folderExchange
	Routes    []folderRoute
	Log       folderLog
	Keys      []folderKey
	BareKeys  map[string]string // the reply to each command that reads a bare key
	Chains    []string          // SHA-256 of each chain of certificates
	Settled   []folderSettled
	Pins      folderPins
	Spool     []folderSpooled
	Ledger    folderLedger
}

type folderQueue struct {
	Name     string          `json:"name"`
	Options  map[string]any  `json:"options"`
	Ready    int             `json:"ready"`
	Unacked  int             `json:"unacked"`
	Bytes    int64           `json:"bytes"`
	Messages []folderMessage `json:"messages"`
}

type folderMessage struct {
	ID          string `json:"id"`
	Publisher   string `json:"publisher"`
	Exchange    string `json:"exchange"`
	Key         string `json:"key"`
	Time        string `json:"time"`
	Attempts    int    `json:"attempts,omitempty"`
	DeathReason string `json:"death_reason,omitempty"`
	DeathQueue  string `json:"death_queue,omitempty"`
	Size        int    `json:"size"`
	Sum         string `json:"sha256,omitempty"` // of the body; drain fills it in
}

type folderExchange struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Bindings int    `json:"bindings"`
}

// folderRoute shows the bindings, which no command lists.
type folderRoute struct {
	Exchange, Key string
	Queues        []string
}

type folderLog struct {
	Size       int      `json:"size"`
	Leaves     []string `json:"leaves"`
	Checkpoint string   `json:"checkpoint"`
	LogKey     string   `json:"log_key"`
}

type folderKey struct {
	Asked  string `json:"asked"` // client and suite
	None   bool   `json:"none,omitempty"`
	Suite  string `json:"suite,omitempty"`
	Proven bool   `json:"proven"`
	Issuer string `json:"issuer,omitempty"`
	Entry  string `json:"entry,omitempty"` // SHA-256
	Key    string `json:"key,omitempty"`
	Index  int    `json:"index"`
}

// folderSettled is a message that was published and acknowledged.
type folderSettled struct{ ID, Exchange, Key, Body string }

type folderPins struct {
	Authority string // named in the pins file
	Pinned    map[string]string
}

type folderSpooled struct {
	ID, File string
	Line     int
	Sum      string
}

type folderLedger struct {
	Issuer   string // of the sender's certificate
	Output   string // SHA-256
	Messages []folderReceived
	// Known and New count the messages of the queue "again" by whether the ledger has them.
	Known, New int
	// Fingerprints of the keys of receiverKey, newest first.
	Fingerprints []string
}

type folderReceived struct {
	ID     string `json:"message_id"`
	Text   string `json:"message"`
	Sender string `json:"sender"`
}

const foldersDir = "testdata/folders"

// folderVariants name how the broker that wrote a folder ended.
var folderVariants = []string{"killed", "stopped"}

// TestOldDataFoldersOpen opens data folders that an older program wrote, and checks
// that everything in them is still there. See testdata/folders/README.md.
func TestOldDataFoldersOpen(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts brokers")
	}
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(foldersDir, "list.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want folderList
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	exe := program.Path(t)
	for _, variant := range folderVariants {
		t.Run(variant, func(t *testing.T) { checkFolder(t, exe, variant, &want) })
	}
}

func checkFolder(t *testing.T, exe, variant string, want *folderList) {
	f := newFolder(t, exe)
	f.chains = want.Chains
	f.unpack(filepath.Join(foldersDir, variant+".tar.gz"))
	f.checkJournal()
	f.serve()
	got := f.look()
	got.checkAgainst(t, want)

	f.checkPins(want.Pins)
	f.checkSettled(want.Settled)
	f.drain("admin", got.Queues)
	checkSums(t, got.Queues, want.Queues)
	f.checkSpool(want.Spool)
	f.checkLedger(want.Ledger)
	equal(t, "routes", f.routes(), want.Routes)
	f.checkDirectoryGoesOn(want.Log.Size)

	f.stop()
	f.checkJournal()
	f.serve()
	if size := f.log().Size; size != want.Log.Size+1 {
		t.Errorf("after another start the log has %d records, want %d", size, want.Log.Size+1)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// checkAgainst compares everything except the sums of the bodies. It ignores options that
// the old program did not know.
func (l *folderList) checkAgainst(t *testing.T, want *folderList) {
	t.Helper()
	if len(l.Queues) != len(want.Queues) {
		t.Fatalf("there are %d queues, want %d", len(l.Queues), len(want.Queues))
	}
	for i, q := range want.Queues {
		got := l.Queues[i]
		for name, value := range q.Options {
			equal(t, "queue "+q.Name+": option "+name, got.Options[name], value)
		}
		counts := func(q folderQueue) []any { return []any{q.Name, q.Ready, q.Unacked, q.Bytes} }
		equal(t, "queue "+q.Name, counts(got), counts(q))
		equal(t, "messages of "+q.Name, withoutSums(got.Messages), withoutSums(q.Messages))
	}
	equal(t, "exchanges", l.Exchanges, want.Exchanges)
	equal(t, "log", l.Log, want.Log)
	equal(t, "keys", l.Keys, want.Keys)
	equal(t, "bare keys", l.BareKeys, want.BareKeys)
	equal(t, "chains", l.Chains, want.Chains)
}

func withoutSums(list []folderMessage) []folderMessage {
	out := slices.Clone(list)
	for i := range out {
		out[i].Sum = ""
	}
	return out
}

func checkSums(t *testing.T, got, want []folderQueue) {
	t.Helper()
	for i, q := range want {
		for k, m := range q.Messages {
			if sum := got[i].Messages[k].Sum; sum != m.Sum {
				t.Errorf("queue %s: the body of %s has the sum %s, want %s", q.Name, m.ID, sum, m.Sum)
			}
		}
	}
}

// checkJournal fails if "sealmq journal check" finds anything wrong.
func (f *folder) checkJournal() {
	f.t.Helper()
	f.must("", "journal", "check")
}

// look lists everything that can be read without a change.
func (f *folder) look() *folderList {
	f.t.Helper()
	c := f.dial("admin")
	l := new(folderList)
	c.object("Queues: ", &l.Queues, "queues")
	slices.SortFunc(l.Queues, func(a, b folderQueue) int { return strings.Compare(a.Name, b.Name) })
	for i := range l.Queues {
		q := &l.Queues[i]
		c.object("Messages: ", &q.Messages, "peek %s 100", q.Name)
	}
	c.object("Exchanges: ", &l.Exchanges, "exchanges")
	slices.SortFunc(l.Exchanges, func(a, b folderExchange) int { return strings.Compare(a.Name, b.Name) })
	l.Log = f.log()
	for _, asked := range []string{"bob", "bob hpke-x25519-aes256gcm", "carol", "dora", "alice", "erin"} {
		l.Keys = append(l.Keys, c.findKey(asked))
	}
	l.BareKeys = make(map[string]string)
	for _, command := range []string{"get_key dora", "get_public_key dora", "get_public_key alice", "get_key erin"} {
		l.BareKeys[command] = c.ask("%s", command)
	}
	l.Chains = c.chains(f.chains)
	return l
}

func (f *folder) log() (l folderLog) {
	f.t.Helper()
	f.dial("admin").object("Key log: ", &l, "key_log 0 1000")
	return l
}

func (c *lineConn) findKey(asked string) folderKey {
	reply := c.ask("find_key %s", asked)
	text, ok := strings.CutPrefix(reply, "Key: ")
	if !ok {
		return folderKey{Asked: asked, None: strings.HasPrefix(reply, "Error: ")}
	}
	var k struct {
		folderKey
		Entry []byte `json:"entry"`
	}
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		c.t.Fatalf("%s: %v", reply, err)
	}
	k.folderKey.Asked = asked
	if k.Entry != nil {
		k.folderKey.Entry = sum(k.Entry)
	}
	return k.folderKey
}

// chains returns those of the hashes whose certificates the broker has.
func (c *lineConn) chains(sums []string) (list []string) {
	for _, s := range sums {
		var chain []byte
		text := c.want("Chain: ", "find_chain %s", s)
		if err := json.Unmarshal([]byte(`"`+text+`"`), &chain); err != nil {
			c.t.Fatal(err)
		}
		list = append(list, sum(chain))
	}
	return list
}

// checkSettled publishes acknowledged messages again. The broker must recognise them. Its
// dedup window starts again with each start, so the age of the fixture does not matter.
func (f *folder) checkSettled(list []folderSettled) {
	f.t.Helper()
	c := f.dial("admin")
	for _, m := range list {
		c.want("ACK "+m.ID, "publish %s %s %s", m.Exchange, m.Key, m.Body)
		c.want("Error: ", `publish %s %s {"message_id":%q,"text":"another one"}`, m.Exchange, m.Key, m.ID)
	}
}

// drain fetches and acknowledges all messages, and records the sums of their bodies.
// It first publishes each message again, and the broker must recognise it. The queue "again" is left
// for checkLedger.
func (f *folder) drain(as string, queues []folderQueue) {
	f.t.Helper()
	c := f.dial(as)
	for _, q := range queues {
		if q.Name == "again" {
			continue
		}
		for i := range q.Messages {
			m := &q.Messages[i]
			body := c.want("Message: "+m.ID+" ", "fetch %s", q.Name)
			c.want("ACK "+m.ID, "publish %s %s %s", m.Exchange, m.Key, body)
			c.want("Error: ", `publish %s %s {"message_id":%q,"text":"another one"}`, m.Exchange, m.Key, m.ID)
			c.want("ACK_CONFIRMED ", "ack %s", m.ID)
			m.Sum = sum([]byte(body))
		}
		c.want("No messages", "fetch %s", q.Name)
	}
}

// checkPins reads the log with the old pins file. The log must continue the pinned checkpoint.
func (f *folder) checkPins(want folderPins) {
	f.t.Helper()
	// Pins belong to one authority. This folder has a new one.
	name := filepath.Join(f.dir, "client", "pins.json")
	data, err := os.ReadFile(name)
	if err != nil {
		f.t.Fatal(err)
	}
	scope := func(authority string) []byte { return []byte(authority + " fixture") }
	if !bytes.Contains(data, scope(want.Authority)) {
		f.t.Fatalf("the pins do not name %s", want.Authority)
	}
	data = bytes.ReplaceAll(data, scope(want.Authority), scope(f.authority()))
	if err := os.WriteFile(name, data, 0o600); err != nil {
		f.t.Fatal(err)
	}
	equal(f.t, "pins", f.pinned(), want.Pinned)
}

// pinned is what "sealmq key directory" says is pinned, by name and suite.
func (f *folder) pinned() map[string]string {
	f.t.Helper()
	var rows []struct{ Name, Suite, Pinned string }
	out := f.must("", "key", "directory", "--directory", "fixture", "--pins", "client/pins.json", "--json")
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		f.t.Fatalf("%s: %v", out, err)
	}
	pins := make(map[string]string)
	for _, r := range rows {
		if r.Pinned != "" {
			pins[strings.TrimSpace(r.Name+" "+r.Suite)] = r.Pinned
		}
	}
	return pins
}

// checkSpool lists the spool and sends its messages.
func (f *folder) checkSpool(want []folderSpooled) {
	f.t.Helper()
	var entries []folderSpooled
	out := f.must("", "spool", "list", "client/spool", "--json")
	if err := json.Unmarshal([]byte(out), &entries); err != nil {
		f.t.Fatalf("%s: %v", out, err)
	}
	for i := range entries {
		entries[i].File = filepath.Base(entries[i].File)
	}
	bare := slices.Clone(want)
	for i := range bare {
		bare[i].Sum = ""
	}
	equal(f.t, "spool", entries, bare)

	f.must("", "cert", "issue", "alice")
	f.must("", "key", "generate", "--out", "bob")
	// The queue was too small for all of them.
	c := f.dial("admin")
	c.want("Queue deleted", "delete_queue narrow")
	c.want("Queue declared", "declare_queue narrow")
	c.want("Queue bound", "bind narrow post narrow")
	// The messages may be older than the dedup window, so --spool-old is needed.
	f.must("", "send", "--as", "alice", "--to", "bob=bob.pub", "--exchange", "post", "--key", "narrow",
		"--spool", "client/spool", "--spool-old", "again", "--lines", "--give-up", "1m")
	narrow := []folderQueue{{Name: "narrow"}}
	for _, e := range want {
		narrow[0].Messages = append(narrow[0].Messages, folderMessage{ID: e.ID, Exchange: "post", Key: "narrow"})
	}
	f.drain("alice", narrow)
	for i, m := range narrow[0].Messages {
		if m.Sum != want[i].Sum {
			f.t.Errorf("message %s of the spool has the sum %s, want %s", m.ID, m.Sum, want[i].Sum)
		}
	}
	if out := f.must("", "spool", "list", "client/spool", "--json"); strings.TrimSpace(out) != "[]" {
		f.t.Errorf("the spool still holds %s", out)
	}
}

// checkLedger receives messages that the ledger knows, and one that it does not know.
func (f *folder) checkLedger(want folderLedger) {
	f.t.Helper()
	file := filepath.Join(f.dir, "client", "inbox.jsonl")
	before, err := os.ReadFile(file)
	if err != nil {
		f.t.Fatal(err)
	}
	equal(f.t, "output", sum(before), want.Output)
	f.judge(want)

	f.writeKeyring("dora.key", want.Fingerprints)
	var res struct{ Received, Known, Dead int }
	out := f.must("", "receive", "again", "--key-file", "dora.key", "--name", "dora", "--out", "client/inbox.jsonl", "--count", "1", "--idle", "1m", "--json")
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		f.t.Fatalf("%s: %v", out, err)
	}
	if res.Received != want.New || res.Known != want.Known || res.Dead != 0 {
		f.t.Errorf("received %+v, want %d that are known and %d that are not", res, want.Known, want.New)
	}
	after, err := os.ReadFile(file)
	if err != nil {
		f.t.Fatal(err)
	}
	added, ok := bytes.CutPrefix(after, before)
	if list := readOutput(f.t, added); !ok || len(list) != want.New || list[0].Text != "six" {
		f.t.Errorf("the output grew by %q", added)
	}
}

// judge asks the ledger about each message, about changed ones and about a new one. This
// needs no key.
func (f *folder) judge(want folderLedger) {
	f.t.Helper()
	ledger, err := receive.OpenLedger(filepath.Join(f.dir, "client", "inbox.jsonl.ledger"), receive.LedgerConfig{})
	if err != nil {
		f.t.Fatal(err)
	}
	defer ledger.Close()
	if n := ledger.Output().Messages; n != uint64(len(want.Messages)) {
		f.t.Errorf("the ledger speaks of %d messages in the output, want %d", n, len(want.Messages))
	}
	for _, m := range want.Messages {
		for _, c := range []struct {
			what, id, text string
			want           receive.Judgement
		}{
			{"itself", m.ID, m.Text, receive.LedgerSeen},
			{"another text", m.ID, m.Text + ".", receive.LedgerConflict},
		} {
			message := &seal.Message{ID: c.id, Text: []byte(c.text)}
			if m.Sender != "" {
				message.Sender.ID, message.Sender.Issuer = m.Sender, want.Issuer
			}
			if got := ledger.Judge(message); got != c.want {
				f.t.Errorf("the ledger says %d of %s with %s, want %d", got, m.ID, c.what, c.want)
			}
		}
	}
	if got := ledger.Judge(&seal.Message{ID: "new", Text: []byte("new")}); got != receive.LedgerNew {
		f.t.Errorf("the ledger says %d of a message that is new", got)
	}
}

// receiverKey derives a key of dora's. It is not secret, so the fixture needs no key file.
func receiverKey(t *testing.T, number string) (*seal.PrivateKey, []byte) {
	t.Helper()
	raw := sha256.Sum256([]byte("sealmq testdata/folders: key of dora " + number))
	key, err := seal.NewPrivateKey(ciphermq.G5, raw[:], ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	return key, raw[:]
}

// writeKeyring writes a key file in the old format: two live keys and a retired one.
func (f *folder) writeKeyring(name string, fingerprints []string) {
	f.t.Helper()
	var out bytes.Buffer
	block := func(kind, number, fingerprint string, more ...string) {
		b := &pem.Block{Type: kind, Headers: map[string]string{
			"Version": "1", "Suite": string(ciphermq.G5), "Fingerprint": fingerprint, "Created": "2026-11-0" + number + "T10:00:00Z"}}
		if kind == "SEALMQ PRIVATE KEY" {
			_, b.Bytes = receiverKey(f.t, number)
		} else {
			b.Headers["Retired"] = "2026-11-04T10:00:00Z"
		}
		if err := pem.Encode(&out, b); err != nil {
			f.t.Fatal(err)
		}
	}
	block("SEALMQ PRIVATE KEY", "3", fingerprints[0])
	block("SEALMQ PRIVATE KEY", "2", fingerprints[1])
	block("SEALMQ RETIRED KEY", "1", fingerprints[2])
	if err := os.WriteFile(filepath.Join(f.dir, name), out.Bytes(), 0o600); err != nil {
		f.t.Fatal(err)
	}
	var rows []struct{ State, Fingerprint string }
	list := f.must("", "key", "list", name, "--json")
	if err := json.Unmarshal([]byte(list), &rows); err != nil || len(rows) != 3 {
		f.t.Fatalf("%s: %v", list, err)
	}
	for i, state := range []string{"newest", "live", "retired"} {
		if rows[i].State != state || rows[i].Fingerprint != fingerprints[i] {
			f.t.Errorf("key %d is %+v, want %s %s", i, rows[i], state, fingerprints[i])
		}
	}
}

// routes publishes to every exchange and returns the queues that got each message. Drain
// the folder first.
func (f *folder) routes() (list []folderRoute) {
	f.t.Helper()
	c := f.dial("admin")
	ready := func() map[string]int {
		var queues []folderQueue
		c.object("Queues: ", &queues, "queues")
		n := make(map[string]int)
		for _, q := range queues {
			n[q.Name] = q.Ready
		}
		return n
	}
	for i, to := range [][2]string{
		{"post", "plain"}, {"post", "box"}, {"post", "nobody"}, {"post", "unbound"}, {"everyone", "any"}, {"everyone", "other.key"},
		{"events", "disk.error"}, {"events", "logs"}, {"events", "logs.disk.error"}, {"events", "a.b.error"}, {"events", "x.y.z"}, {"grüße", "schön"},
	} {
		before := ready()
		reply := c.ask(`publish %s %s {"message_id":"probe-%d"}`, to[0], to[1], i)
		if !strings.HasPrefix(reply, "ACK ") && !strings.HasPrefix(reply, "Error: ") {
			f.t.Errorf("publish to %v: %s", to, reply)
		}
		queues := []string{}
		for name, n := range ready() {
			if n > before[name] {
				queues = append(queues, name)
			}
		}
		slices.Sort(queues)
		list = append(list, folderRoute{to[0], to[1], queues})
	}
	return list
}

// checkDirectoryGoesOn publishes a key of carol's, whose old key was reset, with a certificate
// of the new authority. It is the next record of the same log.
func (f *folder) checkDirectoryGoesOn(size int) {
	f.t.Helper()
	f.must("", "cert", "issue", "carol")
	f.must("", "key", "generate", "--out", "carol")
	var e struct{ Entry int }
	out := f.must("", "key", "publish", "carol.key", "--as", "carol", "--directory", "fixture", "--pins", "carol.json", "--json")
	if err := json.Unmarshal([]byte(out), &e); err != nil || e.Entry != 2 {
		f.t.Errorf("carol's key is %s (%v), want entry 2", out, err)
	}
	if l := f.log(); l.Size != size+1 {
		f.t.Errorf("the log has %d records, want %d", l.Size, size+1)
	}
	f.pinned() // checks again that the log continues the pinned checkpoint
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// readOutput reads the lines of an output of "sealmq receive".
func readOutput(t *testing.T, data []byte) (list []folderReceived) {
	t.Helper()
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		var r folderReceived
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}
