package text_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
)

func push(id string) string { return "Message: " + id + " " + message(id) }

func TestAckSettlesEveryDeliveryOfItsID(t *testing.T) {
	n := newNode(t)
	c, other := n.client(t, "a"), n.client(t, "b")
	for _, q := range []string{"q1", "q2", "q3"} {
		c.do("bind "+q+" x k", "Queue bound")
	}
	c.do("consume q1", "Subscribed to queue")
	c.do("consume q2", "Subscribed to queue")
	other.do("consume q3", "Subscribed to queue")
	other.do(publish("m"), "ACK m")
	c.want(push("m"), push("m"))
	other.want(push("m"))
	c.do("ack m", "ACK_CONFIRMED m")
	for name, want := range map[string]int{"q1": 0, "q2": 0, "q3": 1} {
		if info, _ := n.engine.Queue(name); info.Unacked != want {
			t.Errorf("%s has %d unacknowledged messages, want %d", name, info.Unacked, want)
		}
	}
}

func TestAcksOutOfOrder(t *testing.T) {
	n := newNode(t)
	n.bound(t)
	c := n.client(t, "a")
	c.do("prefetch 1000", "Prefetch 1000")
	c.do("consume q", "Subscribed to queue")
	const count = 500
	for i := range count {
		c.send(publish(fmt.Sprint(i)))
	}
	for range 2 * count {
		c.next()
	}
	// 7 has no factor in common with 500, so this visits each once, far from its place.
	for i := range count {
		id := i * 7 % count
		c.do(fmt.Sprintf("ack %d", id), fmt.Sprintf("ACK_CONFIRMED %d", id))
		c.do(fmt.Sprintf("ack %d", id), fmt.Sprintf("ACK_CONFIRMED %d", id))
	}
	if info, _ := n.engine.Queue("q"); info.Unacked != 0 || info.Acked != count {
		t.Errorf("%d unacknowledged, %d acknowledged", info.Unacked, info.Acked)
	}
}

// TestLateAck acknowledges a delivery that was taken back and waits again.
func TestLateAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c := n.client(t, "a")
		c.do(`declare_queue q {"ack_timeout":"1s"}`, "Queue declared")
		c.do("bind q x k", "Queue bound")
		c.do(publish("m"), "ACK m")
		c.do("fetch q", push("m"))
		time.Sleep(time.Minute)
		if info, _ := n.engine.Queue("q"); info.Ready != 1 {
			t.Fatalf("the delivery was not taken back: %+v", info)
		}
		c.do("ack m", "ACK_CONFIRMED m")
		c.do("fetch q", "No messages")
	})
}

func TestNack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.bound(t)
		c := n.client(t, "a")
		c.do("consume q", "Subscribed to queue")
		c.do("meta on", "Meta on")
		c.send(publish("m"))
		attempt := func(k int) {
			t.Helper()
			again := ""
			if k > 1 {
				again = `,"redelivered":true`
			}
			meta := c.next()
			if !strings.HasPrefix(meta, `Meta: {"queue":"q","publisher":"a","exchange":"x","key":"k","time":"`) ||
				!strings.HasSuffix(meta, fmt.Sprintf(`Z","attempt":%d%s}`, k, again)) {
				t.Errorf("received %q", meta)
			}
			c.want(push("m"))
		}
		c.want("ACK m")
		attempt(1)
		c.do("nack m", "NACK_CONFIRMED m")
		attempt(2)
		c.do("nack m delay 1h", "NACK_CONFIRMED m")
		c.quiet()
		time.Sleep(time.Hour + time.Second)
		attempt(3)
		c.do("nack m dead it is no good", "NACK_CONFIRMED m")
		c.do("consume q.dead", "Subscribed to queue")
		if meta := c.next(); !strings.Contains(meta, `"death_reason":"it is no good","death_queue":"q"`) {
			t.Errorf("received %q", meta)
		}
		c.want(push("m"))
		for _, bad := range []string{"nack m delay", "nack m delay tomorrow", "nack m delay -1s", "nack m delay 25h", "nack m later",
			"nack m dead " + strings.Repeat("x", 256)} {
			if reply := c.ask(bad); !strings.HasPrefix(reply, "Error: ") {
				t.Errorf("%s: %q", bad, reply)
			}
		}
		c.do("nack", "Missing message ID")
		c.do("nack never-seen", "NACK_CONFIRMED never-seen")
	})
}

