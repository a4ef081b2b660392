package text_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
)

// FuzzSession feeds any bytes to a session, whole and cut in two, and demands the same
// replies, one for each line, each a line of valid UTF-8.
func FuzzSession(f *testing.F) {
	declared := "bind q x k\nconsume q\n"
	for _, s := range []string{
		declared + publish("1") + "\nack 1\nfetch q\nnack 1 dead so what\n",
		declared + "publish_batch x k [" + message("1") + "," + message("2") + "]\r\n\n\npublish_batch x k []\n",
		strings.Repeat("x", 600) + "\nping\n", "hello\xff\nack \xff\n\x00\n", "meta on\n" + declared + publish("2"),
		`declare_queue q {"max_messages":1}` + "\n" + declared + publish("1") + "\n" + publish("2") + "\n",
		"register_public_key B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=\nget_key a\nwhoami\nresend 1\nprefetch 3\n",
	} {
		f.Add([]byte(s), len(s)/2)
	}
	for _, r := range text.Table() {
		f.Add([]byte(declared+r.Word+" "+r.Args+"\n"+r.Word+strings.Repeat(" 1", r.Least)+"\n"), 1)
	}
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		if len(data) > 64<<10 {
			t.Skip()
		}
		cut = max(0, min(cut, len(data)))
		whole := replies(t, data)
		parts := replies(t, data[:cut], data[cut:])
		if diff := cmp.Diff(whole, parts); diff != "" {
			t.Errorf("cut at %d: %s", cut, diff)
		}
	})
}

// replies returns what a session answers, without what depends on the moment.
func replies(t *testing.T, pieces ...[]byte) []string {
	n, stop, err := startNode()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{Limits: text.Limits{LineBytes: 500}})
	defer p.session.Close()
	for _, piece := range append(pieces, []byte("\n")) {
		if err := p.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	var out []byte
	for {
		drained := p.session.Drained()
		more := output(p.session, nil)
		out = append(out, more...)
		if len(more) > 0 {
			continue
		}
		if drained {
			break
		}
		<-p.woken
	}
	if len(out) > 0 && out[len(out)-1] != '\n' || !utf8.Valid(out) {
		t.Fatalf("output %q", out)
	}
	var list []string
	for line := range bytes.Lines(out) {
		switch word, _, _ := strings.Cut(strings.TrimSpace(string(line)), " "); word {
		case "Meta:": // not a reply
		case "Message:", "No": // a push or a reply to fetch: which of them gets it is free
		case "Stats:", "Queue:", "Queues:", "Exchanges:":
			list = append(list, word)
		default:
			list = append(list, string(line))
		}
	}
	return list
}
