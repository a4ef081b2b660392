package browser

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mtls"
)

// connect connects to the site's broker as its administrator.
func (s *site) connect() *client.Client {
	s.t.Helper()
	p := ca.In(s.Data)
	conf, err := mtls.ClientConfig(mtls.Files{Cert: p.Cert(ca.AdminName), Key: p.Key(ca.AdminName), CA: p.CA}, mtls.ClientOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := client.Dial(s.t.Context(), client.Config{Addr: s.Addr, TLS: conf, Meta: true})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// put publishes messages to a queue, which is bound under its own name.
func (s *site) put(c *client.Client, queue string, ids ...string) {
	s.t.Helper()
	err := c.Bind(s.t.Context(), queue, "clinic", queue)
	for _, id := range ids {
		if err == nil {
			err = c.Publish(s.t.Context(), sealmq.Message{ID: id, Exchange: "clinic", Key: queue, Body: []byte(`{"message_id":"` + id + `"}`)})
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// take takes n messages from a queue.
func (s *site) take(c *client.Client, queue string, n int) (sealmq.Subscription, []sealmq.Delivery) {
	s.t.Helper()
	sub, err := c.Consume(s.t.Context(), queue, 100)
	var taken []sealmq.Delivery
	for list := make([]sealmq.Delivery, 100); err == nil && len(taken) < n; {
		var k int
		k, err = sub.Next(s.t.Context(), list)
		taken = append(taken, list[:k]...)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return sub, taken
}

// kill makes dead letters of n messages of a queue.
func (s *site) kill(queue, reason string, n int) {
	s.t.Helper()
	c := s.connect()
	sub, taken := s.take(c, queue, n)
	if err := sub.Dead(reason, taken...); err != nil {
		s.t.Fatal(err)
	}
	if err := sub.Close(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	c.Close()
}

// TestReturnDeadLetter: a letter is returned by its button and delivered again, and then all that
// are left.
func TestReturnDeadLetter(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	c := s.connect()
	s.put(c, "results", "r-1", "r-2", "r-3")
	s.kill("results", "not readable", 3)
	b.openUntil("/admin/dead", "results.dead", "Return all 3")
	b.see("results.dead", "not readable", "r-2", "Return all 3")
	b.follow(`button[aria-label="Return r-2"]`)
	b.see("1 message returned to results.", "Return all 2")
	consumer := s.connect()
	sub, taken := s.take(consumer, "results", 1)
	if len(taken) != 1 || taken[0].ID != "r-2" || taken[0].Attempt != 1 {
		t.Fatalf("delivered %+v, want r-2", taken)
	}
	if err := sub.AckWait(t.Context(), taken...); err != nil {
		t.Fatal(err)
	}
	b.follow(`button[name="all"]`)
	b.see("2 messages returned to results.", "No message waits here now.")
	more := make([]sealmq.Delivery, 10)
	for n := 0; n < 2; {
		k, err := sub.Next(t.Context(), more)
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
}

// TestQueuePages: pause, purge and delete, with and without the typed name.
func TestQueuePages(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	c := s.connect()
	const name = `<script>alert("q")</script>/../ä`
	s.put(c, name, "m-1", "m-2")
	b.openUntil("/admin/queues?search=SCRIPT", name, "No consumer")
	b.follow(`a.row-link`)
	b.see("Nobody consumes this queue.")
	b.follow(`form[action*="/pause?"] button`)
	b.see("Deliveries are paused.", "Nothing is delivered until it is resumed.")
	b.follow(`form[action*="/resume?"] button`)
	b.see("The queue delivers again.")
	b.follow(`a[href*="messages=1"]`)
	b.see("m-1", "m-2")
	b.click(`a[href*="/purge?"]`)
	b.see("Removes 2 waiting messages for good.")
	b.until(`document.querySelector("dialog button[type=submit]").disabled`) // the name is not typed yet
	b.fill("name", name)
	b.follow(`dialog button[type=submit]`)
	b.see("2 messages removed.")
	b.withoutScripts()
	b.follow(`a[href*="/delete?"]`)
	b.send("name", "another")
	b.see("The name is not that of the queue")
	b.send("name", name)
	b.see("The queue is deleted, with 0 messages.")
}

// TestBrokerPages looks at the pages of a broker with much and strange data.
func TestBrokerPages(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	c := s.connect()
	long := "laboratory.results.haematology.urgent.a-very-long-name-that-somebody-has-chosen-and-nobody-can-change-any-more-because-it-stands-in-forty-programs"
	names := []string{"results", "orders/eu", long, "نتائج.المختبر", "🧪🩸.results", `<b/onclick="x">"'&`}
	for i, name := range names {
		var ids []string
		for j := range 3 + i {
			ids = append(ids, fmt.Sprintf("m-%d-%d", i, j))
		}
		s.put(c, name, ids...)
	}
	for i := range 15 {
		s.put(c, fmt.Sprintf("ward-%02d", i))
	}
	s.kill("results", "signature is not valid", 2)
	s.kill(names[3], `<script>alert(1)</script> "quoted"`, 1)
	if err := c.DeclareExchange(t.Context(), "rules", "topic"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"lab.#", "*.*.urgent", "clinic.*.blood"} {
		if err := c.Bind(t.Context(), "results", "rules", key); err != nil {
			t.Fatal(err)
		}
	}
	consumer := s.connect()
	s.take(consumer, "orders/eu", 1)
	if err := c.PauseQueue(t.Context(), names[4]); err != nil {
		t.Fatal(err)
	}
	b.openUntil("/admin/queues", append(names, "ward-14", "Paused")...)
	b.openUntil("/admin/connections", "orders/eu")
	folder := os.Getenv("SCREENSHOTS")
	query := func(name string) string { return "?" + url.Values{"name": {name}}.Encode() }
	for name, address := range map[string]string{
		"queues": "/admin/queues?sort=ready", "queues-none": "/admin/queues?search=nothing", "queue": "/admin/queues/show" + query("results") + "&messages=1",
		"queue-long": "/admin/queues/show" + query(long), "queue-arabic": "/admin/queues/show" + query(names[3]) + "&messages=1", "queue-paused": "/admin/queues/show" + query(names[4]),
		"queue-script": "/admin/queues/show" + query(names[5]), "queue-consumed": "/admin/queues/show" + query("orders/eu"), "queue-purge": "/admin/queues/purge" + query(long),
		"queue-options": "/admin/queues/options" + query("results"), "queue-new": "/admin/queues/new", "dead": "/admin/dead", "dead-script": "/admin/dead?queue=" + url.QueryEscape(names[3]+".dead"),
		"exchanges": "/admin/exchanges", "exchange": "/admin/exchanges/show" + query("clinic"), "exchange-topic": "/admin/exchanges/show" + query("rules"),
		"connections": "/admin/connections", "disconnect": "/admin/connections/1/disconnect?client=bob", "keys": "/admin/keys",
	} {
		b.look(folder, name, address, light, phone) // data has no colours of its own
		if evaluate[bool](b, `!!document.querySelector("main script, main b")`) {
			t.Errorf("%s: a name became an element", name)
		}
	}
}

// openUntil opens a page until it shows texts: lists may be a second old.
func (b *tab) openUntil(path string, texts ...string) {
	b.t.Helper()
	for until := time.Now().Add(stepTimeout); ; {
		b.open(path)
		got := b.text()
		if !slices.ContainsFunc(texts, func(want string) bool { return !strings.Contains(got, want) }) {
			return
		}
		if time.Now().After(until) {
			b.t.Fatalf("%s does not show %q:\n%s", path, texts, got)
		}
	}
}