func TestPushesWaitForTheSubscriptionReply(t *testing.T) {
	n := newNode(t)
	n.client(t, "p").do(`declare_queue q {"delivery_limit":1000}`, "Queue declared")
	n.bound(t)
	for i := range 50 {
		n.client(t, "p").do(publish(fmt.Sprint(i)), fmt.Sprint("ACK ", i))
	}
	for range 200 {
		c := n.client(t, "a")
		c.do("consume q", "Subscribed to queue")
		for i := range 50 {
			c.want(push(fmt.Sprint(i)))
		}
		c.session.Close()
	}
}

func TestPipelinedFetchSeesThePublishBeforeIt(t *testing.T) {
	n := newNode(t)
	n.bound(t)
	c := n.client(t, "a")
	c.send(publish("1"), "fetch q", "ack 1", "fetch q", "queue q")
	c.want("ACK 1", push("1"), "ACK_CONFIRMED 1", "No messages")
	if got := c.next(); !strings.Contains(got, `"ready":0,"delayed":0,"unacked":0`) {
		t.Errorf("received %q", got)
	}
}

func TestUnackedIsBounded(t *testing.T) {
	n := newNode(t)
	n.bound(t)
	p := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{Limits: text.Limits{Unacked: 5, Subscriptions: 2}})
	defer p.session.Close()
	c := &lines{tb: t, pipe: p}
	for i := range 8 {
		c.do(publish(fmt.Sprint(i)), fmt.Sprint("ACK ", i))
	}
	c.do("consume q", "Subscribed to queue")
	c.want(push("0"), push("1"), push("2"), push("3"), push("4"))
	c.quiet()
	c.do("fetch q", "Error: this connection holds 5 unacknowledged messages")
	c.send("ack 2", "ack 0")
	c.want("ACK_CONFIRMED 2", "ACK_CONFIRMED 0", push("5"), push("6"))
	c.quiet()
	c.do("consume q", "Subscribed to queue")
	c.do("consume q2", "Subscribed to queue")
	c.do("consume q3", "Error: one connection can consume 2 queues")
}

// TestConsumersAreToldThatTheirQueueIsGone: who asked for such lines waits for nothing, and
// CipherMQ's clients, which know no such line, get none.
func TestConsumersAreToldThatTheirQueueIsGone(t *testing.T) {
	n := newNode(t)
	n.bound(t)
	told, also, plain, admin := n.client(t, "a"), n.client(t, "b"), n.client(t, "c"), n.admin(t)
	told.do("meta ends", "Meta ends")
	also.do("meta on", "Meta on")
	for _, c := range []*lines{told, also, plain} {
		c.do("consume other", "Subscribed to queue")
		c.do("consume q", "Subscribed to queue")
	}
	told.do(publish("1"), "ACK 1")
	admin.do("purge q", "Queue purged 0")
	if got := admin.ask("delete_queue q"); !strings.HasPrefix(got, "Queue deleted ") {
		t.Fatalf("received %q", got)
	}
	const ended = `Ended: {"queue":"q","reason":"deleted"}`
	for _, c := range []*lines{told, also} {
		for got := c.next(); got != ended; got = c.next() {
			if !strings.HasPrefix(got, "Meta: ") && got != push("1") {
				t.Fatalf("received %q", got)
			}
		}
	}
	if got := plain.ask("ping"); got == push("1") {
		plain.want("Pong")
	} else if got != "Pong" {
		t.Errorf("received %q", got)
	}
	for _, c := range []*lines{told, plain} { // the queue is made again
		c.do("consume q", "Subscribed to queue")
		c.quiet()
	}
}

