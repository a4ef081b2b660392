package alert

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
)

// told is what a channel was told, and when.
type told struct {
	Alert
	At time.Time
}

// channel is a channel with its state.
type channel struct {
	Channel
	told   map[key]told
	next   time.Time // it is not told anything before
	failed int       // attempts since the last one that succeeded
}

// pending is what a channel does not know yet: what fires and was not told or was told long
// ago, and what was told and fires no more.
func (c *channel) pending(firing []Alert, repeat time.Duration, now time.Time) (news, resolved []Alert) {
	for _, a := range firing {
		t, ok := c.told[a.key()]
		graver := a.Severity == Critical && t.Severity == Warning
		if !ok || graver || now.Sub(t.At) >= repeat || t.At.After(now) {
			news = append(news, a)
		}
	}
	for k, t := range c.told {
		if !slices.ContainsFunc(firing, func(a Alert) bool { return a.key() == k }) {
			resolved = append(resolved, t.Alert)
		}
	}
	slices.SortFunc(resolved, compare)
	return news, resolved
}

// note notes that a channel was told.
func (c *channel) note(m Message) {
	if c.told == nil {
		c.told = make(map[key]told)
	}
	for _, a := range m.Firing {
		c.told[a.key()] = told{a, m.At}
	}
	for _, a := range m.Resolved {
		delete(c.told, a.key())
	}
}

// tell tells each channel what it does not know, and keeps what was told.
func (m *Manager) tell(ctx context.Context, now time.Time) {
	firing := m.tracker.firing()
	var wg sync.WaitGroup
	told := make([]bool, len(m.channels))
	for i, c := range m.channels {
		if now.Before(c.next) && c.next.Sub(now) <= longestGap {
			continue
		}
		news, resolved := c.pending(firing, m.cfg.Repeat, now)
		if len(news)+len(resolved) == 0 {
			continue
		}
		msg := Message{Node: m.cfg.Node, At: now, Firing: news, Resolved: resolved, Open: len(firing)}
		wg.Go(func() { told[i] = m.send(ctx, c, msg) })
	}
	wg.Wait()
	if slices.Contains(told, true) {
		m.keep()
	}
}

// send tells one channel. If it fails, the channel is left alone for a while that grows.
func (m *Manager) send(ctx context.Context, c *channel, msg Message) bool {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := c.Send(ctx, msg); err != nil {
		c.failed++
		c.next = msg.At.Add(min(gap<<min(c.failed-1, 8), longestGap))
		m.cfg.Log.Warn("an alert could not be sent; trying again", "channel", c.Name, "at", c.next, "error", err)
		return false
	}
	c.failed, c.next = 0, msg.At.Add(gap)
	c.note(msg)
	m.cfg.Log.Info("alerts were sent", "channel", c.Name, "firing", len(msg.Firing), "resolved", len(msg.Resolved))
	return true
}

// maxFile bounds the file.
const maxFile = 4 << 20

// storedTold is the form of the file: what each channel was told.
type storedTold map[string][]told

func (m *Manager) keep() {
	stored := make(storedTold)
	for _, c := range m.channels {
		for _, t := range c.told {
			stored[c.key()] = append(stored[c.key()], t)
		}
		slices.SortFunc(stored[c.key()], func(a, b told) int { return compare(a.Alert, b.Alert) })
	}
	data, err := json.MarshalIndent(stored, "", "\t")
	if err == nil {
		err = durable.WriteFile(m.cfg.FS, m.cfg.File, append(data, '\n'), 0o600)
	}
	if err != nil {
		m.cfg.Log.Warn("it is not kept which alerts were sent; after a restart they are sent again", "error", err)
	}
}

func readTold(fs durable.FS, file string, log *slog.Logger) (map[string]map[key]told, error) {
	data, err := durable.ReadFile(fs, file, maxFile)
	if durable.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var stored storedTold
	if err := json.Unmarshal(data, &stored); err != nil {
		log.Warn("the file of sent alerts cannot be used; alerts are sent again", "file", file, "error", err)
		return nil, nil
	}
	list := make(map[string]map[key]told)
	for name, alerts := range stored {
		list[name] = make(map[key]told)
		for _, t := range alerts[:min(len(alerts), maxTracked)] {
			list[name][t.key()] = t
		}
	}
	return list, nil
}
