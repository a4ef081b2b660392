package send

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/framelog"
)

// The payloads of a spool's frames, integers big-endian. Each file begins with a header
// and has no other.
//
//	header:  1  type, 1              message:  1  type, 2        marks:  1  type, 3
//	         1  version, 1                     8  number                 4  ranges:
//	         8  number of the                  8  time, ms               8    from
//	            next message                  n+  id                     8    to
//	        n+  position                      n+  exchange
//	                                          n+  routing key
//	                                          n+  position
//	                                           *  body
//
// Marks without a range say that what is before them was synced, and the range from 0 to 0 that
// the spool was closed.
const (
	spoolHeader  = 1
	spoolMessage = 2
	spoolMarks   = 3
	spoolVersion = 1
)

// closedMark is the last thing that Close writes. No message has the number 0.
var closedMark = []span{{}}

var errSpoolFormat = errors.New("it is not what a spool holds there")

func appendSpoolHeader(b []byte, next uint64, position []byte) []byte {
	b = append(b, spoolHeader, spoolVersion)
	b = binary.BigEndian.AppendUint64(b, next)
	return framelog.AppendPrefixed(b, position)
}

// entrySize is the length of an entry's payload.
func entrySize(e *SpoolEntry) int {
	return 1 + 8 + 8 + 2*4 + len(e.ID) + len(e.Exchange) + len(e.Key) + len(e.Position) + len(e.Body)
}

func appendEntry(b []byte, e *SpoolEntry) []byte {
	b = append(b, spoolMessage)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMilli()))
	for _, s := range []string{e.ID, e.Exchange, e.Key} {
		b = framelog.AppendPrefixed(b, s)
	}
	b = framelog.AppendPrefixed(b, e.Position)
	return append(b, e.Body...)
}

func parseEntry(payload []byte) (SpoolEntry, error) {
	f := &framelog.Fields{Rest: payload}
	if f.Byte() != spoolMessage {
		return SpoolEntry{}, errSpoolFormat
	}
	e := SpoolEntry{Seq: f.Uint64(), Time: f.Time()}
	e.ID, e.Exchange, e.Key = string(f.Prefixed()), string(f.Prefixed()), string(f.Prefixed())
	e.Position, e.Body = f.Prefixed(), f.Rest
	if f.Bad || e.ID == "" || e.Seq == 0 {
		return SpoolEntry{}, errSpoolFormat
	}
	return e, nil
}

// checkEntry refuses what the format has no room for.
func checkEntry(e *SpoolEntry) error {
	err := cmp.Or(sealmq.CheckName("message id", e.ID), sealmq.CheckName("exchange", e.Exchange), sealmq.CheckName("routing key", e.Key))
	if err != nil {
		return err
	}
	switch {
	case len(e.Position) > MaxPositionBytes:
		return fmt.Errorf("a position of %d bytes is over the limit of %d", len(e.Position), MaxPositionBytes)
	case entrySize(e) > framelog.MaxPayloadBytes:
		return fmt.Errorf("message %s: %w", e.ID, sealmq.ErrTooLarge)
	}
	return nil
}

func appendMarks(b []byte, marks []span) []byte {
	b = append(b, spoolMarks)
	b = binary.BigEndian.AppendUint32(b, uint32(len(marks)))
	for _, m := range marks {
		b = binary.BigEndian.AppendUint64(b, m.from)
		b = binary.BigEndian.AppendUint64(b, m.to)
	}
	return b
}

// take reads one payload at a start and reports whether it is a header. offset is where
// the payload is in its file.
func (s *Spool) take(file *spoolFile, offset int64, payload []byte) (isHeader bool, err error) {
	f := &framelog.Fields{Rest: payload}
	s.found.Closed = false
	switch f.Byte() {
	case spoolHeader:
		return true, s.takeHeader(f)
	case spoolMessage:
		return false, s.takeEntry(file, offset, payload)
	case spoolMarks:
		return false, s.takeMarks(f)
	}
	return false, errSpoolFormat
}

func (s *Spool) takeHeader(f *framelog.Fields) error {
	if v := f.Byte(); v > spoolVersion {
		return framelog.ErrFuture
	}
	next, position := f.Uint64(), f.Prefixed()
	if f.Bad || len(f.Rest) > 0 || next < s.next {
		return errSpoolFormat
	}
	s.next, s.position = next, append([]byte(nil), position...)
	return nil
}

func (s *Spool) takeEntry(file *spoolFile, offset int64, payload []byte) error {
	e, err := parseEntry(payload)
	if err != nil {
		return err
	}
	if e.Seq < s.next {
		return fmt.Errorf("message number %d comes after number %d", e.Seq, s.next-1)
	}
	s.next = e.Seq + 1
	if len(e.Position) > 0 {
		s.position = append([]byte(nil), e.Position...)
	}
	s.pending = append(s.pending, &spooled{seq: e.Seq, id: e.ID, time: e.Time, file: file, offset: offset, size: len(payload)})
	s.unsettled++
	file.left++
	return nil
}

func (s *Spool) takeMarks(f *framelog.Fields) error {
	n := f.Uint32()
	if f.Bad || uint64(n)*16 != uint64(len(f.Rest)) {
		return errSpoolFormat
	}
	for range n {
		m := span{f.Uint64(), f.Uint64()}
		if m.from > m.to {
			return errSpoolFormat
		}
		s.found.Closed = m == closedMark[0] && n == 1
		for i, _ := s.find(m.from); i < len(s.pending) && s.pending[i].seq <= m.to; i++ {
			if !s.pending[i].settled {
				s.settle(s.pending[i])
			}
		}
	}
	return nil
}