// TestConsumedNamesAreBounded: names that are refused and queues that are gone take no
// place for ever, and while they take one there is a bound.
func TestConsumedNamesAreBounded(t *testing.T) {
	n := newNode(t)
	admin := n.admin(t)
	p := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{Limits: text.Limits{Subscriptions: 3}})
	defer p.session.Close()
	c := &lines{tb: t, pipe: p}
	for i := range 20 {
		c.do(fmt.Sprint("consume sealmq.", i), fmt.Sprintf("Error: not allowed to consume from 'sealmq.%d'", i))
		c.do(fmt.Sprint("consume q", i), "Subscribed to queue")
		admin.do(fmt.Sprint("delete_queue q", i), "Queue deleted 0")
		c.quiet()
	}
	for i := range 3 {
		c.do(fmt.Sprint("consume r", i), "Subscribed to queue")
	}
	const full = "Error: one connection can consume 3 queues"
	c.send("consume r3", "consume r4", "consume "+strings.Repeat("x", 300), "consume r2")
	c.want(full, full, "Error: queue is longer than 255 bytes", "Subscribed to queue")
}

// TestForeignMessagesCannotBreakLines: another protocol's publishers may send any bytes.
func TestForeignMessagesCannotBreakLines(t *testing.T) {
	n := newNode(t)
	n.bound(t)
	c := n.client(t, "a")
	c.do("consume q", "Subscribed to queue")
	foreign := []engine.Publish{
		{Message: sealmq.Message{Exchange: "x", Key: "k", ID: "a", Body: []byte("{\n\"forged\":1}")}},
		{Message: sealmq.Message{Exchange: "x", Key: "k", Body: []byte("{}")}},
		{Message: sealmq.Message{Exchange: "x", Key: "k", ID: "good", Body: []byte(message("good"))}},
	}
	n.broker.Publish(caller("b", false), foreign, func([]engine.PublishResult) {})
	c.want(push("good"))
	c.quiet()
	if info, err := n.engine.Queue("q.dead"); err != nil || info.Ready != 2 {
		t.Errorf("dead letters: %+v", info)
	}
}

func TestKeysNeedACommonName(t *testing.T) {
	n := newNode(t)
	const key = "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw="
	nobody, alice, bob := n.client(t, ""), n.client(t, "alice"), n.client(t, "bob")
	for _, line := range []string{"register_public_key " + key, "register_public_key !!!"} {
		if reply := nobody.ask(line); !strings.HasPrefix(reply, "Error: ") {
			t.Errorf("%s: %q", line, reply)
		}
	}
	for _, line := range []string{"register_key alice " + key, "register_key nobody " + key} {
		if reply := nobody.ask(line); !strings.HasPrefix(reply, "Error registering key: ") {
			t.Errorf("%s: %q", line, reply)
		}
	}
	if reply := bob.ask("register_key alice " + key); !strings.HasPrefix(reply, "Error registering key: ") {
		t.Errorf("bob wrote alice's key: %q", reply)
	}
	for _, bad := range []string{"AAAA", key + "=", strings.TrimSuffix(key, "="), "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHx="} {
		if reply := alice.ask("register_public_key " + bad); !strings.HasPrefix(reply, "Error: ") {
			t.Errorf("%s: %q", bad, reply)
		}
	}
	bob.do("get_key alice", "No public key found")
	bob.do("get_public_key alice", "Public key not found")
	alice.do("register_public_key "+key, "Public key registered")
	alice.do("register_key alice "+key, "Public key registered")
	bob.do("get_key alice", "Public key: "+key)
	nobody.do("get_public_key alice", "Public key: "+key)
}

