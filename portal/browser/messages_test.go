package browser

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

// deliverMessages submits messages of acme-01 to a number, and waits until they are delivered. It
// returns one of them.
func (s *site) deliverMessages(sender string, texts ...string) mainapi.Message {
	s.t.Helper()
	s.run("cert", "issue", "acme-01")
	for i, text := range texts {
		s.run("submit", "--as", "acme-01", "--sender", sender, "--message", text, "--id", fmt.Sprintf("order-%d", i))
	}
	for end := time.Now().Add(30 * time.Second); ; {
		r, err := s.API.SearchMessagesWithResponse(s.t.Context(), mainapi.MessageSearch{SenderNumber: sender, Status: "delivered", Limit: 10})
		if err != nil || r.JSON200 == nil {
			s.t.Fatalf("search: %v", err)
		}
		if len(r.JSON200.Items) == len(texts) {
			return r.JSON200.Items[0]
		}
		if time.Now().After(end) {
			s.t.Fatalf("%d of %d messages are delivered", len(r.JSON200.Items), len(texts))
		}
	}
}

// TestFindAMessage: somebody who knows a sender's number finds the message, reads its story and,
// after a press, its text. The number is in no address.
func TestFindAMessage(t *testing.T) {
	s := start(t)
	const number, text = "+4915200000042", `<script>alert("x")</script> שלום 🦭`
	m := s.deliverMessages(number, "Results are ready", text)
	b := s.administrator(t)
	b.open("/messages")
	b.see("2 found", "Delivered", "acme-01")
	b.fill("q", "+49 152 0000 0042")
	b.follow("form[action$='/find'] button")
	b.see("Messages of", "Delivered")
	address := evaluate[string](b, "location.href")
	if strings.Contains(address, "0042") || !strings.Contains(address, "number_token=") {
		t.Errorf("the address is %s", address)
	}
	b.follow(".list tbody tr .row-link")
	b.see("Accepted by proxy from acme-01", "Delivered by", "will be recorded", m.MessageID)
	b.follow("form[action$='/text'] button")
	b.see(text, "is recorded in the audit log")
	b.open("/admin/audit")
	b.see("Read a message", adminEmail, "The audit file is whole")
	if folder := os.Getenv("SCREENSHOTS"); folder != "" {
		for _, path := range []string{"/messages", "/messages/acme-01/" + m.MessageID, "/admin/clients", "/admin/clients/acme-01", "/admin/database", "/admin/data-retention", "/admin/audit", "/admin/proxies"} {
			b.look(folder, "filled"+path, path, looks...)
		}
	}
}

// TestSearchANumber is step 6 of the acceptance run: after a login and a search for a sender's number
// exactly the messages of that number are listed, with the search box and in the list of messages.
func TestSearchANumber(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	s.furnish()
	const rows = `[...document.querySelectorAll('main tbody a.row-link[href*="/messages/"]')].map((a) => a.closest("tr").innerText).join("\n")`
	only := func(how string) {
		t.Helper()
		got := evaluate[string](b, rows)
		if n := strings.Count(got, "0002"); n != 3 || strings.Count(got, "****") != n {
			t.Errorf("%s lists\n%s\n%s", how, got, b.text())
		}
	}
	b.find("+49 152 0000 0002")
	b.see("Messages")
	only("the search box")
	b.open("/messages")
	b.fill("q", "004915200000002")
	b.follow("form[action$='/find'] button")
	b.see("Messages of")
	only("the list of messages")
	b.find("+49 152 0000 0009") // another number that begins alike
	b.see("Nothing was found")
}
