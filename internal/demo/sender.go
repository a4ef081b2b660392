package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/seal"
)

// sendTime is about how long sending takes, so that the crashes come in the middle.
const sendTime = 2 * time.Second

// sender seals and publishes.
type sender struct {
	client *client.Client
	public *seal.PublicKey

	mu        sync.Mutex
	confirmed map[string]string // text by message id
	err       error             // the first refusal
}

func (d *Demo) newSender(ctx context.Context) (*sender, error) {
	c, err := d.dial(ctx, Sender)
	if err != nil {
		return nil, err
	}
	return &sender{client: c, public: d.key.Public(), confirmed: make(map[string]string)}, nil
}

// text is what message i says. The marker in it is what must be found nowhere.
func text(i, of int) string {
	return fmt.Sprintf("%s, letter %d of %d: the meeting is at noon", marker, i, of)
}

// marker stands in every message and nowhere else.
const marker = "Dear " + Receiver + ", this stays between us"

// send publishes the messages and waits until all are confirmed.
func (s *sender) send(ctx context.Context, messages int) error {
	pause := time.NewTicker(max(sendTime/time.Duration(messages), time.Microsecond))
	defer pause.Stop()
	for i := range messages {
		id, plain := seal.NewID(), text(i+1, messages)
		body, err := s.public.Seal(id, []byte(plain))
		if err != nil {
			return fmt.Errorf("seal: %w", err)
		}
		err = s.client.PublishAsync(ctx, client.Message{Exchange: Exchange, Key: Key, ID: id, Body: body}, func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if err == nil {
				s.confirmed[id] = plain
			} else if s.err == nil {
				s.err = err
			}
		})
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := s.client.Flush(ctx); err != nil {
		return fmt.Errorf("wait for confirms: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return fmt.Errorf("send: %w", s.err)
	}
	return nil
}

func (s *sender) close() { s.client.Close() }
