package jsonl

import (
	"time"
	"unicode/utf8"
)

// Record is one received message. CipherMQ's receivers write the first three members too.
type Record struct {
	MessageID string
	// Message is printed as text if it is UTF-8, else as message_base64.
	Message []byte
	// Received is printed as timestamp, in seconds since 1970.
	Received time.Time
	// Sender and SealedAt were signed by the sender; zero values are omitted.
	Sender   string
	SealedAt time.Time
	// The rest comes from the broker; zero values are omitted.
	Queue, Publisher, Exchange, Key string
	Published                       time.Time
	Attempt                         uint32
}

// line is a record as JSON.
type line struct {
	MessageID string  `json:"message_id"`
	Message   *string `json:"message,omitempty"`
	Base64    []byte  `json:"message_base64,omitempty"`
	Timestamp float64 `json:"timestamp"`
	Sender    string  `json:"sender,omitempty"`
	SealedAt  string  `json:"sealed_at,omitempty"`
	Queue     string  `json:"queue,omitempty"`
	Publisher string  `json:"publisher,omitempty"`
	Exchange  string  `json:"exchange,omitempty"`
	Key       string  `json:"key,omitempty"`
	Published string  `json:"published,omitempty"`
	Attempt   uint32  `json:"attempt,omitempty"`
}

func (r *Record) line() *line {
	l := &line{MessageID: r.MessageID, Timestamp: float64(r.Received.UnixMilli()) / 1000, Sender: r.Sender, SealedAt: stamp(r.SealedAt),
		Queue: r.Queue, Publisher: r.Publisher, Exchange: r.Exchange, Key: r.Key, Published: stamp(r.Published), Attempt: r.Attempt}
	if utf8.Valid(r.Message) {
		text := string(r.Message)
		l.Message = &text
	} else {
		l.Base64 = r.Message
	}
	return l
}

// readLine is the part of a line that is read again. The rest may be of any kind.
type readLine struct {
	MessageID string  `json:"message_id"`
	Message   *string `json:"message"`
	Base64    []byte  `json:"message_base64"`
	Sender    string  `json:"sender"`
}

// stamp accepts all times; a year of five digits, which a sender can sign, is no JSON time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
