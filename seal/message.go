package seal

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Message is an opened message. All of it was checked, if its suite says who sent it;
// with legacy suites everything but Text is the carrier's word. It prints without its
// text, and so does its epoch.
type Message struct {
	Suite Suite
	ID    string
	// Text is what was sealed.
	Text []byte
	// Sender is who sealed it. Its ID is empty with legacy suites.
	Sender Sender
	// Receivers are whom it was sealed for, the opener among them.
	Receivers []string
	// Exchange and RoutingKey are where the sender sent it.
	Exchange, RoutingKey string
	// SealedAt is the sender's time, in whole milliseconds.
	SealedAt time.Time
	// Epoch and Sequence give the message its place among the sender's; Sequence
	// counts from one in each epoch.
	Epoch    *Epoch
	Sequence uint64
	// Digest identifies the message: everything that the sender protected, and nothing
	// that could be changed in transit. It is zero with legacy suites.
	Digest [32]byte
}

// Epoch is what the messages of an epoch have in common. It must not be changed.
type Epoch struct {
	// Hash names the epoch. It is the SHA-256 of its header.
	Hash [32]byte
	// Created and NotAfter are the bounds of its time, MaxMessages that of its numbers.
	Created, NotAfter time.Time
	MaxMessages       uint64
	// Previous names the epoch that the same sender used for the same receivers
	// before, and PreviousMessages says how many messages were sealed in it. Both are
	// zero in the first epoch of a Sealer.
	Previous         [32]byte
	PreviousMessages uint64
	// Extensions are what else the sender says.
	Extensions []Extension
}

// Proven reports whether it is known who sent the message.
func (m *Message) Proven() bool { return m.Sender.ID != "" }

// Extension returns the value of an extension of the message's epoch.
func (m *Message) Extension(kind uint16) ([]byte, bool) {
	if m.Epoch == nil {
		return nil, false
	}
	i := slices.IndexFunc(m.Epoch.Extensions, func(x Extension) bool { return x.Type == kind })
	if i < 0 {
		return nil, false
	}
	return m.Epoch.Extensions[i].Value, true
}

// LogValue says which message it is and how long, and not what.
func (m Message) LogValue() slog.Value {
	list := []slog.Attr{slog.String("message_id", m.ID), slog.String("suite", string(m.Suite)), slog.Int("bytes", len(m.Text))}
	if m.Proven() {
		list = append(list, slog.String("sender", m.Sender.ID), slog.Time("sealed_at", m.SealedAt),
			slog.String("epoch", fmt.Sprintf("%x", m.Epoch.Hash[:8])), slog.Uint64("sequence", m.Sequence))
	}
	return slog.GroupValue(list...)
}

// Format prints what LogValue says, whatever the verb.
func (m Message) Format(f fmt.State, _ rune) {
	fmt.Fprint(f, m.LogValue().String())
}
