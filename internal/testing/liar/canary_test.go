package liar_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/send"
)

// TestCanaries sends 10,000 marked letters, some of which are changed on the way. It searches
// the disks of broker, sender and receiver, logs, metrics and dead-letter reasons for the
// mark, which only the receiver may see. The search must find the mark of messages that are
// not sealed.
func TestCanaries(t *testing.T) {
	const letters, control = 10_000, 10
	const mark, plainMark = "canary-in-a-sealed-letter", "canary-in-a-plain-message"
	w := newWorld(t)
	disk := faultfs.New() // of sender and receiver
	var spooled send.SpoolConfig
	spooled.FS = disk
	spool, err := send.OpenSpool("spool", spooled)
	w.must(err)
	defer spool.Close()
	var remembered receive.LedgerConfig
	remembered.FS = disk
	ledger, err := receive.OpenLedger("ledger", remembered)
	w.must(err)
	defer ledger.Close()

	w.liar.Lie(everySo(func(id, body string) string {
		return push(id, change(body, "sealed", func(p []byte) []byte { p[len(p)-1] ^= 1; return p }))
	}))
	alice := w.sender("alice", func(cfg *send.Config) { cfg.Spool = spool })
	for i := range letters {
		w.must(alice.SendAsync(t.Context(), exchange, key, fmt.Appendf(nil, "%s %d", mark, i), nil))
	}
	w.must(alice.Flush(t.Context()))
	publishPlain(w, plainMark, control)
	bob := w.mailbox(func(cfg *receive.Config) { cfg.Ledger = ledger })
	for len(bob.shown) < letters-letters/200 {
		list, err := bob.r.Next(t.Context(), 0)
		w.must(err)
		for _, r := range list {
			if !bytes.HasPrefix(r.Text, []byte(mark)) {
				t.Fatalf("bob was shown %q", r.Text)
			}
			bob.shown = append(bob.shown, "")
		}
		w.must(bob.r.Commit(receive.Output{}, list...))
	}
	w.dead(letters / 200)

	if found := w.search(bob, disk, plainMark); len(found) == 0 {
		t.Error("the mark of messages that are not sealed is found nowhere: the search is worth nothing")
	}
	if found := w.search(bob, disk, mark); len(found) > 0 {
		t.Errorf("the mark of sealed letters is found in %q", found)
	}
}

// everySo changes one in two hundred deliveries, but not the last.
func everySo(lie func(id, body string) string) liar.Lies {
	return each(func(n int, id, body string) []string {
		if n%200 == 100 {
			return []string{lie(id, body)}
		}
		return []string{push(id, body)}
	})
}

// publishPlain publishes messages that are not sealed, to a separate queue.
func publishPlain(w *world, mark string, n int) {
	w.Helper()
	admin := w.dial(w.addr, w.ca.AdminTLS(), client.Config{})
	w.must(admin.Bind(w.Context(), "plain", exchange, "plain"))
	for i := range n {
		id := fmt.Sprint("plain-", i)
		body, err := json.Marshal(map[string]string{"message_id": id, "text": mark})
		w.must(err)
		w.must(admin.Publish(w.Context(), sealmq.Message{Exchange: exchange, Key: "plain", ID: id, Body: body}))
	}
}

// search names the places that contain a text, plain or in base64.
func (w *world) search(m *mailbox, clients *faultfs.FS, what string) (found []string) {
	w.Helper()
	forms := []string{what}
	for skip := range 3 { // where the text begins in a group of three bytes
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", skip) + what))
		forms = append(forms, encoded[4:len(encoded)-4])
	}
	look := func(place, content string) {
		for _, form := range forms {
			if strings.Contains(content, form) {
				found = append(found, place)
				return
			}
		}
	}
	for name, fs := range map[string]*faultfs.FS{"broker": w.node.FS, "client": clients} {
		for _, file := range fs.Files() {
			look(name+" "+file, string(fs.Get(file)))
		}
	}
	look("the broker's log", w.log.text())
	look("the receiver's log", m.log.text())
	families, err := w.node.Metrics.Gather()
	w.must(err)
	for _, family := range families {
		look("metrics", family.String())
	}
	for id, reason := range w.dead(0) {
		look("reason of "+id, reason)
	}
	return found
}