func TestStatsHasCipherMQsShape(t *testing.T) {
	n := newNode(t)
	n.bound(t)
	metrics := text.NewMetrics()
	connect := func(admin bool) *lines {
		p := n.dialWith(protocol.Peer{Identity: client("a", admin)}, text.Config{Metrics: metrics})
		t.Cleanup(p.session.Close)
		return &lines{tb: t, pipe: p}
	}
	c := connect(true)
	c.do("consume q", "Subscribed to queue")
	c.send(publish("1"), publish("2"), "made_up_word")
	for range 5 {
		c.next()
	}
	c.do("ack 1", "ACK_CONFIRMED 1")
	read := func() (raw string, stats map[string]any) {
		raw = strings.TrimPrefix(c.ask("stats with arguments"), "Stats: ")
		if err := json.Unmarshal([]byte(raw), &stats); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		return raw, stats
	}
	raw, stats := read()
	if strings.Contains(raw, "made_up_word") {
		t.Error("a client chose a key of the statistics")
	}
	for _, key := range []string{"avg_delivery_to_ack_seconds", "avg_publish_to_ack_seconds", "connected_clients", "consumers",
		"message_status_counts", "queues", "request_times_avg_seconds", "total_bindings", "total_exchanges"} {
		if _, ok := stats[key]; !ok {
			t.Errorf("no %s in %s", key, raw)
		}
	}
	for _, part := range []string{`"consumers":[["q",1]]`, `"queues":[["q",1]]`, `"message_status_counts":{"acknowledged":0,"delivered":1,"sent":1}`} {
		if !strings.Contains(raw, part) {
			t.Errorf("no %s in %s", part, raw)
		}
	}
	counts := map[string]float64{}
	for _, entry := range stats["request_times_avg_seconds"].([]any) {
		e := entry.([]any)
		counts[e[0].(string)] = e[2].(float64)
	}
	if counts["publish"] != 2 || counts["ack"] != 1 || counts["message_delivery"] != 2 {
		t.Errorf("counts %v", counts)
	}
	if reply := connect(false).ask("reset_stats"); !strings.HasPrefix(reply, "Error: ") {
		t.Errorf("a client reset the statistics: %q", reply)
	}
	c.do("reset_stats", "Stats reset")
	if raw, _ := read(); strings.Contains(raw, "publish") && strings.Contains(raw, `["publish"`) {
		t.Errorf("publishes are still counted: %s", raw)
	}
	c.do("ack 2", "ACK_CONFIRMED 2")
	if info, _ := n.engine.Queue("q"); info.Unacked != 0 {
		t.Error("the reset lost a delivery")
	}
}

