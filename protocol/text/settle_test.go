package text_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

const diskFull = "Error: the broker's disk is full; try again later"

// TestRefusedSettlementCanBeAskedForAgain: after the refusal the peer still holds the
// message, so a later ack must have its effect and not only be confirmed.
func TestRefusedSettlementCanBeAskedForAgain(t *testing.T) {
	for line, reply := range map[string]string{
		"ack 1": "ACK_CONFIRMED 1", "nack 1 delay 1h": "NACK_CONFIRMED 1", "nack 1 dead no good": "NACK_CONFIRMED 1",
		"release 1 delay 1h": "RELEASE_CONFIRMED 1",
	} {
		for name, refuse := range map[string]func(*slowDisk, error){"at once": (*slowDisk).fail, "later": (*slowDisk).failLate} {
			t.Run(line+" "+name, func(t *testing.T) {
				n, disk := newSlowNode(t)
				n.bound(t)
				c := n.client(t, "a")
				c.send(publish("1"))
				disk.sync()
				c.want("ACK 1")
				c.do("fetch q", push("1"))
				refuse(disk, sealmq.ErrNoStorage)
				for range 3 {
					c.send(line, line)
					disk.sync()
					c.want(diskFull, diskFull)
				}
				refuse(disk, nil)
				c.send(line)
				disk.sync()
				c.want(reply)
				if info, _ := n.engine.Queue("q"); info.Unacked != 0 {
					t.Errorf("%s was confirmed without any effect: %+v", line, info)
				}
			})
		}
	}
}

// TestAckThatIsRepeatedWaitsForTheFirst: the second must not be confirmed while the
// first may still be refused.
func TestAckThatIsRepeatedWaitsForTheFirst(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	c := n.client(t, "a")
	c.send(publish("1"))
	disk.sync()
	c.want("ACK 1")
	c.do("fetch q", push("1"))
	disk.failLate(sealmq.ErrNoStorage)
	c.send("ack 1")
	c.send("ack 1") // another read, and so another call of the broker
	disk.sync()
	c.want(diskFull, diskFull)
}

// TestAckMeansTheMessageThatWasGivenFirst: the first message of an id ran out of time in
// the peer's hands, and a second one of the same id followed when the id was forgotten.
func TestAckMeansTheMessageThatWasGivenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c := n.client(t, "a")
		c.do(`declare_queue q {"ack_timeout":"1s","delivery_limit":1}`, "Queue declared")
		c.do("bind q x k", "Queue bound")
		c.do(publish("m"), "ACK m")
		c.do("fetch q", push("m"))
		time.Sleep(time.Minute) // it is dead now
		moved := make(chan error, 1)
		n.broker.Move(caller("admin", true), "q.dead", "q", 0, func(_ int, err error) { moved <- err })
		if err := <-moved; err != nil {
			t.Fatal(err)
		}
		c.do("fetch q", push("m"))
		held := func(want int) {
			t.Helper()
			if info, _ := n.engine.Queue("q"); info.Unacked != want {
				t.Errorf("%d messages are held, want %d", info.Unacked, want)
			}
		}
		c.do("ack m", "ACK_CONFIRMED m") // of the one that was given first
		held(1)
		c.do("ack m", "ACK_CONFIRMED m")
		held(0)
	})
}

// TestManyAcksUnderWayHideNoDelivery: what is remembered of late deliveries is bounded,
// and acks that wait for the disk must not push out what is still held.
func TestManyAcksUnderWayHideNoDelivery(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	c := n.client(t, "a")
	const count = 6000
	batch := make([]engine.Publish, count)
	for i := range batch {
		id := fmt.Sprint(i)
		batch[i] = engine.Publish{Message: sealmq.Message{Exchange: "x", Key: "k", ID: id, Body: []byte(message(id))}}
	}
	n.broker.Publish(caller("p", false), batch, func([]engine.PublishResult) {})
	disk.sync()
	c.do("prefetch 10000", "Prefetch 10000")
	c.do("consume q", "Subscribed to queue")
	for i := range count - 1 {
		c.want(push(fmt.Sprint(i)))
		if i > 0 { // the first one is held all the time
			c.send(fmt.Sprint("ack ", i))
		}
	}
	c.want(push(fmt.Sprint(count - 1)))
	disk.sync()
	for i := 1; i < count-1; i++ {
		c.want(fmt.Sprint("ACK_CONFIRMED ", i))
	}
	c.send("ack 0")
	disk.sync()
	c.want("ACK_CONFIRMED 0")
	if info, _ := n.engine.Queue("q"); info.Unacked != 1 {
		t.Errorf("%d messages are held, want 1", info.Unacked)
	}
}

