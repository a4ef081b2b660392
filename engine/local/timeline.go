package local

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
)

// The engine has a time of its own, in Unix milliseconds, for everything that must keep its age:
// arrivals, delays, ack timeouts, ids. While the engine is open it goes with the monotonic clock,
// so nothing happens early or late because the clock is set. From run to run it goes on: the file
// "clock" says what this time was when the clock showed which time, and is written at the start
// and whenever the clock is found to have been set: once a second, and at the end. A start adds what the clock says has passed
// since, and nothing if the clock shows less than before. So a clock that was wrong at one start
// neither ends what was stored then, nor prolongs it.
const timelineName = "clock"

// clockStep is by how much the clock must be set to be noticed.
const clockStep = time.Second

// moment is the content of the file "clock".
type moment struct {
	Engine int64  `json:"engine_ms"`
	Wall   int64  `json:"wall_ms"`
	CRC32C string `json:"crc32c"`
}

func (m moment) sum(storeID [16]byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(fmt.Appendf(nil, "%x %d %d", storeID, m.Engine, m.Wall), castagnoli))
}

// continueTime sets the engine's time to what it was, and what has passed since.
func (r *recovery) continueTime() {
	e := r.e
	b, err := e.files.read(timelineName)
	if durable.IsNotExist(err) {
		return // of an older version: the clock is all there is
	}
	var m moment
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil || m.sum(e.files.storeID) != m.CRC32C {
		e.log.Warn("the file does not say which time it was at the last start; the clock is believed", "file", e.files.path(timelineName), "err", err)
		return
	}
	wall := e.opened.UnixMilli()
	if wall < m.Wall {
		e.log.Warn("the clock shows less than when the store was last opened; what waits keeps its age", "behind", time.Duration(m.Wall-wall)*time.Millisecond)
	}
	e.began = m.Engine + max(wall-m.Wall, 0)
}

// saveTime writes the file. Only Open and the reclaimer call it.
func (e *Engine) saveTime() {
	m := moment{Engine: e.nowMillis(), Wall: e.cfg.Clock.Now().UnixMilli()}
	m.CRC32C = m.sum(e.files.storeID)
	b, err := json.Marshal(m)
	if err == nil {
		err = e.files.write(timelineName, append(b, '\n'))
	}
	if err != nil {
		e.log.Warn("the time is not written down; if the clock is wrong now, what waits may end too early after the next start", "err", err)
		return
	}
	e.ahead.Store(m.Wall - m.Engine)
}

// clockAhead is by how much the clock is ahead of the engine's time, in milliseconds.
func (e *Engine) clockAhead() int64 { return e.cfg.Clock.Now().UnixMilli() - e.nowMillis() }

// saveTimeIfSet writes the file when the clock was set.
func (e *Engine) saveTimeIfSet() {
	if _, set := e.noticeStep(); set {
		e.saveTime()
	}
}

// noticeStep reports whether the clock was set since the time was last written down.
func (e *Engine) noticeStep() (by time.Duration, set bool) {
	by = time.Duration(e.clockAhead()-e.ahead.Load()) * time.Millisecond
	return by, by > clockStep || by < -clockStep
}

// monotonic returns a function that tells what has passed since now, whatever the clock shows.
func monotonic(c clock.Clock) func() time.Duration {
	if m, ok := c.(interface{ Elapsed() time.Duration }); ok {
		start := m.Elapsed()
		return func() time.Duration { return m.Elapsed() - start }
	}
	start := c.Now()
	return func() time.Duration { return c.Now().Sub(start) }
}
