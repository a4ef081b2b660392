package text_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/protocol/text"
)

// words are the verbs by their words.
var words = func() map[string]text.Verb {
	m := map[string]text.Verb{}
	for _, v := range text.Verbs() {
		m[v.String()] = v
	}
	return m
}()

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		line string
		verb text.Verb
		args string
	}{
		{"declare_queue q", text.DeclareQueue, "q"},
		{"declare_queue q\r", text.DeclareQueue, "q"},
		{"  declare_queue   q \t", text.DeclareQueue, "q"},
		{"declare_queue", text.DeclareQueue, ""},
		{"declare_queue ", text.DeclareQueue, ""},
		{"DECLARE_QUEUE q", text.Unknown, "q"},
		{"declare_queue\tq", text.Unknown, ""},
		{"", text.Unknown, ""},
		{"\r", text.Unknown, ""},
		{`publish x k {"a":  "b  c"}`, text.Publish, `x k {"a":  "b  c"}`},
		{"ack a b", text.Ack, "a b"},
		{"\u00a0ping\u0085", words["ping"], ""},
		{"\xff\xfe ping", text.Unknown, "ping"},
	} {
		got := text.Parse([]byte(tt.line))
		if got.Verb != tt.verb || string(got.Args) != tt.args {
			t.Errorf("Parse(%q) = %v %q, want %v %q", tt.line, got.Verb, got.Args, tt.verb, tt.args)
		}
	}
}

func TestEveryVerbIsItsWord(t *testing.T) {
	for _, v := range text.Verbs() {
		if got := text.Parse([]byte(v.String() + " x")).Verb; got != v {
			t.Errorf("the word %q parses as %v", v, got)
		}
	}
}