const notHeld = "Error: this connection does not hold the message"

// TestReleaseDoesNotCount: a released delivery does not count as an attempt.
func TestReleaseDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c := n.client(t, "a")
		c.do(`declare_queue q {"delivery_limit":1}`, "Queue declared")
		c.do("bind q x k", "Queue bound")
		c.do(publish("1"), "ACK 1")
		for range 5 {
			c.do("fetch q", push("1"))
			c.do("release 1", "RELEASE_CONFIRMED 1")
		}
		c.do("fetch q", push("1"))
		c.do("release 1 delay 1h", "RELEASE_CONFIRMED 1")
		c.do("fetch q", "No messages")
		time.Sleep(61 * time.Minute)
		c.do("meta on", "Meta on")
		c.send("consume q")
		c.want("Subscribed to queue")
		if got := c.next(); !strings.HasSuffix(got, `,"attempt":1,"redelivered":true}`) {
			t.Errorf("received %q", got)
		}
		c.want(push("1"))
		c.do("nack 1", "NACK_CONFIRMED 1")
		if info, _ := n.engine.Queue("q.dead"); info.Ready != 1 {
			t.Error("the last delivery did not count")
		}
	})
}

// TestExtendIsForWhatIsHeld: a confirmation that meant nothing would have a consumer go
// on with what somebody else has by now.
func TestExtendIsForWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c, other := n.client(t, "a"), n.client(t, "b")
		c.do(`declare_queue q {"ack_timeout":"10s"}`, "Queue declared")
		c.do("bind q x k", "Queue bound")
		c.send(publish("1"), publish("2"))
		c.want("ACK 1", "ACK 2")
		c.do("fetch q", push("1"))
		c.do("fetch q", push("2"))
		for range 5 {
			time.Sleep(8 * time.Second)
			c.send("extend 1", "ping", "extend 1", "extend 3")
			c.want("EXTEND_CONFIRMED 1", "Pong", "EXTEND_CONFIRMED 1", notHeld)
			other.do("extend 1", notHeld)
		}
		if info, _ := n.engine.Queue("q"); info.Unacked != 1 || info.Ready != 1 {
			t.Errorf("%+v", info)
		}
		c.do("extend 2", notHeld) // it was taken back
		other.do("fetch q", push("2"))
		c.do("extend 2", notHeld)
		other.do("extend 2", "EXTEND_CONFIRMED 2")
		c.send("extend 1", "ack 1", "extend 1")
		c.want("EXTEND_CONFIRMED 1", "ACK_CONFIRMED 1", notHeld)
		if info, _ := n.engine.Queue("q"); info.Unacked != 1 || info.Ready != 0 || info.Acked != 1 {
			t.Errorf("%+v", info)
		}
	})
}

// TestResendsAreBounded: each may cost a search of all queues, which others pay for.
func TestResendsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.bound(t)
		c, other := n.client(t, "a"), n.client(t, "a")
		c.do(publish("1"), "ACK 1")
		for range 3 {
			for range 10 {
				c.do("resend 1", "Resend requested")
			}
			for range 5 {
				c.do("resend 1", "Error retrieving message metadata")
			}
			other.do("resend 1", "Resend requested")
			c.do("resend", "Missing message ID")
			time.Sleep(time.Second)
		}
	})
}

// TestConfirmLeavesBeforeThePushThatItMakesRoomFor: CipherMQ v1.4.0's receiver drops what is
// pushed while it waits for a confirm. With more credit a push does not wait for one.
func TestConfirmLeavesBeforeThePushThatItMakesRoomFor(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	p := n.client(t, "p")
	for _, id := range []string{"1", "2", "3", "4", "5"} {
		p.send(publish(id))
		disk.sync()
		p.want("ACK " + id)
	}
	c := n.client(t, "a")
	c.do("prefetch 1", "Prefetch 1")
	c.do("consume q", "Subscribed to queue")
	c.next()
	for _, settle := range []struct{ line, reply string }{{"ack 1", "ACK_CONFIRMED 1"}, {"nack 2 delay 1h", "NACK_CONFIRMED 2"}} {
		c.send(settle.line)
		if out := output(c.session, nil); len(out) > 0 {
			t.Fatalf("%q left before the disk answered", out)
		}
		disk.sync()
		c.want(settle.reply)
		if got := c.next(); !strings.HasPrefix(got, "Message: ") {
			t.Fatalf("received %q, want the next message", got)
		}
	}
	c.do("prefetch 2", "Prefetch 2")
	c.want(push("4"))
	c.send("ack 3")
	p.send(publish("6")) // the model does not wake a session for what it settled itself
	c.want(push("5"))
	disk.sync()
	c.want("ACK_CONFIRMED 3")
}
