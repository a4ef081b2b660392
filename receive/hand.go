package receive

import "github.com/sealmq/sealmq/seal"

// hand is a message that a Receiver has shown and that is not settled.
type hand struct {
	known
	place place // zero if it has none
	by    *Receiver
}

// known is what a ledger will remember of m. One that no Receiver has shown has no hand.
func (m *Received) known() known {
	if m.hand == nil {
		return knownOf(m.Message)
	}
	return m.hand.known
}

// place is a message's place among its sender's.
type place struct {
	epochKey
	sequence uint64
}

func placeOf(m *seal.Message) place {
	if !m.Proven() || m.Epoch == nil {
		return place{}
	}
	return place{epochKey{m.Sender.Issuer, m.Sender.ID, m.Epoch.Hash}, m.Sequence}
}

// take judges a message and, if it is new, puts it into a Receiver's hand. It returns that
// one, or the one that a message is in already.
func (l *Ledger) take(m *seal.Message, by *Receiver) (Judgement, *hand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := idOf(m)
	j, h := l.judge(m, id)
	if j != LedgerNew {
		return j, h
	}
	h = &hand{known: known{id, sumText(m.Text), sealedAt(m)}, place: placeOf(m), by: by}
	l.hands[id] = h
	if h.place != (place{}) {
		l.places[h.place] = h
	}
	return LedgerNew, h
}

// give takes messages out of a Receiver's hand.
func (l *Ledger) give(by *Receiver, list []Received) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range list {
		if h := l.hands[idOf(list[i].Message)]; h != nil && h.by == by {
			l.drop(h)
		}
	}
}

// judgeHands says whether a message, or another one with its id or its place, is in hand.
// When a client disconnects, the messages of its Receiver become available again.
func (l *Ledger) judgeHands(m *seal.Message, id idHash) (Judgement, *hand) {
	if h := l.held(l.hands[id]); h != nil {
		if h.text != sumText(m.Text) {
			return LedgerConflict, h
		}
		return LedgerInHand, h
	}
	if p := placeOf(m); p != (place{}) {
		if h := l.held(l.places[p]); h != nil {
			return LedgerConflict, h
		}
	}
	return LedgerNew, nil
}

func (l *Ledger) held(h *hand) *hand {
	if h != nil && h.by.c.Err() != nil {
		l.drop(h)
		return nil
	}
	return h
}

func (l *Ledger) drop(h *hand) {
	if h == nil {
		return
	}
	delete(l.hands, h.id)
	if h.place != (place{}) {
		delete(l.places, h.place)
	}
}
