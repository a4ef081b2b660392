package local

import (
	"errors"

	"github.com/sealmq/sealmq/journal"
)

// Damaged bytes that wait to be kept aside. Nobody waits for them: a consumer must get
// what is intact also when the disk does not answer.
const (
	maxAsides     = 64
	maxAsideBytes = 16 << 20
)

// keepAside arranges for damaged bytes to be written to a file of their own. What finds
// no room is counted and given up.
func (e *Engine) keepAside(d *journal.Damage) {
	if n := e.asideBytes.Add(d.Bytes); n <= maxAsideBytes || n == d.Bytes {
		select {
		case e.asides <- d:
			return
		default:
		}
	}
	e.asideBytes.Add(-d.Bytes)
	e.giveUpAside(d, errors.New("too many wait for the disk"))
}

func (e *Engine) giveUpAside(d *journal.Damage, err error) {
	e.notKept.Add(1)
	e.log.Warn("damaged bytes are not kept aside", "file", d.File, "position", d.Pos, "bytes", d.Bytes, "err", err)
}

// runAside writes damaged bytes to files of their own.
func (e *Engine) runAside() {
	defer e.background.Done()
	for {
		select {
		case d := <-e.asides:
			e.saveAside(d)
		case <-e.stop:
			for len(e.asides) > 0 {
				e.saveAside(<-e.asides)
			}
			return
		}
	}
}

func (e *Engine) saveAside(d *journal.Damage) {
	defer e.asideBytes.Add(-d.Bytes)
	if err := e.j.SaveAside(d); err != nil {
		e.giveUpAside(d, err)
	}
}