// TestPageOfTheProtocolHasEveryVerb compares the table of verbs with docs/protocol.md.
func TestPageOfTheProtocolHasEveryVerb(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, r := range text.Table() {
		row := "`" + strings.TrimSpace(r.Word+" "+r.Args) + "`"
		if r.AdminOnly {
			row += " (administrators)"
		}
		if r.OwnerOnly {
			row += " (owner)"
		}
		want = append(want, row)
	}
	for _, section := range []string{"## CipherMQ's commands", "## Added commands"} {
		_, list, _ := strings.Cut(string(page), section)
		list, _, _ = strings.Cut(list, "\n## ")
		for _, m := range regexp.MustCompile("(?m)^\\| (`(?:[^|]|\\\\\\|)+?) \\| ").FindAllStringSubmatch(list, -1) {
			got = append(got, strings.ReplaceAll(m[1], `\|`, "|"))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table and page differ (-table +page):\n%s", diff)
	}
}

// TestCommandsWithoutTheirArguments: each lacks some of those that it needs.
func TestCommandsWithoutTheirArguments(t *testing.T) {
	n := newNode(t)
	admin := n.admin(t)
	for _, r := range text.Table() {
		for args := range r.Least {
			admin.do(r.Word+strings.Repeat(" a", args), strings.TrimSpace(r.Missing))
		}
	}
}

// wrongArguments are commands that lack nothing and ask for nothing that can be done, on a
// broker with the queues q and r and the exchange x.
var wrongArguments = []struct{ line, reply string }{
	{`declare_queue q [1]`, "Error: what follows the queue is not a JSON object of options, and a name has no spaces"},
	{`declare_queue a queue`, "Error: what follows the queue is not a JSON object of options, and a name has no spaces"},
	{`declare_queue q {"prefetch":0}`, "Error: prefetch is 0, and it cannot be switched off; leave it out for the default"},
	{`declare_queue q {"delivery_limit":0}`, "Error: delivery_limit is 0, and it cannot be switched off; leave it out for the default"},
	{`declare_queue q {"ack_timeout":"0s"}`, "Error: ack_timeout is 0, and it cannot be switched off; leave it out for the default"},
	{`declare_queue q {"prefetch":7}`, "Error: it exists with other options"},
	{`declare_exchange x other`, "Error: the kind of an exchange is direct, fanout or topic"},
	{`declare_exchange x direct extra`, "Error: the kind of an exchange is direct, fanout or topic"},
	{`bind q x k extra`, "Error: routing key contains white space or a control character"},
	{`publish x k text`, "Invalid message format: expected a JSON object at byte 0"},
	{`publish nox k {"message_id":"m"}`, "Error: Exchange 'nox' not found"},
	{`publish x nok {"message_id":"m"}`, "Error: No queues bound to exchange 'x' with routing key 'nok'"},
	{`publish_batch x k {}`, "Invalid batch format: expected an array of JSON objects at byte 0"},
	{`consume q extra`, "Error: queue contains white space or a control character"},
	{`fetch q extra`, "Error: queue contains white space or a control character"},
	{`fetch noq`, "No messages"},
	{`ack m1 extra`, "Error: ack takes one message id, and nothing after it"},
	{`ack m1`, "ACK_CONFIRMED m1"},
	{`register_key bob AAAA`, "Error registering key: the public key is not the base64 form of 32 bytes"},
	{`get_key nobody`, "No public key found"},
	{`register_public_key AAAA`, "Error: the public key is not the base64 form of 32 bytes"},
	{`get_public_key nobody`, "Public key not found"},
	{`resend m1`, "Message ID not found"},
	{`nosuch command`, "Unknown command"},

	{`publish_digest x k zz {"message_id":"m"}`, "Error: the digest is not hexadecimal"},
	{`unbind noq x k`, "Error: Queue 'noq' not found"},
	{`unbind q nox k`, "Error: Exchange 'nox' not found"},
	{`unbind q x k extra`, "Error: routing key contains white space or a control character"},
	{`delete_queue noq`, "Error: Queue 'noq' not found"},
	{`delete_exchange nox`, "Error: Exchange 'nox' not found"},
	{`purge noq`, "Error: Queue 'noq' not found"},
	{`peek noq`, "Error: Queue 'noq' not found"},
	{`peek q 0`, "Error: the number of messages is not between 1 and 100"},
	{`peek q 101`, "Error: the number of messages is not between 1 and 100"},
	{`peek q 1 first`, "Error: the place to begin at is not a whole number"},
	{`move noq r`, "Error: Queue 'noq' not found"},
	{`move q nor`, "Error: Queue 'nor' not found"},
	{`move noq nor`, "Error: Queue 'noq' not found"},
	{`move q q`, "Error: both queues are the same"},
	{`move q r 0`, "Error: the number of messages is not a whole number above zero"},
	{`move_messages noq r m`, "Error: Queue 'noq' not found"},
	{`move_messages q nor m`, "Error: Queue 'nor' not found"},
	{`nack m1 extra`, "Error: nack takes nothing, delay or dead after the message id"},
	{`nack m1 delay soon`, "Error: the delay is not a duration such as 30s"},
	{`nack m1 delay 25h`, "Error: the delay is not between 0s and 24h0m0s"},
	{`release m1 dead`, "Error: release takes nothing or delay after the message id"},
	{`extend m1 extra`, "Error: extend takes one message id, and nothing after it"},
	{`extend m1`, "Error: this connection does not hold the message"},
	{`prefetch -1`, "Error: prefetch is not between 0 and 10000"},
	{`prefetch many`, "Error: prefetch is not between 0 and 10000"},
	{`meta yes`, "Error: meta is on, ends or off"},
	{`codes yes`, "Error: codes is on or off"},
	{`queue noq`, "Error: Queue 'noq' not found"},
	{`close_connection me`, "Error: the connection id is not a number"},
	{`close_connection 77`, "Error: no such connection"},
	{`put_key nosuite AAAA`, "Error: there is no suite 'nosuite', only hpke-mlkem768x25519-aes256gcm, hpke-x25519-aes256gcm, ciphermq-rsa, ciphermq-g3, ciphermq-g4, ciphermq-g5, ciphermq-g6"},
	{`put_key hpke-x25519-aes256gcm !`, "Error: the key entry is not the base64 form of at most 21510 bytes"},
	{`find_key nobody`, "Error: this broker keeps no proven key directory"},
	{`find_key nobody nosuite`, "Error: this broker keeps no proven key directory"},
	{`key_log first`, "Error: the place is not a number, or the number of leaves is over 1000"},
	{`key_proof 1 last`, "Error: the two sizes of the log are not numbers"},
	{`reset_key nobody`, "Error: this broker keeps no proven key directory"},
	{`attest_restore 3 x`, "Error: this broker keeps no proven key directory"},
	{`find_reset alice nosuite`, "Error: the last word is neither unproven nor a suite: hpke-mlkem768x25519-aes256gcm, hpke-x25519-aes256gcm, ciphermq-rsa, ciphermq-g3, ciphermq-g4, ciphermq-g5, ciphermq-g6"},
	{`put_chain !`, "Error: the certificates are not the base64 form of at most 16384 bytes"},
	{`watch nox k`, "Error: Exchange 'nox' not found"},
	{`bindings noq`, "Error: Queue 'noq' not found"},
	{`change_queue q [1]`, "Error: queue options are not a JSON object"},
	{`change_queue q {"prefetch":0}`, "Error: prefetch is 0, and it cannot be switched off; leave it out for the default"},
	{`close_connection 1 ban soon`, "Error: after the id comes nothing, or ban and a duration such as 10m"},
	{`find_chain abc`, "Error: the hash is not 64 hexadecimal digits"},
	{`find_chain ` + strings.Repeat("00", 32), "Error: no certificates are stored under this hash"},
}

// TestWrongArguments: what these commands are answered is what docs/protocol.md says of them.
func TestWrongArguments(t *testing.T) {
	page := readPage(t)
	n := newNode(t)
	admin := n.admin(t)
	admin.do("declare_queue q", "Queue declared")
	admin.do("declare_queue r", "Queue declared")
	admin.do("bind q x k", "Queue bound")
	for _, w := range wrongArguments {
		got := admin.ask(w.line)
		if got != w.reply {
			t.Errorf("%s is answered %q, want %q", w.line, got, w.reply)
		}
		if word, _, _ := strings.Cut(w.line, " "); !page.allows(word, got) && got != "Unknown command" {
			t.Errorf("%s is answered %q, of which the page knows nothing", w.line, got)
		}
	}
	for _, r := range text.Table() {
		if r.Least > 0 && !page.allows(r.Word, r.Missing) {
			t.Errorf("%s without its arguments is answered %q, of which the page knows nothing", r.Word, r.Missing)
		}
	}
}

// page has the replies that docs/protocol.md shows: those of each command, and under "" those
// that any may get.
type page map[string][]*regexp.Regexp

func readPage(t *testing.T) page {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("`[^`]+`")
	free := regexp.MustCompile("<[^>]+>|…")
	p := page{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)[^`]*`[^|]* \\|(.*)$").FindAllStringSubmatch(string(content), -1) {
		word, prefix := m[1], ""
		if _, ok := words[word]; !ok {
			word, prefix = "", "Error: " // a row of the table of codes
		}
		for _, reply := range shown.FindAllString(m[2], -1) {
			parts := free.Split(strings.Trim(reply, "`"), -1)
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			p[word] = append(p[word], regexp.MustCompile("^"+prefix+strings.Join(parts, ".+")+"$"))
		}
	}
	return p
}

func (p page) allows(word, reply string) bool {
	for _, like := range slices.Concat(p[word], p[""]) {
		if like.MatchString(reply) {
			return true
		}
	}
	return false
}

// TestCommandsOfAdministrators: a plain client may use all commands but these, and those of owners
// if it is the owner.
func TestCommandsOfAdministrators(t *testing.T) {
	for client, owner := range map[string]bool{"1": true, "2": false} {
		n := newNode(t)
		if !owner {
			n.client(t, "1").do("bind 1 1 1", "Queue bound")
		}
		for _, r := range text.Table() {
			if r.Word == "heartbeat" {
				continue // it has no reply
			}
			if owner && r.OwnerOnly {
				n.client(t, "1").do("bind 1 1 1", "Queue bound")
			}
			got := n.client(t, client).ask(r.Word + strings.Repeat(" 1", r.Least))
			denied := r.AdminOnly || !owner && (r.OwnerOnly || r.Word == "unbind" || r.Word == "register_key")
			if strings.HasPrefix(got, "Error: not allowed to ") != denied && r.Word != "register_key" {
				t.Errorf("owner %v: %s is answered %q", owner, r.Word, got)
			}
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	line := []byte("publish exchange key " + sample(256) + "\r")
	if n := testing.AllocsPerRun(100, func() { text.Parse(line) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParse compares Parse with the obvious way to write it with strings, and checks
// that arguments are a part of the line and never made up.
func FuzzParse(f *testing.F) {
	for _, v := range text.Verbs() {
		f.Add([]byte(v.String() + " first second third"))
	}
	for _, s := range []string{"", " ", "\r", "ack", "publish  x  k  {}", "bind q x k\r", "\xff", "ping\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		got := text.Parse(line)
		word, args, _ := strings.Cut(strings.TrimSpace(string(before)), " ")
		want := text.Command{Verb: words[word], Args: []byte(strings.TrimLeft(args, " "))}
		if len(want.Args) == 0 {
			want.Args = got.Args[:0]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q): %s", before, diff)
		}
		if !bytes.Equal(before, line) {
			t.Errorf("Parse changed its input")
		}
	})
}

func BenchmarkParse(b *testing.B) {
	line := []byte("publish exchange key " + sample(256))
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		text.Parse(line)
	}
}

// sample is a message in a minimal envelope with n bytes of ciphertext.
func sample(n int) string {
	return `{"message_id":"p0-00000000-receiver_1","receiver_client_id":"receiver_1","enc_session_key":"","nonce":"","tag":"","ciphertext":"` +
		strings.Repeat("A", n) + `"}`
}
