package bench

import (
	"errors"
	"fmt"
)

// Manifest describes the messages that the phase "publish" left in a broker, so that a
// later "drain" can check them.
type Manifest struct {
	Run    string   `json:"run"`
	Size   int      `json:"size"`
	Queues int      `json:"queues"`
	Sent   []uint64 `json:"sent"` // by publisher
	// EmptyRSS is the broker's memory before the first message.
	EmptyRSS int64 `json:"empty_rss"`
}

// Manifest describes the run after Publish, whose messages were all confirmed.
func (r *Run) Manifest() Manifest {
	m := Manifest{Run: r.id, Size: r.opts.Size, Queues: r.opts.Queues, EmptyRSS: r.emptyRSS}
	for _, p := range r.publishers {
		m.Sent = append(m.Sent, p.sent)
	}
	return m
}

// Resume prepares a run that drains the messages of the manifest. opts holds the options
// of the drain.
func Resume(opts Options, m Manifest) (*Run, error) {
	if len(m.Run) != 2*runIDBytes || len(m.Sent) == 0 {
		return nil, errors.New("the manifest names no run")
	}
	opts.Publishers, opts.Size, opts.Queues = len(m.Sent), m.Size, m.Queues
	r, err := New(opts)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	r.id, r.emptyRSS = m.Run, m.EmptyRSS
	for i, sent := range m.Sent {
		p := newPublisher(r, i, nil)
		p.sent = sent
		for n := range sent {
			p.confirmed.set(n)
		}
		p.nConfirms.Store(sent)
		r.publishers = append(r.publishers, p)
	}
	return r, nil
}
