package send

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
)

// run puts messages into the spool, a batch with each sync, and hands them to the client in
// their order, first those that the spool held at the start. Messages for which the broker had
// no room go again before all others. Confirms come meanwhile, so that a sync costs no time as
// long as the client's window is not empty.
func (s *Sender) run(left []SpoolEntry) {
	err := s.replay(left)
	for err == nil {
		var batch []*sending
		if batch, err = s.take(); err == nil {
			err = s.publish(batch)
		}
	}
	if s.life.Err() == nil {
		s.fail(err)
	}
}

// replay publishes what the spool held at the start.
func (s *Sender) replay(left []SpoolEntry) error {
	for i := range left {
		e, err := s.cfg.Spool.Read(left[i].Seq)
		switch {
		case errors.Is(err, ErrNotInSpool):
			s.finish(&sending{SpoolEntry: left[i]}, err)
			continue
		case err == nil:
			s.mu.Lock()
			s.stats.Replayed++
			s.mu.Unlock()
			err = s.publish([]*sending{{SpoolEntry: e, replayed: true}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take waits for messages and makes them durable. It returns none if others have to be
// published again.
func (s *Sender) take() ([]*sending, error) {
	s.mu.Lock()
	for len(s.queue) == 0 && len(s.again) == 0 {
		if s.cfg.Spool != nil && s.cfg.Spool.Len() == 0 {
			s.mu.Unlock()
			err := s.cfg.Spool.Tidy()
			s.mu.Lock()
			if err != nil || len(s.queue)+len(s.again) > 0 {
				s.mu.Unlock()
				return nil, err
			}
		}
		if err := s.changed.Wait(s.life, &s.mu); err != nil {
			s.mu.Unlock()
			return nil, err
		}
	}
	n := min(len(s.queue), maxBatch)
	batch := slices.Clone(s.queue[:n])
	s.queue = slices.Delete(s.queue, 0, n)
	for _, x := range batch {
		s.queueBytes -= len(x.Body)
	}
	s.changed.Notify()
	s.mu.Unlock()
	err := s.append(batch)
	if err != nil {
		s.fail(err, batch...)
	}
	return batch, err
}

// append makes a batch durable.
func (s *Sender) append(batch []*sending) error {
	if s.cfg.Spool == nil || len(batch) == 0 {
		return nil
	}
	list := make([]SpoolEntry, len(batch))
	for i, x := range batch {
		list[i] = x.SpoolEntry
	}
	if err := s.cfg.Spool.Append(s.life, list); err != nil {
		return err
	}
	for i, x := range batch {
		x.SpoolEntry = list[i]
	}
	return nil
}

// publish hands messages to the client in their order.
func (s *Sender) publish(batch []*sending) error {
	for i, x := range batch {
		err := s.publishAgain()
		if err == nil {
			err = s.publishOne(x)
		}
		if err != nil {
			s.fail(err, batch[i:]...)
			return err
		}
	}
	return s.publishAgain()
}

func (s *Sender) publishOne(x *sending) error {
	var o client.PublishOptions
	if s.cfg.Spool != nil {
		since, err := s.cfg.Spool.since(x.Seq, s.cfg.Now())
		if err != nil { // dropped
			s.finish(x, err)
			return nil
		}
		o.ResendFor = s.cfg.Spool.cfg.Horizon
		// A message that only this process can have published, and that was refused or not
		// published yet, the broker does not have, however old the message is.
		if x.replayed {
			o.Since = since
		}
	}
	s.mu.Lock()
	s.stats.Unknown++
	s.mu.Unlock()
	err := s.c.PublishWith(s.life, x.Message, o, func(err error) { s.answered(x, err) })
	if err != nil {
		s.mu.Lock()
		s.stats.Unknown-- // it was not taken
		s.mu.Unlock()
	}
	return s.tooOld(x, err)
}

// tooOld adds to an ErrResendTooOld which messages of the spool are too old.
func (s *Sender) tooOld(x *sending, err error) error {
	if s.cfg.Spool == nil || !errors.Is(err, client.ErrResendTooOld) {
		return err
	}
	s.cfg.Spool.learn(s.c)
	old := s.cfg.Spool.CheckAge()
	if old == nil { // the clock was set back since
		old = &SpoolTooOldError{Entries: []SpoolEntry{{Message: sealmq.Message{ID: x.ID}, Seq: x.Seq, Time: x.Time}}, Horizon: s.cfg.Spool.Horizon()}
	}
	return fmt.Errorf("%w: %w", err, old)
}

// answered runs on the client's goroutine.
func (s *Sender) answered(x *sending, err error) {
	lost := errors.Is(err, client.ErrClosed) || errors.Is(err, client.ErrResendTooOld)
	err = s.tooOld(x, err)
	if err == nil && s.cfg.Spool != nil {
		s.cfg.Spool.Settle(x.Seq)
	}
	s.mu.Lock()
	if !lost {
		s.stats.Unknown--
	}
	later := false
	switch {
	case err == nil:
		s.stats.Confirmed++
	case client.Retryable(err) && s.failed == nil:
		s.again, s.reason, later = append(s.again, x), err, true
	case !lost:
		s.stats.Refused++
		err = &RefusedError{x.ID, err}
	}
	s.changed.Notify()
	s.mu.Unlock()
	if later {
		return
	}
	if err != nil && (errors.Is(err, client.ErrClosed) || s.cfg.Spool != nil) {
		x.tell(err) // before others get it as the reason why the Sender stopped
		s.fail(err)
	}
	s.finish(x, err)
}

// publishAgain publishes messages for which the broker had no room, after a pause that grows
// while it still has none. New messages wait meanwhile: they would be refused too.
func (s *Sender) publishAgain() error {
	pause := s.cfg.RetryMin
	since, confirmed := s.cfg.Now(), s.Stats().Confirmed
	for {
		s.mu.Lock()
		again, reason := s.again, s.reason
		s.again = nil
		n := s.stats.Confirmed
		s.mu.Unlock()
		if len(again) == 0 {
			return nil
		}
		if n != confirmed {
			since, confirmed = s.cfg.Now(), n
		}
		if err := s.pause(pause, since, reason); err != nil {
			s.fail(err, again...)
			return err
		}
		pause = min(2*pause, s.cfg.RetryMax)
		slices.SortFunc(again, func(a, b *sending) int { return cmp.Compare(a.Seq, b.Seq) })
		for i, x := range again {
			s.countRetry(x)
			if err := s.publishOne(x); err != nil {
				s.fail(err, again[i:]...)
				return err
			}
		}
		if err := s.c.Flush(s.life); err != nil {
			return err
		}
	}
}

func (s *Sender) countRetry(x *sending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Retried++
	if !x.again {
		x.again = true
		s.stats.Waited++
	}
}

// tellAfter is how long the broker takes nothing before Waiting is called.
const tellAfter = time.Second

// pause sleeps, calls Waiting in between if it is time, and fails when GiveUp is over.
func (s *Sender) pause(d time.Duration, since time.Time, reason error) error {
	lasted := func() time.Duration { return s.cfg.Now().Sub(since) }
	end := lasted() + d
	if s.cfg.GiveUp > 0 && end > s.cfg.GiveUp {
		end = s.cfg.GiveUp
	}
	if !s.told[reason.Error()] && end >= tellAfter {
		if err := clock.Sleep(s.life, clock.System, max(0, tellAfter-lasted())); err != nil {
			return err
		}
		s.told[reason.Error()] = true
		s.cfg.Waiting(reason)
	}
	if err := clock.Sleep(s.life, clock.System, max(0, end-lasted())); err != nil {
		return err
	}
	if s.cfg.GiveUp > 0 && lasted() >= s.cfg.GiveUp {
		return fmt.Errorf("the broker took nothing for %v: %w", s.cfg.GiveUp, reason)
	}
	return nil
}
