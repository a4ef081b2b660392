package crash

import (
	"strings"
	"testing"
)

// TestLedgerNotices breaks every promise: a ledger that notices nothing would pass every
// run.
func TestLedgerNotices(t *testing.T) {
	// Message 0 goes to direct, 1 and 2 go to left and right. All are confirmed.
	deliver := func(l *Ledger, q, n, attempt int, o *Order) {
		l.Deliver(q, o, messageID(0, n), l.Body(0, n), attempt)
	}
	settle := func(l *Ledger, q, n int, s copyState) { l.note(q, messageID(0, n), s) }
	// rest delivers and acknowledges all copies except those of message 0.
	rest := func(l *Ledger) {
		for _, q := range []int{left, right} {
			var o Order
			for n := 1; n <= 2; n++ {
				deliver(l, q, n, 1, &o)
				settle(l, q, n, ackSent|acked)
			}
		}
	}
	for _, tt := range []struct {
		name string
		do   func(l *Ledger, o *Order)
		want string // a part of the only problem, or nothing
	}{
		{"all is well", func(l *Ledger, o *Order) { deliver(l, direct, 0, 1, o); settle(l, direct, 0, ackSent|acked) }, ""},
		{"redelivered before the confirmation", func(l *Ledger, o *Order) {
			deliver(l, direct, 0, 1, o)
			settle(l, direct, 0, ackSent)
			deliver(l, direct, 0, 2, &Order{})
		}, ""},
		{"dead", func(l *Ledger, o *Order) {
			deliver(l, direct, 0, 1, o)
			settle(l, direct, 0, rejectSent|rejected)
			l.DeliverDead(direct, messageID(0, 0), l.Body(0, 0))
			settle(l, direct, 0, deadAckSent|deadAcked)
		}, ""},
		{"never delivered", func(*Ledger, *Order) {}, "direct lost p0-0, which was confirmed and never delivered"},
		{"delivered and gone", func(l *Ledger, o *Order) { deliver(l, direct, 0, 1, o) }, "delivered and never acknowledged"},
		{"rejected and gone", func(l *Ledger, o *Order) {
			deliver(l, direct, 0, 1, o)
			settle(l, direct, 0, ackSent|rejectSent|rejected)
		}, "is not in the dead-letter queue"},
		{"dead and gone", func(l *Ledger, o *Order) {
			deliver(l, direct, 0, 1, o)
			settle(l, direct, 0, rejectSent)
			l.DeliverDead(direct, messageID(0, 0), l.Body(0, 0))
		}, "dead-lettered and never acknowledged"},
		{"again after the confirmation", func(l *Ledger, o *Order) {
			deliver(l, direct, 0, 1, o)
			settle(l, direct, 0, ackSent|acked)
			deliver(l, direct, 0, 2, &Order{})
		}, "direct delivered p0-0 after ACK_CONFIRMED"},
		{"dead and alive", func(l *Ledger, o *Order) {
			deliver(l, direct, 0, 1, o)
			settle(l, direct, 0, ackSent|rejectSent)
			l.DeliverDead(direct, messageID(0, 0), l.Body(0, 0))
			settle(l, direct, 0, deadAckSent)
			deliver(l, direct, 0, 2, &Order{})
		}, "had moved to the dead-letter queue"},
		{"stored twice", func(l *Ledger, _ *Order) {
			o := Order{All: true}
			deliver(l, direct, 0, 1, &o)
			deliver(l, direct, 0, 1, &o)
			settle(l, direct, 0, ackSent|acked)
		}, "had p0-0 twice"},
		{"out of order", func(l *Ledger, _ *Order) {
			deliver(l, direct, 0, 1, &Order{last: map[int]int{0: 3}})
			settle(l, direct, 0, ackSent)
		}, "direct delivered p0-0 after p0-3"},
		{"out of order after a torn batch", func(l *Ledger, _ *Order) {
			n := l.Next(0) // 3, which goes to direct
			l.Loosen()
			l.Confirm(0, n)
			o := Order{last: map[int]int{0: 6}}
			deliver(l, direct, n, 1, &o)
			settle(l, direct, n, ackSent)
			deliver(l, direct, 0, 1, new(Order))
			settle(l, direct, 0, ackSent)
		}, ""},
		{"another body", func(l *Ledger, o *Order) {
			l.Deliver(direct, o, messageID(0, 0), l.Body(0, 3), 1)
			settle(l, direct, 0, ackSent)
		}, "differs from"},
		{"another queue's", func(l *Ledger, o *Order) {
			deliver(l, left, 0, 1, o)
			deliver(l, direct, 0, 1, o)
			settle(l, direct, 0, ackSent)
		}, "nobody published there"},
		{"never published", func(l *Ledger, o *Order) {
			deliver(l, direct, 0, 1, o)
			settle(l, direct, 0, ackSent)
			l.Deliver(direct, o, "p0-00", nil, 1)
		}, "nobody published there"},
	} {
		l := NewLedger(1, 1)
		for range 3 {
			l.Confirm(0, l.Next(0))
		}
		tt.do(l, new(Order))
		rest(l)
		l.Check()
		problems := l.Counts().Problems
		switch {
		case tt.want == "" && len(problems) > 0:
			t.Errorf("%s: noticed %q", tt.name, problems)
		case tt.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], tt.want)):
			t.Errorf("%s: noticed %q, want %q", tt.name, problems, tt.want)
		}
		if l.Waiting() > 1 || tt.want == "" && l.Waiting() != 0 {
			t.Errorf("%s: %d copies wait for a delivery", tt.name, l.Waiting())
		}
	}
}

func TestUnconfirmedMessageIsNoticed(t *testing.T) {
	l := NewLedger(1, 1)
	l.Next(0)
	l.Check()
	if c := l.Counts(); c.Lost != 1 {
		t.Errorf("noticed %q", c.Problems)
	}
}