func TestAddedCommands(t *testing.T) {
	n := newNode(t)
	c, admin := n.client(t, "alice"), n.admin(t)
	for _, step := range [][2]string{
		{"declare_exchange t topic", "Exchange declared"},
		{"declare_exchange t", "Exchange declared"},
		{"declare_exchange t fanout", "Error: exchange 't' exists with kind topic"},
		{"declare_exchange u oblong", "Error: the kind of an exchange is direct, fanout or topic"},
		{`declare_queue q {"max_messages":1,"ttl":"1h"}`, "Queue declared"},
		{"declare_queue q", "Queue declared"},
		{`declare_queue r {"max_mesages":1}`, `Error: unknown queue option "max_mesages"`},
		{"declare_queue r s", "Error: what follows the queue is not a JSON object of options, and a name has no spaces"},
		{"bind q t a.*", "Queue bound"},
		{"publish t a.b " + message("1"), "ACK 1"},
		{"publish t b.a " + message("1"), "Error: No queues bound to exchange 't' with routing key 'b.a'"},
		{"unbind q t", "Missing parameters"},
		{"unbind q t a.*", "Queue unbound"},
		{"publish t a.b " + message("2"), "Error: No queues bound to exchange 't' with routing key 'a.b'"},
		{"prefetch", "Missing parameters"},
		{"prefetch 0", "Prefetch 0"},
		{"prefetch -1", "Error: prefetch is not between 0 and 10000"},
		{"prefetch 10001", "Error: prefetch is not between 0 and 10000"},
		{"release", "Missing message ID"},
		{"release none", "RELEASE_CONFIRMED none"},
		{"release none delay 1h", "RELEASE_CONFIRMED none"},
		{"release none delay 25h", "Error: the delay is not between 0s and 24h0m0s"},
		{"release none delay", "Error: the delay is not a duration such as 30s"},
		{"release none dead", "Error: release takes nothing or delay after the message id"},
		{"extend", "Missing message ID"},
		{"extend none", "Error: this connection does not hold the message"},
		{"extend \x1b[2J", "Error: this connection does not hold the message"},
		{"meta", "Missing parameters"},
		{"meta maybe", "Error: meta is on, ends or off"},
		{"meta off", "Meta off"},
		{"queue", "Missing queue name"},
		{"queue nosuch", "Error: Queue 'nosuch' not found"},
		{"whoami", `Whoami: {"id":"alice","issuer":"test","common_name":"alice","role":"client"}`},
		{"exchanges", `Exchanges: [{"name":"t","owner":"alice","kind":"topic","bindings":0}]`},
		{"close_connection", "Missing parameters"},
		{"ping", "Pong"},
	} {
		c.do(step[0], step[1])
	}
	if got := c.ask("publish t a.b " + message("1")); !strings.HasPrefix(got, "Error: No queues bound") {
		t.Errorf("received %q", got)
	}
	for _, line := range []string{"delete_queue q", "delete_exchange t", "purge q", "peek q", "move q r", "move_messages q r 1", "close_connection 1"} {
		if got := n.client(t, "bob").ask(line); !strings.HasPrefix(got, "Error: not allowed to ") {
			t.Errorf("%s: %q", line, got)
		}
	}
	for _, step := range [][2]string{
		{"declare_queue r", "Queue declared"},
		{"peek", "Missing queue name"},
		{"peek q 101", "Error: the number of messages is not between 1 and 100"},
		{"peek q 10 x", "Error: the place to begin at is not a whole number"},
		{"peek q 10 9", "Messages: []"},
		{"peek q 10 0 x", "Error: the place to begin at is not a whole number"},
		{"peek q 10 9 0", "Messages: []"},
		{"move q", "Missing parameters"},
		{"move q r 0", "Error: the number of messages is not a whole number above zero"},
		{"move q r 10", "Moved 1"},
		{"move_messages r q", "Missing parameters"},
		{"move_messages r q none", "Moved 0"},
		{"move_messages r q" + strings.Repeat(" a", sealmq.MaxMoveIDs+1), "Error: more than 1000 message ids"},
		{"move_messages r q 2  1", "Moved 1"},
		{"purge q", "Queue purged 1"},
		{"delete_queue q", "Queue deleted 0"},
		{"delete_queue q", "Error: Queue 'q' not found"},
		{"delete_exchange t", "Exchange deleted"},
		{"delete_exchange t", "Error: Exchange 't' not found"},
		{"close_connection one", "Error: the connection id is not a number"},
		{"close_connection 7", "Error: no such connection"},
		{"close_connection 1", "Connection closed"},
	} {
		if step[0] == "purge q" {
			if got := admin.ask("peek q"); !strings.HasPrefix(got, `Messages: [{"id":"1","seq":3,"publisher":"alice","exchange":"t","key":"a.b","time":"`) ||
				!strings.HasSuffix(got, `"size":18,"body":{"message_id":"1"}}]`) {
				t.Errorf("peek: %q", got)
			}
			for offset, part := range map[string]string{"0": `{"message_id":"1"}`, "10": `id":"1"}`, "18": "", "99": ""} {
				want := `"size":18}]`
				if part != "" {
					want = `"size":18,"body_base64":"` + base64.StdEncoding.EncodeToString([]byte(part)) + `"}]`
				}
				if got := admin.ask("peek q 1 0 " + offset); !strings.HasSuffix(got, want) {
					t.Errorf("peek from byte %s: %q, want %q at its end", offset, got, want)
				}
			}
		}
		admin.do(step[0], step[1])
	}
	if got := admin.ask("connections"); !strings.Contains(got, "alice") || !strings.Contains(got, "bob") {
		t.Errorf("received %q", got)
	}
	if got := c.ask("queues"); got != "Queues: []" && !strings.HasPrefix(got, `Queues: [{"name":"r"`) {
		t.Errorf("received %q", got)
	}
}

func TestOthersConnectionsAreHidden(t *testing.T) {
	n := newNode(t)
	p := n.dialWith(protocol.Peer{Identity: sealmq.Identity{ID: "alice", Role: sealmq.RoleClient}}, text.Config{})
	defer p.session.Close()
	c := &lines{tb: t, pipe: p}
	got := c.ask("connections")
	if !strings.Contains(got, `"client":"alice"`) || strings.Contains(got, "bob") {
		t.Errorf("received %q", got)
	}
}

func TestIDsThatNoMessageCanHave(t *testing.T) {
	c := newNode(t).client(t, "a")
	c.do("ack two words", "Error: ack takes one message id, and nothing after it")
	for _, id := range []string{"\xff", "a\rb", "\x1b[2J", strings.Repeat("x", 256)} {
		if got := c.ask("ack " + id); !strings.HasPrefix(got, "Error: ") {
			t.Errorf("%q is echoed: %q", id, got)
		}
	}
}
