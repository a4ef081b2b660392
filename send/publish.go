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

// stage puts messages into the spool, first those that it held at the start, and passes them
// on to publish.
func (s *Sender) stage(left []SpoolEntry) {
	defer close(s.ready)
	if !s.replay(left) {
		return
	}
	for order := uint64(1); ; {
		batch := s.take()
		if batch == nil {
			return
		}
		if err := s.append(batch); err != nil {
			s.fail(err, batch...)
			return
		}
		if s.cfg.Spool == nil { // else they have a number already
			for _, x := range batch {
				x.Seq = order
				order++
			}
		}
		if !s.pass(batch) {
			return
		}
	}
}

// pass passes a batch on to publish.
func (s *Sender) pass(batch []*sending) bool {
	select {
	case s.ready <- batch:
		return true
	case <-s.life.Done():
		s.drop(batch)
		return false
	}
}

// replay passes on what the spool held at the start.
func (s *Sender) replay(left []SpoolEntry) bool {
	for page := range slices.Chunk(left, 64) {
		batch := make([]*sending, 0, len(page))
		for i := range page {
			e, err := s.cfg.Spool.Read(page[i].Seq)
			if errors.Is(err, ErrNotInSpool) {
				s.finish(&sending{SpoolEntry: page[i]}, err)
				continue
			}
			if err != nil {
				s.fail(err)
				return false
			}
			batch = append(batch, &sending{SpoolEntry: e, replayed: true})
		}
		s.mu.Lock()
		s.stats.Replayed += uint64(len(batch))
		s.mu.Unlock()
		if !s.pass(batch) {
			return false
		}
	}
	return true
}

// take waits for messages; nil is the end.
func (s *Sender) take() []*sending {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 {
		if s.changed.Wait(s.life, &s.mu) != nil {
			return nil
		}
	}
	if s.failed != nil {
		return nil
	}
	n := min(len(s.queue), maxBatch)
	batch := slices.Clone(s.queue[:n])
	s.queue = slices.Delete(s.queue, 0, n)
	for _, x := range batch {
		s.queueBytes -= len(x.Body)
	}
	s.changed.Notify()
	return batch
}

// append makes a batch durable.
func (s *Sender) append(batch []*sending) error {
	if s.cfg.Spool == nil {
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

// publish hands messages to the client in their order. Messages for which the broker had no
// room go again before all others.
func (s *Sender) publish() {
	defer func() {
		for batch := range s.ready { // these are not published any more
			s.drop(batch)
		}
	}()
	for {
		select {
		case batch, ok := <-s.ready:
			if !ok {
				return
			}
			for i, x := range batch {
				err := s.publishAgain()
				if err == nil {
					err = s.publishOne(x)
				}
				if err != nil {
					s.fail(err, batch[i:]...)
					return
				}
			}
		case <-s.wake:
			err := s.publishAgain()
			if err == nil && s.cfg.Spool != nil && s.cfg.Spool.Len() == 0 {
				err = s.cfg.Spool.Tidy()
			}
			if err != nil {
				s.fail(err)
				return
			}
		case <-s.life.Done():
			return
		}
	}
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
	s.mu.Unlock()
	s.signal()
	if later {
		return
	}
	if err != nil && (errors.Is(err, client.ErrClosed) || s.cfg.Spool != nil) {
		x.tell(err) // before others get it as the reason why the Sender stopped
		s.fail(err)
	}
	s.finish(x, err)
}

func (s *Sender) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
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
