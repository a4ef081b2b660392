package text_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	goclient "github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
)

// TestCodesInErrorLines: every kind of error line, as it is and after `codes on`.
func TestCodesInErrorLines(t *testing.T) {
	c := newNode(t).client(t, "a")
	c.do("bind q x k", "Queue bound")
	for _, tt := range []struct{ line, classic, coded string }{
		{"nonsense", "Unknown command", "Error unsupported: Unknown command"},
		{"bind q x", "Missing parameters", "Error bad_argument: Missing parameters"},
		{"publish x k {}", "Invalid message format: missing field message_id at byte 0", "Error bad_argument: Invalid message format: missing field message_id at byte 0"},
		{"publish_batch x k [1]", "Invalid batch format: expected a JSON object at byte 1", "Error bad_argument: Invalid batch format: expected a JSON object at byte 1"},
		{publish("1"), "ACK 1", "ACK 1"},
		{`publish x k {"message_id":"1","other":1}`, "Error: Duplicate message 1 ignored", "Error duplicate: Duplicate message 1 ignored"},
		{`publish_batch x k [{"message_id":"1","other":1}]`, "Error: Duplicate message 1 ignored for message 1", "Error duplicate: Duplicate message 1 ignored for message 1"},
		{"publish y k " + message("2"), "Error: Exchange 'y' not found", "Error no_exchange: Exchange 'y' not found"},
		{"queue r", "Error: Queue 'r' not found", "Error no_queue: Queue 'r' not found"},
		{"prefetch x", "Error: prefetch is not between 0 and 10000", "Error bad_argument: prefetch is not between 0 and 10000"},
		{"codes", "Missing parameters", "Error bad_argument: Missing parameters"},
		{"codes maybe", "Error: codes is on or off", "Error bad_argument: codes is on or off"},
		{"reset_stats", "Error: not allowed to use 'reset_stats'", "Error denied: not allowed to use 'reset_stats'"},
		{"extend 9", "Error: this connection does not hold the message", "Error not_held: this connection does not hold the message"},
		{"register_key b AA==", "Error registering key: the public key is not the base64 form of 32 bytes", "Error bad_argument: the public key is not the base64 form of 32 bytes"},
		{"get_key b", "No public key found", "No public key found"},
		{"fetch r", "No messages", "No messages"},
	} {
		// In one read, so that codes hold from the next command on and no earlier.
		c.send(tt.line, "codes on", tt.line, "codes off", tt.line)
		c.want(tt.classic, "Codes on", tt.coded, "Codes off", tt.classic)
	}
}

// TestEveryCodeReachesTheClient: what the broker refuses with a code, the client reports
// with the same code, whatever the sentence.
func TestEveryCodeReachesTheClient(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	c := n.dialClient(t)
	publish := func() error {
		return c.Publish(t.Context(), sealmq.Message{Exchange: "x", Key: "k", ID: "1", Body: []byte(message("1"))})
	}
	for _, r := range sealmq.Codes() {
		for _, sentence := range []string{"", "queue 'q' is full: it says so"} {
			disk.fail(&sealmq.Error{Code: r.Code, Message: sentence})
			if err := publish(); sealmq.CodeOf(err) != r.Code {
				t.Errorf("%s with sentence %q arrives as %v of code %q", r.Code, sentence, err, sealmq.CodeOf(err))
			}
		}
	}
	disk.fail(errors.New("secret"))
	if err := publish(); err == nil || sealmq.CodeOf(err) != "" || strings.Contains(err.Error(), "secret") {
		t.Errorf("an internal error arrives as %v of code %q", err, sealmq.CodeOf(err))
	}
}

// dialClient is the Go client on a session, without a network.
func (n *node) dialClient(t *testing.T) *goclient.Client {
	t.Helper()
	c, err := goclient.Dial(t.Context(), goclient.Config{Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		p := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{})
		ended := make(chan struct{})
		go func() { // what the client sends
			defer close(ended)
			defer p.session.Close()
			buf := make([]byte, 32<<10)
			for {
				n, err := far.Read(buf)
				if p.Write(buf[:n]) != nil || err != nil {
					return
				}
			}
		}()
		go func() { // what it is sent
			for {
				if out := output(p.session, nil); len(out) > 0 {
					if _, err := far.Write(out); err != nil {
						return
					}
					continue
				}
				select {
				case <-p.woken:
				case <-ended:
					return
				}
			}
		}()
		return near, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestPageOfTheProtocolHasEveryCode(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range sealmq.Codes() {
		if !strings.Contains(string(page), fmt.Sprintf("\n| `%s` | ", r.Code)) {
			t.Errorf("docs/protocol.md does not have code %s", r.Code)
		}
	}
}
